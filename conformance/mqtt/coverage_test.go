package mqtt

import (
	_ "embed"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

//go:embed statements.tsv
var statementsTable string

// statement is one normative statement of a version of the standard.
type statement struct {
	version  string // "3.1.1" or "5.0"
	id       string // as the standard prints it: MQTT-3.1.2-4
	actor    string // who it binds: server, client, both
	testable string // yes, indirect, no
	summary  string
	reason   string // why no test names it; empty where one does
}

// key is unique over both versions.
func (s statement) key() string { return s.version + " " + s.id }

// parseStatements reads the table and refuses one that is not complete.
func parseStatements(table string) ([]statement, error) {
	var out []statement
	seen := map[string]bool{}
	for n, line := range strings.Split(strings.TrimSuffix(table, "\n"), "\n") {
		if n == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 6 {
			return nil, fmt.Errorf("statements.tsv:%d: %d columns, want 6", n+1, len(f))
		}
		s := statement{f[0], f[1], f[2], f[3], f[4], strings.TrimPrefix(f[5], "-")}
		switch {
		case s.version != "3.1.1" && s.version != "5.0":
			return nil, fmt.Errorf("statements.tsv:%d: version %q", n+1, s.version)
		case !slices.Contains([]string{"server", "client", "both"}, s.actor):
			return nil, fmt.Errorf("statements.tsv:%d: actor %q", n+1, s.actor)
		case !slices.Contains([]string{"yes", "indirect", "no"}, s.testable):
			return nil, fmt.Errorf("statements.tsv:%d: testable %q", n+1, s.testable)
		case s.summary == "":
			return nil, fmt.Errorf("statements.tsv:%d: no summary", n+1)
		case seen[s.key()]:
			return nil, fmt.Errorf("statements.tsv:%d: %s twice", n+1, s.key())
		}
		seen[s.key()] = true
		out = append(out, s)
	}
	return out, nil
}

// coverage collects which tests named which statements and how they ended.
var coverage = struct {
	sync.Mutex
	table   map[string]statement
	passed  map[string][]string // statement key -> tests
	failed  map[string][]string
	skipped map[string][]string
}{passed: map[string][]string{}, failed: map[string][]string{}, skipped: map[string][]string{}}

// covers declares that the running test checks the named statements of one
// version. They count when this test, with its subtests, has run and passed.
func covers(t *testing.T, v version, ids ...string) {
	t.Helper()
	for _, id := range ids {
		key := v.String() + " " + id
		coverage.Lock()
		s, known := coverage.table[key]
		coverage.Unlock()
		if !known {
			t.Errorf("statement %s is not in statements.tsv", key)
			continue
		}
		if s.reason != "" {
			t.Errorf("statement %s has a test now: take its reason out of statements.tsv", key)
		}
		t.Cleanup(func() {
			coverage.Lock()
			defer coverage.Unlock()
			into := coverage.passed
			if t.Failed() {
				into = coverage.failed
			} else if t.Skipped() {
				into = coverage.skipped
			}
			into[key] = append(into[key], t.Name())
		})
	}
}

// statements names the statements of one version that a test covers.
type statements struct {
	v   version
	ids []string
}

func in311(ids ...string) statements { return statements{v311, ids} }
func in5(ids ...string) statements   { return statements{v5, ids} }

// both runs a test body for 3.1.1 and for 5.0, in parallel.
func both(t *testing.T, a, b statements, body func(t *testing.T, v version)) {
	t.Helper()
	t.Parallel()
	for _, s := range []statements{a, b} {
		t.Run(s.v.String(), func(t *testing.T) {
			t.Parallel()
			covers(t, s.v, s.ids...)
			body(t, s.v)
		})
	}
}

// only5 marks a parallel test of 5.0.
func only5(t *testing.T, ids ...string) {
	t.Helper()
	t.Parallel()
	covers(t, v5, ids...)
}

// only311 marks a parallel test of 3.1.1.
func only311(t *testing.T, ids ...string) {
	t.Helper()
	t.Parallel()
	covers(t, v311, ids...)
}

// report prints the count of each version and every statement that lacks both a
// passed test and a reason; it returns how many those are.
func report(w io.Writer, table []statement, passed, failed, skipped map[string][]string) int {
	missing := 0
	for _, version := range []string{"3.1.1", "5.0"} {
		var covered, reasoned, total int
		for _, s := range table {
			if s.version != version {
				continue
			}
			total++
			switch {
			case len(failed[s.key()]) > 0:
				missing++
				fmt.Fprintf(w, "failed   %s: %s\n         by %s\n", s.key(), s.summary, strings.Join(failed[s.key()], ", "))
			case len(passed[s.key()]) > 0:
				covered++
			case s.reason != "":
				reasoned++
			case len(skipped[s.key()]) > 0:
				missing++
				fmt.Fprintf(w, "skipped  %s: %s\n         by %s\n", s.key(), s.summary, strings.Join(skipped[s.key()], ", "))
			default:
				missing++
				fmt.Fprintf(w, "missing  %s: %s\n", s.key(), s.summary)
			}
		}
		fmt.Fprintf(w, "MQTT %-5s  %d of %d statements covered by tests that passed, %d with a written reason, %d missing\n",
			version, covered, total, reasoned, total-covered-reasoned)
	}
	return missing
}

// writeMap writes one line for each statement: how it stands and which tests
// name it, for -v and for LACEWING_CONFORMANCE_REPORT.
func writeMap(w io.Writer, table []statement) {
	for _, s := range table {
		state, tests := "missing", ""
		switch key := s.key(); {
		case len(coverage.failed[key]) > 0:
			state, tests = "failed", strings.Join(coverage.failed[key], " ")
		case len(coverage.passed[key]) > 0:
			state, tests = "covered", brief(coverage.passed[key])
		case s.reason != "":
			state, tests = "reason", s.reason
		case len(coverage.skipped[key]) > 0:
			state, tests = "skipped", strings.Join(coverage.skipped[key], " ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", s.version, s.id, state, tests)
	}
}

// brief names the test functions of a list of tests and subtests once each.
func brief(names []string) string {
	var tests []string
	for _, n := range names {
		top, _, _ := strings.Cut(n, "/")
		tests = append(tests, top)
	}
	slices.Sort(tests)
	return strings.Join(slices.Compact(tests), " ")
}

// selective tells whether the command line chose some of the tests only; then
// missing statements do not fail the run.
func selective() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	return false
}

func TestMain(m *testing.M) {
	flag.Parse()
	table, err := parseStatements(statementsTable)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	coverage.table = make(map[string]statement, len(table))
	for _, s := range table {
		coverage.table[s.key()] = s
	}
	// The tests wait more than they work: let more of them run at a time than
	// there are cores, unless the command line says otherwise.
	if f := flag.Lookup("test.parallel"); f.Value.String() == strconv.Itoa(runtime.GOMAXPROCS(0)) {
		if err := flag.Set("test.parallel", "16"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := closeBrokers(); err != nil {
		fmt.Fprintln(os.Stderr, "closing the brokers:", err)
		code = max(code, 1)
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "after the last broker was closed:", err)
		code = max(code, 1)
	}
	if path := os.Getenv("LACEWING_CONFORMANCE_REPORT"); path != "" {
		var text strings.Builder
		writeMap(&text, table)
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if selective() {
		os.Exit(code)
	}
	if testing.Verbose() {
		writeMap(os.Stdout, table)
	}
	missing := report(os.Stdout, table, coverage.passed, coverage.failed, coverage.skipped)
	if missing > 0 && !foreign() {
		fmt.Printf("%d statements have neither a passed test nor a written reason\n", missing)
		code = max(code, 1)
	}
	os.Exit(code)
}

func TestParseStatementsRefuses(t *testing.T) {
	const good = "5.0\tMQTT-1.1.1-1\tserver\tyes\tsomething\t-"
	for name, row := range map[string]string{
		"a short row":          "5.0\tMQTT-1.1.1-1\tserver\tyes\tsomething",
		"an unknown version":   "4.0\tMQTT-1.1.1-1\tserver\tyes\tsomething\t-",
		"an unknown actor":     "5.0\tMQTT-1.1.1-1\tnobody\tyes\tsomething\t-",
		"an unknown testable":  "5.0\tMQTT-1.1.1-1\tserver\tperhaps\tsomething\t-",
		"an empty summary":     "5.0\tMQTT-1.1.1-1\tserver\tyes\t\t-",
		"a statement repeated": good + "\n" + good,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseStatements("header\n" + row + "\n"); err == nil {
				t.Errorf("parseStatements(%q) succeeded, want an error", row)
			}
		})
	}
	if _, err := parseStatements("header\n" + good + "\n"); err != nil {
		t.Errorf("parseStatements(%q): %v", good, err)
	}
}

func TestReportCountsWhatIsMissing(t *testing.T) {
	table := []statement{
		{"3.1.1", "A", "server", "yes", "covered", ""},
		{"3.1.1", "B", "server", "yes", "not covered", ""},
		{"5.0", "A", "server", "yes", "failed once, passed once", ""},
		{"5.0", "B", "client", "no", "the client's affair", "the client's affair"},
		{"5.0", "C", "server", "yes", "skipped", ""},
	}
	passed := map[string][]string{"3.1.1 A": {"T1"}, "5.0 A": {"T1"}}
	failed := map[string][]string{"5.0 A": {"T2"}}
	skipped := map[string][]string{"5.0 C": {"T3"}}
	var out strings.Builder
	if got := report(&out, table, passed, failed, skipped); got != 3 {
		t.Errorf("report = %d missing, want 3\n%s", got, &out)
	}
	for _, want := range []string{
		"missing  3.1.1 B", "failed   5.0 A", "skipped  5.0 C",
		"MQTT 3.1.1  1 of 2 statements covered by tests that passed, 0 with a written reason, 1 missing",
		"MQTT 5.0    0 of 3 statements covered by tests that passed, 1 with a written reason, 2 missing",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, &out)
		}
	}
}
