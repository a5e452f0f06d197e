package api

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

var update = flag.Bool("update", false, "write testdata/literal.tsv")

// outcome is a document replayed on nodes of its own.
type outcome struct {
	*Replay
	results []*Result
}

var outcomes = map[openapi.Document]*outcome{}

// replayed replays a document; once, whichever test asks first.
func replayed(t *testing.T, doc openapi.Document) *outcome {
	t.Helper()
	if o := outcomes[doc]; o != nil {
		return o
	}
	r, err := NewReplay(doc, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o := &outcome{Replay: r}
	nodes := lab{t: t, nodes: map[string]*Target{}}
	for _, ex := range r.Examples {
		o.results = append(o.results, r.Run(t.Context(), nodes.target(NeedsOf(doc, ex)), ex))
	}
	outcomes[doc] = o
	return o
}

// TestReplay replays every example of every document.
func TestReplay(t *testing.T) {
	for _, doc := range openapi.Documents {
		t.Run(string(doc), func(t *testing.T) {
			for _, res := range replayed(t, doc).results {
				t.Run(res.ID, func(t *testing.T) {
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

// TestEveryExampleIsReplayed holds what was sent against what the documents have.
func TestEveryExampleIsReplayed(t *testing.T) {
	for _, doc := range openapi.Documents {
		t.Run(string(doc), func(t *testing.T) {
			tree, err := doc.Load()
			if err != nil {
				t.Fatal(err)
			}
			all, err := openapi.Examples(tree)
			if err != nil {
				t.Fatal(err)
			}
			answered := map[string]bool{}
			for _, res := range replayed(t, doc).results {
				answered[res.ID] = res.Skipped == "" && res.Got.Status != 0
			}
			for _, ex := range all {
				if !answered[ex.ID] {
					t.Errorf("%s (documented: %t) is not replayed", ex.ID, ex.Documented)
				}
			}
		})
	}
}

const literalFile = "testdata/literal.tsv"

// TestLiteralFields counts the values that are compared as they stand. Neither
// they nor the examples may become fewer than the file says.
func TestLiteralFields(t *testing.T) {
	var lines []string
	got := map[string][3]int{}
	for _, doc := range openapi.Documents {
		var n [3]int
		for _, res := range replayed(t, doc).results {
			n[0]++
			if res.Documented {
				n[1]++
			}
			n[2] += res.Literal
		}
		got[string(doc)] = n
		lines = append(lines, fmt.Sprintf("%s\t%d\t%d\t%d\n", doc, n[0], n[1], n[2]))
		t.Logf("%s: %d examples, %d of them documented, %d values compared literally", doc, n[0], n[1], n[2])
	}
	if *update {
		head := "# document, examples replayed, of them documented, values compared literally; none may fall (go test -update)\n"
		if err := os.WriteFile(literalFile, []byte(head+strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(literalFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var doc string
		var want [3]int
		if _, err := fmt.Sscanf(line, "%s\t%d\t%d\t%d", &doc, &want[0], &want[1], &want[2]); err != nil {
			t.Fatalf("%s: %q: %v", literalFile, line, err)
		}
		for i, what := range []string{"examples", "documented examples", "values compared literally"} {
			if got[doc][i] < want[i] {
				t.Errorf("%s: %d %s, were %d", doc, got[doc][i], what, want[i])
			}
		}
		delete(got, doc)
	}
	for doc := range got {
		t.Errorf("%s does not name %s", literalFile, doc)
	}
}
