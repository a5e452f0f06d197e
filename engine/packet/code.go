package packet

import (
	"errors"
	"fmt"
)

// ReasonCode is a reason code of MQTT 5.0. Codes from 0x80 up are failures. A ReasonCode is an error, so that the code that
// refuses is the code that is sent.
type ReasonCode byte

// The reason codes of MQTT 5.0. 0x00 has three names, by the packet it is in.
const (
	Success                     ReasonCode = 0x00
	NormalDisconnection         ReasonCode = 0x00
	GrantedQoS0                 ReasonCode = 0x00
	GrantedQoS1                 ReasonCode = 0x01
	GrantedQoS2                 ReasonCode = 0x02
	DisconnectWithWill          ReasonCode = 0x04
	NoMatchingSubscribers       ReasonCode = 0x10
	NoSubscriptionExisted       ReasonCode = 0x11
	ContinueAuthentication      ReasonCode = 0x18
	ReAuthenticate              ReasonCode = 0x19
	UnspecifiedError            ReasonCode = 0x80
	MalformedPacket             ReasonCode = 0x81
	ProtocolError               ReasonCode = 0x82
	ImplementationSpecificError ReasonCode = 0x83
	UnsupportedProtocolVersion  ReasonCode = 0x84
	ClientIdentifierNotValid    ReasonCode = 0x85
	BadUserNameOrPassword       ReasonCode = 0x86
	NotAuthorized               ReasonCode = 0x87
	ServerUnavailable           ReasonCode = 0x88
	ServerBusy                  ReasonCode = 0x89
	Banned                      ReasonCode = 0x8A
	ServerShuttingDown          ReasonCode = 0x8B
	BadAuthenticationMethod     ReasonCode = 0x8C
	KeepAliveTimeout            ReasonCode = 0x8D
	SessionTakenOver            ReasonCode = 0x8E
	TopicFilterInvalid          ReasonCode = 0x8F
	TopicNameInvalid            ReasonCode = 0x90
	PacketIdentifierInUse       ReasonCode = 0x91
	PacketIdentifierNotFound    ReasonCode = 0x92
	ReceiveMaximumExceeded      ReasonCode = 0x93
	TopicAliasInvalid           ReasonCode = 0x94
	PacketTooLarge              ReasonCode = 0x95
	MessageRateTooHigh          ReasonCode = 0x96
	QuotaExceeded               ReasonCode = 0x97
	AdministrativeAction        ReasonCode = 0x98
	PayloadFormatInvalid        ReasonCode = 0x99
	RetainNotSupported          ReasonCode = 0x9A
	QoSNotSupported             ReasonCode = 0x9B
	UseAnotherServer            ReasonCode = 0x9C
	ServerMoved                 ReasonCode = 0x9D
	SharedSubsNotSupported      ReasonCode = 0x9E
	ConnectionRateExceeded      ReasonCode = 0x9F
	MaximumConnectTime          ReasonCode = 0xA0
	SubscriptionIDsNotSupported ReasonCode = 0xA1
	WildcardSubsNotSupported    ReasonCode = 0xA2
)

var codeNames = [256]string{
	Success:                     "success",
	GrantedQoS1:                 "granted QoS 1",
	GrantedQoS2:                 "granted QoS 2",
	DisconnectWithWill:          "disconnect with will message",
	NoMatchingSubscribers:       "no matching subscribers",
	NoSubscriptionExisted:       "no subscription existed",
	ContinueAuthentication:      "continue authentication",
	ReAuthenticate:              "re-authenticate",
	UnspecifiedError:            "unspecified error",
	MalformedPacket:             "malformed packet",
	ProtocolError:               "protocol error",
	ImplementationSpecificError: "implementation specific error",
	UnsupportedProtocolVersion:  "unsupported protocol version",
	ClientIdentifierNotValid:    "client identifier not valid",
	BadUserNameOrPassword:       "bad user name or password",
	NotAuthorized:               "not authorized",
	ServerUnavailable:           "server unavailable",
	ServerBusy:                  "server busy",
	Banned:                      "banned",
	ServerShuttingDown:          "server shutting down",
	BadAuthenticationMethod:     "bad authentication method",
	KeepAliveTimeout:            "keep alive timeout",
	SessionTakenOver:            "session taken over",
	TopicFilterInvalid:          "topic filter invalid",
	TopicNameInvalid:            "topic name invalid",
	PacketIdentifierInUse:       "packet identifier in use",
	PacketIdentifierNotFound:    "packet identifier not found",
	ReceiveMaximumExceeded:      "receive maximum exceeded",
	TopicAliasInvalid:           "topic alias invalid",
	PacketTooLarge:              "packet too large",
	MessageRateTooHigh:          "message rate too high",
	QuotaExceeded:               "quota exceeded",
	AdministrativeAction:        "administrative action",
	PayloadFormatInvalid:        "payload format invalid",
	RetainNotSupported:          "retain not supported",
	QoSNotSupported:             "QoS not supported",
	UseAnotherServer:            "use another server",
	ServerMoved:                 "server moved",
	SharedSubsNotSupported:      "shared subscriptions not supported",
	ConnectionRateExceeded:      "connection rate exceeded",
	MaximumConnectTime:          "maximum connect time",
	SubscriptionIDsNotSupported: "subscription identifiers not supported",
	WildcardSubsNotSupported:    "wildcard subscriptions not supported",
}

// String gives the name of the code in lower case, or its number if the specification has none.
func (c ReasonCode) String() string {
	if s := codeNames[c]; s != "" {
		return s
	}
	return fmt.Sprintf("reason code 0x%02X", byte(c))
}

