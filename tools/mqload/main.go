//go:build linux

// Command mqload measures MQTT brokers: what a delivered message, an idle
// connection, a subscription or a retained message costs them, and whether
// they lose, double or reorder anything meanwhile. It runs on Linux only (epoll,
// /proc); README.md has the scenarios and how to read the figures.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"time"
)

// options bound a run, whatever the scenario.
type options struct {
	warmup, duration time.Duration
	messages         uint64
}

// A spec names a kind of scenario and sets its parameters.
type spec struct {
	name, kind string
	n, m       int // n publishers (or connections, messages, fan-out width), m subscribers
	total      int // wildcard: filters
	qos        int
	size       int
	window     int
	rate       int
}

// kinds gives every kind its default parameters.
var kinds = map[string]spec{
	"p2p":      {n: 50, size: 64, window: 32},
	"fanout":   {n: 100, size: 64, window: 16},
	"fanin":    {n: 200, size: 64, window: 8},
	"shared":   {n: 10, m: 10, size: 64, window: 32},
	"latency":  {n: 50, size: 64, rate: 5000},
	"conns":    {n: 10000},
	"wildcard": {n: 10, m: 100, total: 100000, size: 64, window: 32},
	"retained": {n: 50000, size: 64},
}

// presets is the standard set, in the order it is run.
var presets = []struct{ name, spec, about string }{
	{"p2p-q0", "p2p:qos=0", "50 pairs, 32 messages in flight each"},
	{"p2p-q0-w1", "p2p:n=200,qos=0,window=1", "200 pairs, one message in flight each: nothing to batch"},
	{"p2p-q0-4k", "p2p:qos=0,size=4096,window=8", "50 pairs, 4 KiB payload"},
	{"p2p-q1", "p2p:qos=1,window=16", "50 pairs, QoS 1"},
	{"p2p-q2", "p2p:qos=2,window=16", "50 pairs, QoS 2"},
	{"fanout100-q0", "fanout:n=100,qos=0", "1 publisher, 100 subscribers"},
	{"fanout100-q1", "fanout:n=100,qos=1", "the same, QoS 1"},
	{"fanout1000-q0", "fanout:n=1000,qos=0,window=8", "1 publisher, 1000 subscribers"},
	{"fanout1000-q1", "fanout:n=1000,qos=1,window=8", "the same, QoS 1"},
	{"fanin", "fanin:qos=0", "200 publishers, 1 wildcard subscriber"},
	{"shared", "shared:qos=1", "10 publishers, a shared subscription with 10 members, QoS 1"},
	{"latency", "latency:qos=0", "50 pairs, open loop, 5000 msg/s"},
	{"latency-q1", "latency:qos=1", "the same, QoS 1"},
	{"wildcard", "wildcard:qos=0", "100 000 filters over 100 clients, random topics"},
	{"retained", "retained", "50 000 retained messages delivered to a new subscriber"},
	{"conns", "conns", "10 000 idle connections"},
}

// parseSpec reads "kind-or-preset[:key=value,…]".
func parseSpec(s string) (spec, error) {
	head, params, _ := strings.Cut(s, ":")
	sp, ok := kinds[head]
	if sp.kind = head; !ok {
		for _, p := range presets {
			if p.name == head {
				base, err := parseSpec(p.spec)
				if err != nil {
					return sp, err
				}
				sp, ok = base, true
			}
		}
	}
	if !ok {
		return sp, fmt.Errorf("no scenario %q (see -list)", head)
	}
	sp.name = s
	fields := map[string]*int{"n": &sp.n, "m": &sp.m, "total": &sp.total, "qos": &sp.qos,
		"size": &sp.size, "window": &sp.window, "rate": &sp.rate}
	if params != "" {
		for kv := range strings.SplitSeq(params, ",") {
			key, value, _ := strings.Cut(kv, "=")
			field, known := fields[key]
			v, err := strconv.Atoi(value)
			if !known || err != nil || v < 0 {
				return sp, fmt.Errorf("scenario %q: bad parameter %q", s, kv)
			}
			*field = v
		}
	}
	switch {
	case sp.qos > 2:
		return sp, fmt.Errorf("scenario %q: qos is 0, 1 or 2", s)
	case sp.kind != "conns" && sp.size < stampLen:
		return sp, fmt.Errorf("scenario %q: size is at least %d", s, stampLen)
	case sp.window > 30000:
		return sp, fmt.Errorf("scenario %q: window is at most 30000", s)
	case sp.n == 0, sp.window == 0 && sp.rate == 0 && sp.kind != "conns" && sp.kind != "retained":
		return sp, fmt.Errorf("scenario %q: n, and window or rate, must be positive", s)
	}
	return sp, nil
}

