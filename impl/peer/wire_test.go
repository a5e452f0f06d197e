package peer

import (
	"testing"

	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// TestKindsHaveWords keeps the table whole, and both ways the same.
func TestKindsHaveWords(t *testing.T) {
	for k := range admin.NumKinds {
		err := failureIn(failureOut(&admin.Error{Kind: k, Message: "m", Subject: "s"}))
		e, ok := err.(*admin.Error)
		if !ok || kindWords[k] == "" || e.Kind != k || e.Message != "m" || e.Subject != "s" {
			t.Errorf("kind %d is %+v on the other side", k, err)
		}
	}
}
