package packet

import "bytes"

// packetCase is one packet as bytes beside what it means, or the fault that is found in it. Decode, encode, framing and the
// seeds of the fuzz targets all walk the table.
type packetCase struct {
	name    string
	version Version
	raw     []byte
	want    Packet // nil if the packet is bad
	err     error  // what Decode or ParseHeader must return
	loose   bool   // right, but not as Append writes it
}

// bin strings bytes together: an int is one byte, a []byte is itself, a string stands with its two byte length.
func bin(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		case string:
			b = append(b, byte(len(p)>>8), byte(len(p)))
			b = append(b, p...)
		}
	}
	return b
}

// frame is bin with a first byte and the remaining length before it.
func frame(first int, parts ...any) []byte {
	body := bin(parts...)
	return append(appendVarint([]byte{byte(first)}, len(body)), body...)
}

// block is bin with its length as a variable byte integer before it: a property block.
func block(parts ...any) []byte {
	b := bin(parts...)
	return append(appendVarint(nil, len(b)), b...)
}

// plain stands for bytes without a length.
func plain(s string) []byte { return []byte(s) }

var cases = concat(connectCases, connackCases, publishCases, ackCases, subscribeCases, otherCases)

func concat(tables ...[]packetCase) (all []packetCase) {
	for _, t := range tables {
		all = append(all, t...)
	}
	return all
}