func (sp spec) run(tg target, o options) (r result, err error) {
	runTag = rand.Uint32()
	qos := byte(sp.qos)
	var p plan
	switch sp.kind {
	case "conns":
		return runConns(tg, sp.n, o)
	case "retained":
		return runRetained(tg, sp.n, sp.size, o)
	case "p2p", "latency":
		p = p2p(sp.n, qos, sp.size, sp.window)
	case "fanout":
		p = fanout(sp.n, qos, sp.size, sp.window)
	case "fanin":
		p = fanin(sp.n, qos, sp.size, sp.window)
	case "shared":
		p = shared(sp.n, sp.m, qos, sp.size, sp.window)
	case "wildcard":
		p = wildcard(sp.n, sp.m, sp.total, qos, sp.size, sp.window)
	}
	p.rate = sp.rate
	return runTraffic(tg, p, o)
}

// result is what one run of a scenario found, and the JSON line it prints.
// CPU times are per delivered message (or per connection).
type result struct {
	Scenario    string  `json:"scenario"`
	Broker      string  `json:"broker"`
	Version     int     `json:"mqtt"`
	Unit        string  `json:"unit"`
	Count       uint64  `json:"count"`
	Seconds     float64 `json:"seconds"`
	Rate        float64 `json:"rate"` // Unit per second
	CPUus       float64 `json:"cpu_us"`
	CPUuserUs   float64 `json:"cpu_user_us"`
	CPUsysUs    float64 `json:"cpu_sys_us"`
	CPUpct      float64 `json:"cpu_pct"`
	GenCPUus    float64 `json:"gen_cpu_us"`
	GenCPUpct   float64 `json:"gen_cpu_pct"`
	OtherPct    float64 `json:"other_pct"` // CPU the rest of the machine used; 100 is one core
	RSSBeforeKB int64   `json:"rss_before_kb"`
	RSSPeakKB   int64   `json:"rss_peak_kb"`
	BytesPer    float64 `json:"bytes_per,omitempty"` // memory for one BytesUnit
	BytesUnit   string  `json:"bytes_unit,omitempty"`
	SetupRate   float64 `json:"setup_rate,omitempty"`
	SetupUnit   string  `json:"setup_unit,omitempty"`
	P50us       float64 `json:"p50_us,omitempty"`
	P99us       float64 `json:"p99_us,omitempty"`
	P999us      float64 `json:"p999_us,omitempty"`
	MaxUs       float64 `json:"max_us,omitempty"`
	Lost        int64   `json:"lost"`
	Unacked     int64   `json:"unacked"`
	Duplicates  uint64  `json:"duplicates"`
	Reordered   uint64  `json:"reordered"`
	Misrouted   uint64  `json:"misrouted"`
	BadPackets  uint64  `json:"bad"`
	Error       string  `json:"error,omitempty"`
}

// faults sums up the self-checks in words; "" when all is well.
func (r result) faults() string {
	if r.Error != "" {
		return "ERROR " + r.Error
	}
	var s []string
	for _, f := range []struct {
		name string
		n    int64
	}{{"lost", r.Lost}, {"unacked", r.Unacked}, {"dup", int64(r.Duplicates)},
		{"reordered", int64(r.Reordered)}, {"misrouted", int64(r.Misrouted)}, {"bad", int64(r.BadPackets)}} {
		if f.n != 0 {
			s = append(s, fmt.Sprintf("%s %d", f.name, f.n))
		}
	}
	return strings.Join(s, ", ")
}

