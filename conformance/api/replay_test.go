package api

import (
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// replayed are the results of each document, for the tests that come after.
var replayed = map[openapi.Document][]*Result{}

// TestReplay replays every example of every document.
func TestReplay(t *testing.T) {
	for _, doc := range openapi.Documents {
		t.Run(string(doc), func(t *testing.T) {
			r, err := NewReplay(doc, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			nodes := lab{t: t, nodes: map[string]*Target{}}
			for _, ex := range r.Examples {
				target := nodes.target(NeedsOf(doc, ex))
				t.Run(ex.ID, func(t *testing.T) {
					res := r.Run(t.Context(), target, ex)
					replayed[doc] = append(replayed[doc], res)
					if res.Err != nil {
						t.Error(res.Err)
					}
					for _, d := range res.Diffs {
						t.Error(d)
					}
					if t.Failed() {
						t.Logf("section  %s\nrequest  %s\nexpected %d %s\ngot      %d %s", res.Section, res.Request,
							res.Expected.Status, show(res.Expected.Body), res.Got.Status, show(res.Got.Body))
					}
				})
			}
		})
	}
}