var connectCases = []packetCase{
	{"connect 3.1.1", V311, []byte{0x10, 0x0F, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 3, 'z', 'e', 'n'},
		&Connect{Version: V311, CleanStart: true, KeepAlive: 60, ClientID: "zen", ReceiveMaximum: 65535}, nil, false},
	{"connect 3.1", V31, frame(0x10, "MQIsdp", 3, 0, 0, 10, "zen"),
		&Connect{Version: V31, KeepAlive: 10, ClientID: "zen", ReceiveMaximum: 65535}, nil, false},
	{"connect 5.0", V5, frame(0x10, "MQTT", 5, 0, 0, 10, 0, "zen"),
		&Connect{Version: V5, KeepAlive: 10, ClientID: "zen", ReceiveMaximum: 65535}, nil, false},
	{"connect empty client id", V311, frame(0x10, "MQTT", 4, 2, 0, 0, ""),
		&Connect{Version: V311, CleanStart: true, ReceiveMaximum: 65535}, nil, false},
	{"connect with everything 3.1.1", V311, frame(0x10, "MQTT", 4, 0xF6, 1, 0, "zen", "will/t", "gone", "user", "pass"),
		&Connect{Version: V311, CleanStart: true, KeepAlive: 256, ClientID: "zen", ReceiveMaximum: 65535,
			Will:        &Will{Topic: "will/t", Payload: []byte("gone"), QoS: 2, Retain: true},
			HasUsername: true, Username: "user", HasPassword: true, Password: []byte("pass")}, nil, false},
	{"connect empty user name and password", V311, frame(0x10, "MQTT", 4, 0xC0, 0, 0, "z", "", ""),
		&Connect{Version: V311, ClientID: "z", ReceiveMaximum: 65535, HasUsername: true, HasPassword: true, Password: []byte{}}, nil, false},
	{"connect empty will message", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z", "w", ""),
		&Connect{Version: V311, ClientID: "z", ReceiveMaximum: 65535, Will: &Will{Topic: "w", Payload: []byte{}}}, nil, false},
	{"connect with everything 5.0", V5, frame(0x10, "MQTT", 5, 0xEE, 0, 30,
		block(0x11, 0, 0, 0, 120, 0x21, 0, 10, 0x27, 0, 1, 0, 0, 0x22, 0, 5, 0x19, 1, 0x17, 0, 0x26, "k", "v1", 0x26, "k", "v2",
			0x15, "SCRAM-SHA-256", 0x16, "n,,n=u"), "zen",
		block(0x18, 0, 0, 0, 9, 0x02, 0, 0, 0, 7, 0x01, 1, 0x03, "text", 0x08, "answer", 0x09, "id", 0x26, "a", "b"),
		"will/t", "gone", "user", "pass"),
		&Connect{Version: V5, CleanStart: true, KeepAlive: 30, ClientID: "zen", SessionExpiry: 120, ReceiveMaximum: 10,
			MaximumPacketSize: 65536, TopicAliasMaximum: 5, RequestResponse: true, NoProblemInfo: true,
			User: []UserProperty{{"k", "v1"}, {"k", "v2"}}, AuthMethod: "SCRAM-SHA-256", AuthData: []byte("n,,n=u"),
			Will: &Will{Topic: "will/t", Payload: []byte("gone"), QoS: 1, Retain: true, Delay: 9, HasExpiry: true, Expiry: 7,
				Properties: Properties(bin(0x01, 1, 0x03, "text", 0x08, "answer", 0x09, "id", 0x26, "a", "b"))},
			HasUsername: true, Username: "user", HasPassword: true, Password: []byte("pass")}, nil, false},
	{"connect will properties in any order", V5, frame(0x10, "MQTT", 5, 4, 0, 0, 0, "z",
		block(0x26, "a", "b", 0x18, 0, 0, 0, 1, 0x01, 0), "w", "m"),
		&Connect{Version: V5, ClientID: "z", ReceiveMaximum: 65535, Will: &Will{Topic: "w", Payload: []byte("m"), Delay: 1,
			Properties: Properties(bin(0x26, "a", "b", 0x01, 0))}}, nil, true},
	{"connect password alone 5.0", V5, frame(0x10, "MQTT", 5, 0x40, 0, 0, 0, "z", "pass"),
		&Connect{Version: V5, ClientID: "z", ReceiveMaximum: 65535, HasPassword: true, Password: []byte("pass")}, nil, false},
	{"connect defaults written out 5.0", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x11, 0, 0, 0, 0, 0x21, 255, 255, 0x19, 0, 0x17, 1), "z"),
		&Connect{Version: V5, ClientID: "z", ReceiveMaximum: 65535}, nil, true},
	{"connect 3.1 with flags but no fields", V31, frame(0x10, "MQIsdp", 3, 0xC2, 0, 10, "zen"),
		&Connect{Version: V31, CleanStart: true, KeepAlive: 10, ClientID: "zen", ReceiveMaximum: 65535}, nil, true},
	{"connect 3.1 with user name but no password", V31, frame(0x10, "MQIsdp", 3, 0xC2, 0, 10, "zen", "u"),
		&Connect{Version: V31, CleanStart: true, KeepAlive: 10, ClientID: "zen", ReceiveMaximum: 65535, HasUsername: true, Username: "u"}, nil, true},
	{"connect 3.1 ignores bits without meaning", V31, frame(0x10, "MQIsdp", 3, 0x29, 0, 10, "zen"),
		&Connect{Version: V31, KeepAlive: 10, ClientID: "zen", ReceiveMaximum: 65535}, nil, true},
	{"connect client id with U+FEFF", V311, frame(0x10, "MQTT", 4, 2, 0, 0, "\ufeffz"),
		&Connect{Version: V311, CleanStart: true, ClientID: "\ufeffz", ReceiveMaximum: 65535}, nil, false},

	{"connect flags", V311, frame(0x11, "MQTT", 4, 2, 0, 0, "z"), nil, errFlags, false},
	{"connect empty body", V311, frame(0x10), nil, errShort, false},
	{"connect name cut off", V311, frame(0x10, 0, 4, plain("MQ")), nil, errShort, false},
	{"connect no level", V311, frame(0x10, "MQTT"), nil, errShort, false},
	{"connect unknown name", V311, frame(0x10, "MQTX", 4, 2, 0, 0, "z"), nil, errProtocolName, false},
	{"connect name in lower case", V311, frame(0x10, "mqtt", 4, 2, 0, 0, "z"), nil, errProtocolName, false},
	{"connect level 6", V311, frame(0x10, "MQTT", 6, 2, 0, 0, "z"), nil, errProtocolLevel, false},
	{"connect level 0", V311, frame(0x10, "MQTT", 0, 2, 0, 0, "z"), nil, errProtocolLevel, false},
	{"connect level 3 under the new name", V311, frame(0x10, "MQTT", 3, 2, 0, 0, "z"), nil, errProtocolLevel, false},
	{"connect level 4 under the old name", V311, frame(0x10, "MQIsdp", 4, 2, 0, 0, "z"), nil, errProtocolLevel, false},
	{"connect no keep alive", V311, frame(0x10, "MQTT", 4, 2, 0), nil, errShort, false},
	{"connect reserved flag", V311, frame(0x10, "MQTT", 4, 3, 0, 0, "z"), nil, errConnectFlags, false},
	{"connect reserved flag 5.0", V5, frame(0x10, "MQTT", 5, 3, 0, 0, 0, "z"), nil, errConnectFlags, false},
	{"connect will QoS 3", V311, frame(0x10, "MQTT", 4, 0x1C, 0, 0, "z", "w", "m"), nil, errWillQoS, false},
	{"connect will QoS without will", V311, frame(0x10, "MQTT", 4, 0x08, 0, 0, "z"), nil, errWillFlags, false},
	{"connect will retain without will", V5, frame(0x10, "MQTT", 5, 0x20, 0, 0, 0, "z"), nil, errWillFlags, false},
	{"connect password alone", V311, frame(0x10, "MQTT", 4, 0x40, 0, 0, "z", "p"), nil, errPasswordAlone, false},
	{"connect password alone 3.1", V31, frame(0x10, "MQIsdp", 3, 0x40, 0, 0, "z", "p"), nil, errPasswordAlone, false},
	{"connect no client id", V311, frame(0x10, "MQTT", 4, 2, 0, 0), nil, errShort, false},
	{"connect client id not UTF-8", V311, frame(0x10, "MQTT", 4, 2, 0, 0, "\xc3\x28"), nil, errUTF8, false},
	{"connect client id with surrogate", V311, frame(0x10, "MQTT", 4, 2, 0, 0, "\xed\xa0\x80"), nil, errUTF8, false},
	{"connect client id with U+0000", V311, frame(0x10, "MQTT", 4, 2, 0, 0, "a\x00b"), nil, errUTF8, false},
	{"connect will topic missing", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z"), nil, errShort, false},
	{"connect will message missing", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z", "w"), nil, errShort, false},
	{"connect will topic empty", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z", "", "m"), nil, errTopicEmpty, false},
	{"connect will topic with wildcard", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z", "w/#", "m"), nil, errTopicWildcard, false},
	{"connect will topic not UTF-8", V311, frame(0x10, "MQTT", 4, 4, 0, 0, "z", "\xff", "m"), nil, errUTF8, false},
	{"connect user name missing", V311, frame(0x10, "MQTT", 4, 0x80, 0, 0, "z"), nil, errShort, false},
	{"connect user name not UTF-8", V311, frame(0x10, "MQTT", 4, 0x80, 0, 0, "z", "\xff"), nil, errUTF8, false},
	{"connect password missing", V311, frame(0x10, "MQTT", 4, 0xC0, 0, 0, "z", "u"), nil, errShort, false},
	{"connect user name without flag", V311, frame(0x10, "MQTT", 4, 0, 0, 0, "z", "u"), nil, errLeftover, false},
	{"connect leftover", V5, frame(0x10, "MQTT", 5, 0, 0, 0, 0, "z", 1), nil, errLeftover, false},
	{"connect no properties", V5, frame(0x10, "MQTT", 5, 0, 0, 0), nil, errShort, false},
	{"connect properties cut off", V5, frame(0x10, "MQTT", 5, 0, 0, 0, 200, 1), nil, errShort, false},
	{"connect property length of five bytes", V5, frame(0x10, "MQTT", 5, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 1), nil, errVarintLong, false},
	{"connect property length not shortest", V5, frame(0x10, "MQTT", 5, 0, 0, 0, 0x80, 0, "z"), nil, errVarintForm, false},
	{"connect property twice", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x21, 0, 1, 0x21, 0, 1), "z"), nil, errPropTwice, false},
	{"connect property not allowed", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x23, 0, 1), "z"), nil, errPropUnknown, false},
	{"connect property unknown", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x7F, 0), "z"), nil, errPropUnknown, false},
	{"connect property identifier of two bytes", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x91, 0), "z"), nil, errPropUnknown, false},
	{"connect property cut off", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x11, 0, 0, 0), "z"), nil, errShort, false},
	{"connect receive maximum 0", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x21, 0, 0), "z"), nil, errPropValue, false},
	{"connect maximum packet size 0", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x27, 0, 0, 0, 0), "z"), nil, errPropValue, false},
	{"connect request response 2", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x19, 2), "z"), nil, errPropValue, false},
	{"connect request problem 2", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x17, 2), "z"), nil, errPropValue, false},
	{"connect authentication data alone", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x16, "x"), "z"), nil, errAuthData, false},
	{"connect authentication method empty", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x15, ""), "z"), nil, errAuthMethod, false},
	{"connect user property not UTF-8", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x26, "k", "\xff"), "z"), nil, errUTF8, false},
	{"connect user property without value", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x26, "k"), "z"), nil, errShort, false},
	{"connect will delay in the wrong block", V5, frame(0x10, "MQTT", 5, 0, 0, 0, block(0x18, 0, 0, 0, 1), "z"), nil, errPropUnknown, false},
	{"connect session expiry in the will", V5, frame(0x10, "MQTT", 5, 4, 0, 0, 0, "z", block(0x11, 0, 0, 0, 1), "w", "m"), nil, errPropUnknown, false},
	{"connect will delay twice", V5, frame(0x10, "MQTT", 5, 4, 0, 0, 0, "z", block(0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1), "w", "m"), nil, errPropTwice, false},
	{"connect will response topic with wildcard", V5, frame(0x10, "MQTT", 5, 4, 0, 0, 0, "z", block(0x08, "a/+"), "w", "m"), nil, errResponseTopic, false},
}

