package mqtt

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

var aclFile = sync.OnceValues(func() (string, error) {
	dir, err := scratchDir("acl-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "acl.conf")
	return file, os.WriteFile(file, []byte(`{deny, all, pubsub, ["denied/#"]}.
{deny, all, publish, ["readonly/#"]}.
{allow, all}.
`), 0o644)
})

// aclBroker is a broker that refuses denied/# altogether and publishing to
// readonly/#.
func aclBroker(t *testing.T) *broker {
	t.Helper()
	file, err := aclFile()
	if err != nil {
		t.Fatal(err)
	}
	return startBroker(t, map[string]string{"mqtt.acl_file": file})
}

// TestPublishNotAuthorised: in 3.1.1 there is no negative acknowledgement; the
// broker acknowledges and drops. 5.0 says 0x87.
func TestPublishNotAuthorised(t *testing.T) {
	both(t, in311("MQTT-3.3.5-2"), in5("MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-4.3.3-9"), func(t *testing.T, v version) {
		b, topic := aclBroker(t), "readonly/"+unique()
		sub, pub := b.connect(t, session{v: v}), b.connect(t, session{v: v})
		sub.subscribe(topic, 2)
		pub.send(topic, "denied", 0)
		want := byte(0)
		if v == v5 {
			want = 0x87
		}
		for qos := byte(1); qos < 3; qos++ {
			if ack := pub.publish(publish{topic: topic, payload: "denied", qos: qos, retain: true}); ack.code != want {
				t.Errorf("QoS %d: got %s, want code 0x%02x", qos, ack, want)
			}
		}
		sub.silent(pub)
		if v == v5 {
			// After a PUBREC of 0x80 or above the identifier is free for a new message.
			free := unique()
			sub.subscribe(free, 2)
			for range 2 {
				if ack := pub.publish(publish{topic: topic, payload: "denied", qos: 2, id: 77}); ack.code != want {
					t.Errorf("got %s, want code 0x%02x", ack, want)
				}
			}
			if ack := pub.publish(publish{topic: free, payload: "allowed", qos: 2, id: 77}); ack.code != 0 {
				t.Errorf("got %s, want code 0", ack)
			}
			sub.receive(free, "allowed")
		}
		late := b.connect(t, session{v: v})
		late.subscribe(topic, 1)
		late.silent(pub)
	})
}
