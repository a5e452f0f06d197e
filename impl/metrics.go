package impl

import (
	"context"
	"net/http"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// counts are the figures of the HTTP side.
type counts struct {
	requests     *prometheus.CounterVec
	seconds      *prometheus.HistogramVec
	loginsFailed atomic.Int64
	limited      atomic.Int64
}

func newCounts() counts {
	return counts{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lacewing_http_requests_total", Help: "Requests answered, by API and status.",
		}, []string{"api", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lacewing_http_request_seconds", Help: "Time to answer a request, by API.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"api"}),
	}
}

func (c *counts) add(v *version, status int, took time.Duration) {
	api := "other"
	if v != nil {
		api = "v" + strconv.Itoa(v.number)
	}
	c.requests.WithLabelValues(api, strconv.Itoa(status)).Inc()
	c.seconds.WithLabelValues(api).Observe(took.Seconds())
}

// Figure is one figure for Prometheus: a gauge, or a counter.
type Figure struct {
	Name, Help string
	Counter    bool
	Value      float64
}

// newMetrics serves the figures of this node for Prometheus. Those of the
// broker have the names that the statsd plugin of EMQ X pushes.
func (s *Server) newMetrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(
		s.counts.requests, s.counts.seconds, &brokerCollector{s: s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// brokerCollector reads the engine's own counters when it is asked.
type brokerCollector struct {
	s *Server

	mu          sync.Mutex
	total, idle float64 // processor seconds at the last reading
}

// Describe implements [prometheus.Collector]: what there is follows from what
// the engine counts.
func (c *brokerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (c *brokerCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	send := func(kind prometheus.ValueType, name string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help(name), nil, nil), kind, v)
	}
	if m, err := c.s.o.Admin.Metrics(ctx, ""); err == nil {
		for name, v := range m {
			kind := prometheus.CounterValue
			if name == "messages/retained" {
				kind = prometheus.GaugeValue
			}
			send(kind, brokerName(name), float64(v))
		}
		send(prometheus.CounterValue, "emqx_message_forward", float64(m["messages/forward"]))
		send(prometheus.CounterValue, "emqx_message_expired", float64(m["messages/expired"]))
	}
	if g, err := c.s.o.Admin.Stats(ctx, ""); err == nil {
		for name, v := range g {
			send(prometheus.GaugeValue, brokerName(name), float64(v))
		}
	}
	if st, err := c.s.o.Admin.Storage(ctx); err == nil {
		c.store(ch, st)
	}
	if c.s.o.Figures != nil {
		for _, f := range c.s.o.Figures() {
			kind := prometheus.GaugeValue
			if f.Counter {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(prometheus.NewDesc(f.Name, f.Help, nil, nil), kind, f.Value)
		}
	}
	raft := c.s.o.Admin.Raft()
	send(prometheus.GaugeValue, "lacewing_raft_leader", flag(raft.Leads))
	send(prometheus.GaugeValue, "lacewing_raft_has_leader", flag(raft.HasLeader))
	send(prometheus.CounterValue, "lacewing_http_logins_failed_total", float64(c.s.counts.loginsFailed.Load()))
	send(prometheus.CounterValue, "lacewing_http_logins_limited_total", float64(c.s.counts.limited.Load()))
	send(prometheus.GaugeValue, "lacewing_http_login_sources", float64(c.s.failed.size()))
	use, runnable := c.processor()
	send(prometheus.GaugeValue, "emqx_vm_cpu_use", use)
	send(prometheus.GaugeValue, "emqx_vm_cpu_idle", 100-use)
	send(prometheus.GaugeValue, "emqx_vm_run_queue", runnable)
}

// store sends the figures of the store of sessions and messages.
func (c *brokerCollector) store(ch chan<- prometheus.Metric, st admin.Storage) {
	send := func(kind prometheus.ValueType, name, text string, v float64) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("lacewing_store_"+name, text, nil, nil), kind, v)
	}
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("lacewing_store_info", "How safe an acknowledged message is.", []string{"durability"}, nil),
		prometheus.GaugeValue, 1, st.Durability)
	send(prometheus.GaugeValue, "refusing", "1 while messages that have to be stored are refused.", flag(st.Fault != ""))
	send(prometheus.GaugeValue, "bytes", "Size of the files of the store.", float64(st.Bytes))
	send(prometheus.GaugeValue, "max_bytes", "Limit of the size; 0 for none.", float64(st.MaxBytes))
	send(prometheus.GaugeValue, "live_bytes", "Bytes of what still holds, estimated.", float64(st.LiveBytes))
	send(prometheus.GaugeValue, "segments", "Files of the store.", float64(st.Segments))
	send(prometheus.GaugeValue, "uncommitted_bytes", "Bytes of changes that are not committed yet.", float64(st.Staged-st.Committed))
	send(prometheus.CounterValue, "committed_bytes_total", "Bytes of changes committed.", float64(st.CommittedBytes))
	send(prometheus.CounterValue, "rewritten_bytes_total", "Bytes written again to free older files.", float64(st.RewrittenBytes))
	send(prometheus.CounterValue, "syncs_total", "Times that the disk was made to keep what was written.", float64(st.Syncs))
	send(prometheus.CounterValue, "sync_seconds_total", "Time spent in them.", st.SyncTime.Seconds())
	send(prometheus.CounterValue, "faults_total", "Writes and syncs that failed.", float64(st.Faults))
	histogram := func(name, text string, d admin.Distribution, unit float64) {
		buckets, seen := make(map[float64]uint64, len(d.Counts)), uint64(0)
		for i, n := range d.Counts[:max(len(d.Counts)-1, 0)] {
			seen += uint64(n)
			buckets[float64(uint64(1)<<i)*unit] = seen
		}
		ch <- prometheus.MustNewConstHistogram(prometheus.NewDesc("lacewing_store_"+name, text, nil, nil), uint64(d.Total()), float64(d.Sum)*unit, buckets)
	}
	histogram("group_changes", "Changes committed together.", st.GroupSizes, 1)
	histogram("commit_seconds", "Time from the first change of a group to its commit.", st.CommitTimes, 1e-6)
}

// processor returns the share of the processors in percent that was used since
// the last reading, and how many tasks wait for one.
func (c *brokerCollector) processor() (use, runnable float64) {
	samples := []metrics.Sample{
		{Name: "/cpu/classes/total:cpu-seconds"},
		{Name: "/cpu/classes/idle:cpu-seconds"},
		{Name: "/sched/goroutines/runnable:goroutines"},
	}
	metrics.Read(samples)
	if samples[2].Value.Kind() == metrics.KindUint64 {
		runnable = float64(samples[2].Value.Uint64())
	}
	total, idle := samples[0].Value.Float64(), samples[1].Value.Float64()
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := total - c.total; d > 0 {
		use = min(100, max(0, 100*(1-(idle-c.idle)/d)))
	}
	c.total, c.idle = total, idle
	return use, runnable
}

func brokerName(name string) string { return "emqx_" + strings.ReplaceAll(name, "/", "_") }

func help(name string) string {
	return strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(name, "emqx_"), "lacewing_"), "_", " ") + "."
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var _ prometheus.Collector = (*brokerCollector)(nil)
