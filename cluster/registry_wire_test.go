package cluster

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
)

// there and back through JSON.
func carried[T any](t *testing.T, v T) T {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHomesOnTheWire fills every field of what registries tell each other, so that one that is forgotten on the way shows.
func TestHomesOnTheWire(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	author := &engine.ClientInfo{
		ClientID: "c", Username: "u", HasUsername: true, Peer: netip.MustParseAddrPort("1.2.3.4:5"), Local: netip.MustParseAddrPort("[::1]:1883"),
		CleanStart: true, ProtoName: "MQTT", ProtoVer: packet.V5, KeepAlive: 60, ConnectedAt: at, Zone: "z", Listener: "l", Protocol: "mqtt:tcp",
		Mountpoint: "m/", Superuser: true, Bridge: true, WillTopic: "w",
	}
	w := &engine.StoredWill{Delay: 7, Author: author, Message: engine.Message{
		Topic: "w", Payload: []byte{0, 255}, QoS: 2, Retain: true, From: "c", Username: "u", HasUsername: true, HasExpiry: true, Expiry: 9, Properties: []byte{1, 2},
	}}
	if got := willIn(carried(t, willOut(w))); !reflect.DeepEqual(got, w) {
		t.Errorf("will: got %+v, want %+v", got, w)
	}
	if got := willIn(willOut(nil)); got != nil {
		t.Errorf("no will: got %+v", got)
	}
	f := engine.Fence{Epoch: 3, Count: 1<<62 + 1}
	req := engine.MoveRequest{ClientID: "c", Fence: f, To: "n", End: true}
	if got := MoveRequestIn("n", carried(t, api.PeerMoveRequest{ClientId: "c", Fence: fenceOut(f), End: true})); got != req {
		t.Errorf("request: got %+v, want %+v", got, req)
	}
	s := engine.MoveState{
		Found: true, Moved: "n", Username: "u", HasUsername: true, CleanStart: true, CreatedAt: 5, Expiry: 1<<32 - 1, Seq: 1 << 40,
		Subscriptions: []engine.Subscription{{Filter: "f", Share: "s", QoS: 1, NoLocal: true, RetainAsPublished: true, RetainHandling: 2, ID: 1 << 27}},
		Releases:      []engine.StoredRelease{{ID: 65535, At: 8}},
	}
	if got := moveStateIn(carried(t, MoveStateOut(s))); !reflect.DeepEqual(got, s) {
		t.Errorf("state: got %+v, want %+v", got, s)
	}
	r := engine.MoveResult{Done: true, Gone: true, Except: []string{"a"}}
	if got := moveResultIn(carried(t, MoveResultOut(r))); !reflect.DeepEqual(got, r) {
		t.Errorf("result: got %+v, want %+v", got, r)
	}
	p := HomeReport{Kind: Lost, ClientID: "c", Fence: f, Presence: engine.Presence{Will: w, WillAt: 4}, Home: "n", Since: 6, Boot: "b"}
	if got := reportIn(carried(t, reportOut(p))); !reflect.DeepEqual(got, p) {
		t.Errorf("report: got %+v, want %+v", got, p)
	}
	row := HomeRow{ClientID: "c", Fence: f, Presence: engine.Presence{Will: w, WillAt: 4}, Held: true}
	if got := rowIn(carried(t, rowOut(row))); !reflect.DeepEqual(got, row) {
		t.Errorf("row: got %+v, want %+v", got, row)
	}
	g := HomeGrant{State: Granted, Fence: f, Holder: "n", Held: f, Lost: true}
	if got := grantIn(carried(t, grantOut(g))); got != g {
		t.Errorf("grant: got %+v, want %+v", got, g)
	}
}