func main() {
	var (
		addr     = flag.String("addr", "127.0.0.1:1883", "the broker's address `ip:port`")
		name     = flag.String("name", "", "the broker's name in the output (default: its address)")
		pid      = flag.Int("pid", 0, "the broker's process id, to account CPU time and memory")
		to       = flag.String("to", "", "address `ip:port` of another node of the broker: subscribers connect there, publishers to -addr")
		toPID    = flag.Int("to-pid", 0, "with -to: the process id there; CPU time is that of both")
		version  = flag.Int("v", 4, "protocol version: 4 (3.1.1) or 5")
		duration = flag.Duration("d", 3*time.Second, "time to measure for")
		warmup   = flag.Duration("warmup", 500*time.Millisecond, "time to run before measuring")
		messages = flag.Uint64("messages", 0, "stop after so many messages sent (0: by time only)")
		quiet    = flag.Duration("quiet", 0, "before each scenario, wait at most so long for an idle machine")
		jsonOnly = flag.Bool("json", false, "print JSON lines only, no table")
		useTLS   = flag.Bool("tls", false, "connect with TLS; certificates are not checked")
		useWS    = flag.Bool("ws", false, "connect with WebSocket (with -tls: secure WebSocket)")
		path     = flag.String("path", "/mqtt", "with -ws: the path of the request")
		list     = flag.Bool("list", false, "list the scenarios and exit")
		report   = flag.Bool("report", false, "read JSON lines from the files given (or stdin), print medians and ratios")
		base     = flag.String("base", "", "with -report: the broker that ratios are relative to (default: the first)")
		markdown = flag.Bool("markdown", false, "with -report: print markdown tables")
	)
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: mqload [flags] scenario…\n       mqload -report [file…]\nscenario is std, or a name from -list with changes, such as p2p-q1:size=1024,window=4\n")
		flag.PrintDefaults()
	}
	flag.Parse()

	switch {
	case *list:
		printList()
		return
	case *report:
		check(runReport(flag.Args(), *base, *markdown))
		return
	case flag.NArg() == 0, *version != 4 && *version != 5:
		flag.Usage()
		os.Exit(2)
	}
	ap, err := netip.ParseAddrPort(*addr)
	check(err)
	tg := target{name: *name, addr: ap, pid: *pid, version: byte(*version),
		carriage: carriage{tls: *useTLS, ws: *useWS, path: *path}}
	if tg.name == "" {
		tg.name = *addr
	}
	tg.toPID = *toPID
	if *to != "" {
		tg.to, err = netip.ParseAddrPort(*to)
		check(err)
	}
	var specs []spec
	for _, arg := range flag.Args() {
		names := []string{arg}
		if arg == "std" {
			names = names[:0]
			for _, p := range presets {
				names = append(names, p.name)
			}
		}
		for _, n := range names {
			sp, err := parseSpec(n)
			check(err)
			specs = append(specs, sp)
		}
	}

	debug.SetGCPercent(1000) // there is little garbage; do not spend the broker's cores on it
	o := options{warmup: *warmup, duration: *duration, messages: *messages}
	var all []result
	failed := false
	for _, sp := range specs {
		waitQuiet(*quiet)
		r, err := sp.run(tg, o)
		r.Scenario, r.Broker, r.Version = sp.name, tg.name, *version
		if err != nil {
			r.Error = err.Error()
		}
		failed = failed || r.faults() != ""
		line, err := json.Marshal(r)
		check(err)
		fmt.Println(string(line))
		all = append(all, r)
	}
	if !*jsonOnly {
		printTable(os.Stdout, all, "", false)
	}
	if failed {
		os.Exit(1)
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mqload:", err)
		os.Exit(2)
	}
}

func printList() {
	fmt.Println("standard set:")
	for _, p := range presets {
		fmt.Printf("  %-15s %-30s %s\n", p.name, p.spec, p.about)
	}
	fmt.Println("kinds and their defaults:")
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		s := kinds[k]
		fmt.Printf("  %-15s n=%d m=%d total=%d qos=%d size=%d window=%d rate=%d\n", k, s.n, s.m, s.total, s.qos, s.size, s.window, s.rate)
	}
}
