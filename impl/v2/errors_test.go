package v2

import (
	"testing"

	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// TestRefusalsHaveEveryKind keeps the table whole: a kind without an entry
// would be answered with status 0.
func TestRefusalsHaveEveryKind(t *testing.T) {
	for k := range admin.NumKinds {
		if r, there := refusals[k]; !there || r.status == 0 {
			t.Errorf("kind %d has no entry", k)
		}
		status, body := Refusal(&admin.Error{Kind: k, Message: "m", Subject: "s"})
		if status == 200 && (body == nil || body.Code == 0) {
			t.Errorf("kind %d is answered like success", k)
		}
	}
}