// Error is String. A code below 0x80 must not be returned as an error.
func (c ReasonCode) Error() string { return c.String() }

// Failed reports whether c means a failure: 0x80 and above.
func (c ReasonCode) Failed() bool { return c >= 0x80 }

// ReturnCode translates c to a return code of CONNACK in MQTT 3.1 and 3.1.1. Where none fits, ok is false and the
// connection is closed without a CONNACK [MQTT-3.2.2-6].
func (c ReasonCode) ReturnCode() (code byte, ok bool) {
	switch c {
	case Success:
		return 0, true
	case UnsupportedProtocolVersion:
		return 1, true
	case ClientIdentifierNotValid:
		return 2, true
	case ServerUnavailable, ServerBusy, ServerShuttingDown, QuotaExceeded, UseAnotherServer, ServerMoved, ConnectionRateExceeded:
		return 3, true
	case BadUserNameOrPassword:
		return 4, true
	case NotAuthorized, Banned, BadAuthenticationMethod:
		return 5, true
	}
	return 0, false
}

// FromReturnCode is the inverse of ReturnCode: the reason code that a return code of a 3.x CONNACK stands for.
// Unknown codes give UnspecifiedError.
func FromReturnCode(code byte) ReasonCode {
	switch code {
	case 0:
		return Success
	case 1:
		return UnsupportedProtocolVersion
	case 2:
		return ClientIdentifierNotValid
	case 3:
		return ServerUnavailable
	case 4:
		return BadUserNameOrPassword
	case 5:
		return NotAuthorized
	}
	return UnspecifiedError
}

// Error is what Decode and ParseHeader return: a ReasonCode and what exactly was wrong. errors.Is(err, MalformedPacket) holds
// for an Error with that code.
type Error struct {
	Code   ReasonCode
	Detail string // lower case, no values from the packet
}

// Error gives the name of the code and the detail.
func (e *Error) Error() string { return e.Code.String() + ": " + e.Detail }

// Unwrap gives the code.
func (e *Error) Unwrap() error { return e.Code }

// CodeOf gives the reason code in err: Success for nil, UnspecifiedError where there is none.
func CodeOf(err error) ReasonCode {
	switch e := err.(type) {
	case nil:
		return Success
	case *Error:
		return e.Code
	case ReasonCode:
		return e
	}
	var c ReasonCode
	if errors.As(err, &c) {
		return c
	}
	return UnspecifiedError
}

// The faults that the codec finds. They are made once, so that a bad packet costs no allocation either.
var (
	errType           = &Error{MalformedPacket, "reserved packet type"}
	errFlags          = &Error{MalformedPacket, "wrong fixed header flags"}
	errQoS3           = &Error{MalformedPacket, "QoS 3"}
	errVarintLong     = &Error{MalformedPacket, "variable byte integer longer than four bytes"}
	errVarintForm     = &Error{MalformedPacket, "variable byte integer not in its shortest form"}
	errShort          = &Error{MalformedPacket, "packet ends within a field"}
	errLeftover       = &Error{MalformedPacket, "bytes after the last field"}
	errUTF8           = &Error{MalformedPacket, "string is not UTF-8 or has U+0000"}
	errPropUnknown    = &Error{MalformedPacket, "property not allowed here"}
	errPropTwice      = &Error{ProtocolError, "property given twice"}
	errPropValue      = &Error{ProtocolError, "property value not allowed"}
	errAliasZero      = &Error{TopicAliasInvalid, "topic alias 0"}
	errResponseTopic  = &Error{ProtocolError, "response topic is empty or has wildcards"}
	errPacketID       = &Error{ProtocolError, "packet identifier 0"}
	errDup            = &Error{MalformedPacket, "DUP with QoS 0"}
	errTopicEmpty     = &Error{MalformedPacket, "empty topic name"}
	errTopicMissing   = &Error{ProtocolError, "neither topic name nor topic alias"}
	errTopicWildcard  = &Error{TopicNameInvalid, "wildcard in a topic name"}
	errPayloadFormat  = &Error{PayloadFormatInvalid, "payload is not the UTF-8 it is said to be"}
	errProtocolName   = &Error{UnsupportedProtocolVersion, "unknown protocol name"}
	errProtocolLevel  = &Error{UnsupportedProtocolVersion, "unknown protocol level"}
	errConnectFlags   = &Error{MalformedPacket, "reserved connect flag set"}
	errWillFlags      = &Error{MalformedPacket, "will QoS or will retain without will flag"}
	errWillQoS        = &Error{MalformedPacket, "will QoS 3"}
	errPasswordAlone  = &Error{MalformedPacket, "password without user name"}
	errAuthMethod     = &Error{BadAuthenticationMethod, "empty authentication method"}
	errAuthData       = &Error{ProtocolError, "authentication data without method"}
	errNoMethod       = &Error{ProtocolError, "no authentication method"}
	errNoFilters      = &Error{ProtocolError, "no topic filters"}
	errFilterEmpty    = &Error{MalformedPacket, "empty topic filter"}
	errOptions        = &Error{MalformedPacket, "reserved subscription option bits set"}
	errOptionsQoS     = &Error{ProtocolError, "maximum QoS 3"}
	errRetainHandling = &Error{ProtocolError, "retain handling 3"}
	errNoLocalShared  = &Error{ProtocolError, "no local on a shared subscription"}
	errCode           = &Error{ProtocolError, "reason code not allowed here"}
	errNoCodes        = &Error{ProtocolError, "no reason codes"}
	errConnackFlags   = &Error{MalformedPacket, "reserved connack flag set"}
	errSessionPresent = &Error{ProtocolError, "session present in a refusal"}
)