var connackCases = []packetCase{
	{"connack accepted", V311, []byte{0x20, 2, 0, 0}, &Connack{ReceiveMaximum: 65535}, nil, false},
	{"connack session present", V311, []byte{0x20, 2, 1, 0}, &Connack{SessionPresent: true, ReceiveMaximum: 65535}, nil, false},
	{"connack refused", V311, []byte{0x20, 2, 0, 5}, &Connack{Code: NotAuthorized, ReceiveMaximum: 65535}, nil, false},
	{"connack bad version 3.1", V31, []byte{0x20, 2, 0, 1}, &Connack{Code: UnsupportedProtocolVersion, ReceiveMaximum: 65535}, nil, false},
	{"connack 3.1 first byte", V31, []byte{0x20, 2, 9, 0}, &Connack{ReceiveMaximum: 65535}, nil, true},
	{"connack 5.0", V5, []byte{0x20, 3, 0, 0, 0}, &Connack{ReceiveMaximum: 65535}, nil, false},
	{"connack refused 5.0", V5, frame(0x20, 0, 0x8A, block(0x1F, "no")), &Connack{Code: Banned, Reason: "no", ReceiveMaximum: 65535}, nil, false},
	{"connack with everything", V5, frame(0x20, 1, 0, block(0x11, 0, 0, 0, 0, 0x21, 0, 9, 0x24, 1, 0x25, 0, 0x27, 0, 0, 1, 0, 0x12, "id",
		0x22, 0, 7, 0x1F, "why", 0x26, "a", "b", 0x28, 0, 0x29, 0, 0x2A, 0, 0x13, 0, 60, 0x1A, "ri", 0x1C, "host", 0x15, "m", 0x16, "")),
		&Connack{SessionPresent: true, SessionExpiry: Some[uint32](0), ReceiveMaximum: 9, MaximumQoS: Some[QoS](1), RetainUnavailable: true,
			MaximumPacketSize: 256, AssignedClientID: "id", TopicAliasMaximum: 7, Reason: "why", User: []UserProperty{{"a", "b"}},
			WildcardUnavailable: true, SubIDsUnavailable: true, SharedSubsUnavailable: true, ServerKeepAlive: Some[uint16](60),
			ResponseInformation: "ri", ServerReference: "host", AuthMethod: "m", AuthData: []byte{}}, nil, false},
	{"connack everything available", V5, frame(0x20, 0, 0, block(0x25, 1, 0x28, 1, 0x29, 1, 0x2A, 1)), &Connack{ReceiveMaximum: 65535}, nil, true},

	{"connack flags", V311, []byte{0x21, 2, 0, 0}, nil, errFlags, false},
	{"connack short", V311, []byte{0x20, 1, 0}, nil, errShort, false},
	{"connack leftover", V311, []byte{0x20, 3, 0, 0, 0}, nil, errLeftover, false},
	{"connack reserved bits", V311, []byte{0x20, 2, 2, 0}, nil, errConnackFlags, false},
	{"connack return code 6", V311, []byte{0x20, 2, 0, 6}, nil, errCode, false},
	{"connack session present in a refusal", V311, []byte{0x20, 2, 1, 5}, nil, errSessionPresent, false},
	{"connack code of another packet", V5, []byte{0x20, 3, 0, 0x8E, 0}, nil, errCode, false},
	{"connack no properties", V5, []byte{0x20, 2, 0, 0}, nil, errShort, false},
	{"connack maximum QoS 2", V5, frame(0x20, 0, 0, block(0x24, 2)), nil, errPropValue, false},
	{"connack receive maximum 0", V5, frame(0x20, 0, 0, block(0x21, 0, 0)), nil, errPropValue, false},
	{"connack property twice", V5, frame(0x20, 0, 0, block(0x1F, "a", 0x1F, "b")), nil, errPropTwice, false},
	{"connack authentication data alone", V5, frame(0x20, 0, 0, block(0x16, "a")), nil, errAuthData, false},
	{"connack authentication method empty", V5, frame(0x20, 0, 0, block(0x15, "")), nil, errAuthMethod, false},
	{"connack leftover 5.0", V5, frame(0x20, 0, 0, 0, 1), nil, errLeftover, false},
}

