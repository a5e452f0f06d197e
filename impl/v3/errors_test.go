package v3

import (
	"encoding/json"
	"testing"

	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// TestRefusalsHaveEveryKind keeps the table whole, and no failure may look like
// success in either dialect.
func TestRefusalsHaveEveryKind(t *testing.T) {
	for k := range admin.NumKinds {
		if r, there := refusals[k]; !there || r.status == 0 {
			t.Errorf("kind %d has no entry", k)
		}
		for _, d := range []Dialect{Items, Coded} {
			status, body := Refusal(d, &admin.Error{Kind: k, Message: "m", Subject: "s"})
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Code    int    `json:"code"`
				Message string `json:"message"`
			}
			if _, plain := body.(string); !plain {
				if err := json.Unmarshal(text, &got); err != nil {
					t.Fatal(err)
				}
			}
			if status == 200 && got.Code == 0 {
				t.Errorf("kind %d is answered like success in %s: %s", k, d, text)
			}
			if d == Coded && got.Code != 0 && got.Message == "" {
				t.Errorf("kind %d has no message in %s", k, d)
			}
		}
	}
}