var publishCases = []packetCase{
	{"publish QoS 0", V311, []byte{0x30, 7, 0, 3, 'a', '/', 'b', 'h', 'i'}, &Publish{Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish QoS 0 3.1", V31, frame(0x30, "a/b", plain("hi")), &Publish{Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish QoS 1", V311, frame(0x32, "a/b", 0, 7, plain("hi")), &Publish{QoS: 1, PacketID: 7, Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish QoS 2 again, retained", V311, frame(0x3D, "a/b", 1, 7, plain("hi")),
		&Publish{Dup: true, Retain: true, QoS: 2, PacketID: 263, Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish without payload", V311, frame(0x31, "a"), &Publish{Retain: true, Topic: plain("a"), Payload: []byte{}}, nil, false},
	{"publish long", V311, frame(0x30, "a/long/topic/name/äöü", bytes.Repeat([]byte{'x'}, 300)),
		&Publish{Topic: plain("a/long/topic/name/äöü"), Payload: bytes.Repeat([]byte{'x'}, 300)}, nil, false},
	{"publish DUP with QoS 0 3.1", V31, frame(0x38, "a/b", plain("hi")), &Publish{Dup: true, Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish topic with U+FEFF", V311, frame(0x30, "\ufeffa"), &Publish{Topic: plain("\ufeffa"), Payload: []byte{}}, nil, false},
	{"publish 5.0", V5, frame(0x30, "a/b", 0, plain("hi")), &Publish{Topic: plain("a/b"), Payload: plain("hi")}, nil, false},
	{"publish alias", V5, frame(0x30, "a/b", block(0x23, 0, 5), plain("hi")), &Publish{Topic: plain("a/b"), Payload: plain("hi"), TopicAlias: 5}, nil, false},
	{"publish alias alone", V5, frame(0x32, "", 0, 1, block(0x23, 1, 0), plain("hi")),
		&Publish{QoS: 1, PacketID: 1, Topic: []byte{}, Payload: plain("hi"), TopicAlias: 256}, nil, false},
	{"publish with everything", V5, frame(0x35, "a/b", 0, 7, block(0x02, 0, 0, 1, 0, 0x23, 0, 5, 0x0B, 1, 0x0B, 0x80, 1,
		0x01, 1, 0x03, "text", 0x08, "answer", 0x09, "id", 0x26, "k", "1", 0x26, "k", "2"), plain("hi")),
		&Publish{Retain: true, QoS: 2, PacketID: 7, Topic: plain("a/b"), Payload: plain("hi"), HasExpiry: true, Expiry: 256, TopicAlias: 5,
			SubscriptionIDs: []uint32{1, 128},
			Properties:      Properties(bin(0x01, 1, 0x03, "text", 0x08, "answer", 0x09, "id", 0x26, "k", "1", 0x26, "k", "2"))}, nil, false},
	{"publish properties in another order", V5, frame(0x30, "a/b", block(0x26, "k", "1", 0x23, 0, 5, 0x26, "k", "2", 0x01, 0, 0x02, 0, 0, 0, 0, 0x26, "", ""), plain("hi")),
		&Publish{Topic: plain("a/b"), Payload: plain("hi"), HasExpiry: true, TopicAlias: 5,
			Properties: Properties(bin(0x26, "k", "1", 0x26, "k", "2", 0x01, 0, 0x26, "", ""))}, nil, true},
	{"publish UTF-8 payload that is none", V5, frame(0x30, "a", block(0x01, 1), 0xFF),
		&Publish{Topic: plain("a"), Payload: []byte{0xFF}, Properties: Properties{1, 1}}, nil, false},

	{"publish QoS 3", V311, frame(0x36, "a/b", 0, 7), nil, errQoS3, false},
	{"publish DUP with QoS 0", V311, frame(0x38, "a/b"), nil, errDup, false},
	{"publish empty body", V311, frame(0x30), nil, errShort, false},
	{"publish topic cut off", V311, frame(0x30, 0, 4, plain("a/b")), nil, errShort, false},
	{"publish no packet id", V311, frame(0x32, "a/b", 0), nil, errShort, false},
	{"publish packet id 0", V311, frame(0x32, "a/b", 0, 0), nil, errPacketID, false},
	{"publish topic empty", V311, frame(0x30, "", plain("hi")), nil, errTopicEmpty, false},
	{"publish topic empty without alias", V5, frame(0x30, "", 0, plain("hi")), nil, errTopicMissing, false},
	{"publish topic with hash", V311, frame(0x30, "a/#"), nil, errTopicWildcard, false},
	{"publish topic with plus", V5, frame(0x30, "a/b/c/d/e/+/f/g", 0), nil, errTopicWildcard, false},
	{"publish topic with plus behind ä", V5, frame(0x30, "ä/+", 0), nil, errTopicWildcard, false},
	{"publish topic not UTF-8", V311, frame(0x30, "a\xff"), nil, errUTF8, false},
	{"publish topic not UTF-8 with wildcard", V311, frame(0x30, "#\xff"), nil, errUTF8, false},
	{"publish topic with surrogate", V311, frame(0x30, "abcdefgh\xed\xb0\x80"), nil, errUTF8, false},
	{"publish topic with U+0000", V311, frame(0x30, "abcdefgh/a\x00b"), nil, errUTF8, false},
	{"publish no properties", V5, frame(0x30, "a"), nil, errShort, false},
	{"publish properties longer than the packet", V5, frame(0x30, "a", 5, 1), nil, errShort, false},
	{"publish alias 0", V5, frame(0x30, "a", block(0x23, 0, 0)), nil, errAliasZero, false},
	{"publish alias twice", V5, frame(0x30, "a", block(0x23, 0, 1, 0x23, 0, 1)), nil, errPropTwice, false},
	{"publish expiry twice", V5, frame(0x30, "a", block(0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1)), nil, errPropTwice, false},
	{"publish content type twice", V5, frame(0x30, "a", block(0x03, "t", 0x03, "t")), nil, errPropTwice, false},
	{"publish payload format 2", V5, frame(0x30, "a", block(0x01, 2)), nil, errPropValue, false},
	{"publish subscription id 0", V5, frame(0x30, "a", block(0x0B, 0)), nil, errPropValue, false},
	{"publish subscription id too long", V5, frame(0x30, "a", block(0x0B, 0xFF, 0xFF, 0xFF, 0xFF, 1)), nil, errVarintLong, false},
	{"publish content type not UTF-8", V5, frame(0x30, "a", block(0x03, "\xff")), nil, errUTF8, false},
	{"publish response topic not UTF-8", V5, frame(0x30, "a", block(0x08, "\xff")), nil, errUTF8, false},
	{"publish response topic with wildcard", V5, frame(0x30, "a", block(0x08, "a/#")), nil, errResponseTopic, false},
	{"publish response topic empty", V5, frame(0x30, "a", block(0x08, "")), nil, errResponseTopic, false},
	{"publish session expiry", V5, frame(0x30, "a", block(0x11, 0, 0, 0, 1)), nil, errPropUnknown, false},
	{"publish property cut off by its block", V5, frame(0x30, "a", 2, 0x23, 0, 1), nil, errShort, false},
}

var ackCases = []packetCase{
	{"puback", V311, []byte{0x40, 2, 0, 7}, &Ack{Kind: TypePuback, PacketID: 7}, nil, false},
	{"pubrec", V31, []byte{0x50, 2, 1, 0}, &Ack{Kind: TypePubrec, PacketID: 256}, nil, false},
	{"pubrel", V311, []byte{0x62, 2, 0, 7}, &Ack{Kind: TypePubrel, PacketID: 7}, nil, false},
	{"pubrel again 3.1", V31, []byte{0x6A, 2, 0, 7}, &Ack{Kind: TypePubrel, PacketID: 7}, nil, true},
	{"pubcomp", V311, []byte{0x70, 2, 0, 7}, &Ack{Kind: TypePubcomp, PacketID: 7}, nil, false},
	{"puback 5.0 short", V5, []byte{0x40, 2, 0, 7}, &Ack{Kind: TypePuback, PacketID: 7}, nil, false},
	{"puback 5.0 success written out", V5, []byte{0x40, 3, 0, 7, 0}, &Ack{Kind: TypePuback, PacketID: 7}, nil, true},
	{"puback 5.0 with code", V5, []byte{0x40, 3, 0, 7, 0x10}, &Ack{Kind: TypePuback, PacketID: 7, Code: NoMatchingSubscribers}, nil, false},
	{"puback 5.0 empty properties", V5, []byte{0x40, 4, 0, 7, 0x10, 0}, &Ack{Kind: TypePuback, PacketID: 7, Code: NoMatchingSubscribers}, nil, true},
	{"pubrec 5.0 with everything", V5, frame(0x50, 0, 7, 0x97, block(0x1F, "full", 0x26, "a", "b", 0x26, "a", "c")),
		&Ack{Kind: TypePubrec, PacketID: 7, Code: QuotaExceeded, Reason: "full", User: []UserProperty{{"a", "b"}, {"a", "c"}}}, nil, false},
	{"pubrel 5.0 not found", V5, []byte{0x62, 3, 0, 7, 0x92}, &Ack{Kind: TypePubrel, PacketID: 7, Code: PacketIdentifierNotFound}, nil, false},
	{"pubcomp 5.0 with reason", V5, frame(0x70, 0, 7, 0, block(0x1F, "done")), &Ack{Kind: TypePubcomp, PacketID: 7, Reason: "done"}, nil, false},

	{"puback flags", V311, []byte{0x42, 2, 0, 7}, nil, errFlags, false},
	{"pubrel flags", V311, []byte{0x60, 2, 0, 7}, nil, errFlags, false},
	{"pubrel again 3.1.1", V311, []byte{0x6A, 2, 0, 7}, nil, errFlags, false},
	{"pubrel again 5.0", V5, []byte{0x6A, 2, 0, 7}, nil, errFlags, false},
	{"puback short", V311, []byte{0x40, 1, 7}, nil, errShort, false},
	{"puback id 0", V311, []byte{0x40, 2, 0, 0}, nil, errPacketID, false},
	{"puback leftover", V311, []byte{0x40, 3, 0, 7, 0}, nil, errLeftover, false},
	{"puback code of another packet", V5, []byte{0x40, 3, 0, 7, 0x92}, nil, errCode, false},
	{"pubrel code of another packet", V5, []byte{0x62, 3, 0, 7, 0x10}, nil, errCode, false},
	{"puback property not allowed", V5, frame(0x40, 0, 7, 0, block(0x02, 0, 0, 0, 1)), nil, errPropUnknown, false},
	{"puback reason twice", V5, frame(0x40, 0, 7, 0, block(0x1F, "a", 0x1F, "b")), nil, errPropTwice, false},
	{"puback leftover 5.0", V5, frame(0x40, 0, 7, 0, 0, 1), nil, errLeftover, false},
	{"puback properties cut off", V5, frame(0x40, 0, 7, 0, 3), nil, errShort, false},
}

var subscribeCases = []packetCase{
	{"subscribe", V311, []byte{0x82, 8, 0, 7, 0, 3, 'a', '/', '+', 1}, &Subscribe{PacketID: 7, Filters: []Subscription{{Filter: "a/+", QoS: 1}}}, nil, false},
	{"subscribe many", V311, frame(0x82, 0, 7, "a", 0, "b/#", 2), &Subscribe{PacketID: 7, Filters: []Subscription{{Filter: "a"}, {Filter: "b/#", QoS: 2}}}, nil, false},
	{"subscribe again 3.1", V31, frame(0x8A, 0, 7, "a", 1), &Subscribe{PacketID: 7, Filters: []Subscription{{Filter: "a", QoS: 1}}}, nil, true},
	{"subscribe 3.1 upper bits", V31, frame(0x82, 0, 7, "a", 0xFD), &Subscribe{PacketID: 7, Filters: []Subscription{{Filter: "a", QoS: 1}}}, nil, true},
	{"subscribe 5.0", V5, frame(0x82, 0, 7, 0, "a", 0x2D), &Subscribe{PacketID: 7,
		Filters: []Subscription{{Filter: "a", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: RetainSendNever}}}, nil, false},
	{"subscribe 5.0 with properties", V5, frame(0x82, 0, 7, block(0x0B, 0xFF, 0xFF, 0xFF, 0x7F, 0x26, "a", "b"), "$share/g/a", 0x12),
		&Subscribe{PacketID: 7, SubscriptionID: MaxSubscriptionID, User: []UserProperty{{"a", "b"}},
			Filters: []Subscription{{Filter: "$share/g/a", QoS: 2, RetainHandling: RetainSendIfNew}}}, nil, false},
	{"subscribe to an invalid filter", V311, frame(0x82, 0, 7, "a/#/b", 0), &Subscribe{PacketID: 7, Filters: []Subscription{{Filter: "a/#/b"}}}, nil, false},

	{"subscribe flags", V311, frame(0x80, 0, 7, "a", 0), nil, errFlags, false},
	{"subscribe again 3.1.1", V311, frame(0x8A, 0, 7, "a", 0), nil, errFlags, false},
	{"subscribe empty body", V311, frame(0x82), nil, errShort, false},
	{"subscribe id 0", V311, frame(0x82, 0, 0, "a", 0), nil, errPacketID, false},
	{"subscribe no filters", V311, frame(0x82, 0, 7), nil, errNoFilters, false},
	{"subscribe no filters 5.0", V5, frame(0x82, 0, 7, 0), nil, errNoFilters, false},
	{"subscribe no options", V311, frame(0x82, 0, 7, "a"), nil, errShort, false},
	{"subscribe filter cut off", V311, frame(0x82, 0, 7, "a", 0, 0, 5, plain("b")), nil, errShort, false},
	{"subscribe filter empty", V311, frame(0x82, 0, 7, "", 0), nil, errFilterEmpty, false},
	{"subscribe filter not UTF-8", V311, frame(0x82, 0, 7, "\xff", 0), nil, errUTF8, false},
	{"subscribe filter with U+0000", V311, frame(0x82, 0, 7, "\x00", 0), nil, errUTF8, false},
	{"subscribe QoS 3", V311, frame(0x82, 0, 7, "a", 3), nil, errQoS3, false},
	{"subscribe QoS 3 3.1", V31, frame(0x82, 0, 7, "a", 3), nil, errQoS3, false},
	{"subscribe QoS 3 5.0", V5, frame(0x82, 0, 7, 0, "a", 3), nil, errOptionsQoS, false},
	{"subscribe reserved bits", V311, frame(0x82, 0, 7, "a", 4), nil, errOptions, false},
	{"subscribe reserved bits 5.0", V5, frame(0x82, 0, 7, 0, "a", 0x40), nil, errOptions, false},
	{"subscribe retain handling 3", V5, frame(0x82, 0, 7, 0, "a", 0x30), nil, errRetainHandling, false},
	{"subscribe no local shared", V5, frame(0x82, 0, 7, 0, "$share/g/a", 4), nil, errNoLocalShared, false},
	{"subscribe subscription id 0", V5, frame(0x82, 0, 7, block(0x0B, 0), "a", 0), nil, errPropValue, false},
	{"subscribe subscription id twice", V5, frame(0x82, 0, 7, block(0x0B, 1, 0x0B, 1), "a", 0), nil, errPropTwice, false},
	{"subscribe property not allowed", V5, frame(0x82, 0, 7, block(0x1F, "a"), "a", 0), nil, errPropUnknown, false},

	{"suback", V311, []byte{0x90, 5, 0, 7, 0, 2, 0x80}, &Suback{PacketID: 7, Codes: []ReasonCode{0, 2, 0x80}}, nil, false},
	{"suback 5.0", V5, frame(0x90, 0, 7, 0, 1, 0x8F), &Suback{PacketID: 7, Codes: []ReasonCode{1, TopicFilterInvalid}}, nil, false},
	{"suback 5.0 with everything", V5, frame(0x90, 0, 7, block(0x1F, "r", 0x26, "a", "b"), 0),
		&Suback{PacketID: 7, Codes: []ReasonCode{0}, Reason: "r", User: []UserProperty{{"a", "b"}}}, nil, false},
	{"suback flags", V311, []byte{0x92, 3, 0, 7, 0}, nil, errFlags, false},
	{"suback id 0", V311, []byte{0x90, 3, 0, 0, 0}, nil, errPacketID, false},
	{"suback no codes", V311, []byte{0x90, 2, 0, 7}, nil, errNoCodes, false},
	{"suback code 3", V311, []byte{0x90, 3, 0, 7, 3}, nil, errCode, false},
	{"suback code of 5.0", V311, []byte{0x90, 3, 0, 7, 0x87}, nil, errCode, false},
	{"suback code of another packet", V5, []byte{0x90, 4, 0, 7, 0, 0x92}, nil, errCode, false},
	{"suback properties cut off", V5, []byte{0x90, 3, 0, 7, 9}, nil, errShort, false},

	{"unsubscribe", V311, frame(0xA2, 0, 7, "a/+", "b"), &Unsubscribe{PacketID: 7, Filters: []string{"a/+", "b"}}, nil, false},
	{"unsubscribe again 3.1", V31, frame(0xAA, 0, 7, "a"), &Unsubscribe{PacketID: 7, Filters: []string{"a"}}, nil, true},
	{"unsubscribe 5.0", V5, frame(0xA2, 0, 7, block(0x26, "a", "b"), "a"),
		&Unsubscribe{PacketID: 7, User: []UserProperty{{"a", "b"}}, Filters: []string{"a"}}, nil, false},
	{"unsubscribe flags", V311, frame(0xA0, 0, 7, "a"), nil, errFlags, false},
	{"unsubscribe id 0", V311, frame(0xA2, 0, 0, "a"), nil, errPacketID, false},
	{"unsubscribe no filters", V311, frame(0xA2, 0, 7), nil, errNoFilters, false},
	{"unsubscribe filter empty", V311, frame(0xA2, 0, 7, ""), nil, errFilterEmpty, false},
	{"unsubscribe filter cut off", V311, frame(0xA2, 0, 7, 0), nil, errShort, false},
	{"unsubscribe filter not UTF-8", V311, frame(0xA2, 0, 7, "\xff"), nil, errUTF8, false},
	{"unsubscribe property not allowed", V5, frame(0xA2, 0, 7, block(0x0B, 1), "a"), nil, errPropUnknown, false},
	{"unsubscribe no properties", V5, frame(0xA2, 0, 7), nil, errShort, false},

	{"unsuback", V311, []byte{0xB0, 2, 0, 7}, &Unsuback{PacketID: 7}, nil, false},
	{"unsuback 5.0", V5, frame(0xB0, 0, 7, 0, 0, 0x11), &Unsuback{PacketID: 7, Codes: []ReasonCode{0, NoSubscriptionExisted}}, nil, false},
	{"unsuback 5.0 with everything", V5, frame(0xB0, 0, 7, block(0x1F, "r", 0x26, "a", "b"), 0x87),
		&Unsuback{PacketID: 7, Codes: []ReasonCode{NotAuthorized}, Reason: "r", User: []UserProperty{{"a", "b"}}}, nil, false},
	{"unsuback flags", V311, []byte{0xB1, 2, 0, 7}, nil, errFlags, false},
	{"unsuback short", V311, []byte{0xB0, 1, 7}, nil, errShort, false},
	{"unsuback leftover", V311, []byte{0xB0, 3, 0, 7, 0}, nil, errLeftover, false},
	{"unsuback no codes", V5, []byte{0xB0, 3, 0, 7, 0}, nil, errNoCodes, false},
	{"unsuback code of another packet", V5, []byte{0xB0, 4, 0, 7, 0, 1}, nil, errCode, false},
	{"unsuback properties cut off", V5, []byte{0xB0, 3, 0, 7, 9}, nil, errShort, false},
}

var otherCases = []packetCase{
	{"pingreq", V311, []byte{0xC0, 0}, &Pingreq{}, nil, false},
	{"pingreq 5.0", V5, []byte{0xC0, 0}, &Pingreq{}, nil, false},
	{"pingreq flags", V311, []byte{0xC1, 0}, nil, errFlags, false},
	{"pingreq leftover", V311, []byte{0xC0, 1, 0}, nil, errLeftover, false},
	{"pingresp", V31, []byte{0xD0, 0}, &Pingresp{}, nil, false},
	{"pingresp flags", V311, []byte{0xD8, 0}, nil, errFlags, false},
	{"pingresp leftover", V311, []byte{0xD0, 1, 0}, nil, errLeftover, false},

	{"disconnect", V311, []byte{0xE0, 0}, &Disconnect{}, nil, false},
	{"disconnect 5.0", V5, []byte{0xE0, 0}, &Disconnect{}, nil, false},
	{"disconnect 5.0 normal written out", V5, []byte{0xE0, 2, 0, 0}, &Disconnect{}, nil, true},
	{"disconnect 5.0 with will", V5, []byte{0xE0, 1, 4}, &Disconnect{Code: DisconnectWithWill}, nil, false},
	{"disconnect 5.0 with everything", V5, frame(0xE0, 0x9D, block(0x11, 0, 0, 0, 0, 0x1F, "r", 0x26, "a", "b", 0x1C, "host")),
		&Disconnect{Code: ServerMoved, SessionExpiry: Some[uint32](0), Reason: "r", User: []UserProperty{{"a", "b"}}, ServerReference: "host"}, nil, false},
	{"disconnect flags", V311, []byte{0xE1, 0}, nil, errFlags, false},
	{"disconnect leftover", V311, []byte{0xE0, 1, 0}, nil, errLeftover, false},
	{"disconnect code of another packet", V5, []byte{0xE0, 1, 0x91}, nil, errCode, false},
	{"disconnect code unknown", V5, []byte{0xE0, 1, 0xA3}, nil, errCode, false},
	{"disconnect property not allowed", V5, frame(0xE0, 0, block(0x15, "m")), nil, errPropUnknown, false},
	{"disconnect session expiry twice", V5, frame(0xE0, 0, block(0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1)), nil, errPropTwice, false},
	{"disconnect leftover 5.0", V5, frame(0xE0, 0, 0, 0), nil, errLeftover, false},
	{"disconnect properties cut off", V5, frame(0xE0, 0, 5), nil, errShort, false},

	{"auth", V5, []byte{0xF0, 0}, &Auth{}, nil, false},
	{"auth continue", V5, frame(0xF0, 0x18, block(0x15, "m", 0x16, "data")), &Auth{Code: ContinueAuthentication, Method: "m", Data: plain("data")}, nil, false},
	{"auth with everything", V5, frame(0xF0, 0x19, block(0x15, "m", 0x16, "", 0x1F, "r", 0x26, "a", "b")),
		&Auth{Code: ReAuthenticate, Method: "m", Data: []byte{}, Reason: "r", User: []UserProperty{{"a", "b"}}}, nil, false},
	{"auth 3.1.1", V311, []byte{0xF0, 0}, nil, errType, false},
	{"auth flags", V5, []byte{0xF1, 0}, nil, errFlags, false},
	{"auth code", V5, frame(0xF0, 0x80, block(0x15, "m")), nil, errCode, false},
	{"auth no property length", V5, frame(0xF0, 0x18), nil, errShort, false},
	{"auth no method", V5, frame(0xF0, 0x18, 0), nil, errNoMethod, false},
	{"auth data without method", V5, frame(0xF0, 0, block(0x16, "data")), nil, errNoMethod, false},
	{"auth method empty", V5, frame(0xF0, 0x18, block(0x15, "")), nil, errNoMethod, false},
	{"auth property not allowed", V5, frame(0xF0, 0x18, block(0x15, "m", 0x11, 0, 0, 0, 0)), nil, errPropUnknown, false},
	{"auth leftover", V5, frame(0xF0, 0x18, block(0x15, "m"), 0), nil, errLeftover, false},

	{"reserved type", V311, []byte{0x00, 0}, nil, errType, false},
	{"remaining length not shortest 5.0", V5, []byte{0xC0, 0x80, 0}, nil, errVarintForm, false},
	{"remaining length not shortest 3.1.1", V311, []byte{0xC0, 0x80, 0}, &Pingreq{}, nil, true},
	{"remaining length of five bytes", V311, []byte{0x30, 0x80, 0x80, 0x80, 0x80, 1}, nil, errVarintLong, false},
}
