package impl

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/lacewing-mqtt/lacewing/engine/packet"
)

// caller asks a server on loopback over one connection that stays.
type caller struct {
	url    string
	client *http.Client
}

func (b *bench) caller(t testing.TB) *caller {
	srv := httptest.NewServer(b.server.Handler(Dashboard))
	t.Cleanup(srv.Close)
	return &caller{srv.URL, srv.Client()}
}

// ask gives how long the answer took and how long it is. It has to be a success.
func (c *caller) ask(method, path, body string) (time.Duration, int, error) {
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	req.SetBasicAuth("admin", "public")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	begin := time.Now()
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	took := time.Since(begin)
	if err != nil || resp.StatusCode != http.StatusOK || method == "GET" && len(text) < 100 {
		return 0, 0, fmt.Errorf("%s %s: %v %d %.300s", method, path, err, resp.StatusCode, text)
	}
	return took, len(text), nil
}

// quantile sorts all.
func quantile(all []time.Duration, q float64) time.Duration {
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// BenchmarkAPI is the management API over HTTP on loopback, one request at a time over one connection: pages of 20 rows at the beginning, in the
// middle and at the end, look-ups and publications, while the tables grow tenfold and again.
func BenchmarkAPI(b *testing.B) {
	const node = "emqx@127.0.0.1"
	for _, size := range []struct{ clients, each int }{{1000, 10}, {10_000, 10}, {100_000, 10}, {1_000_000, 0}} {
		b.Run(fmt.Sprintf("clients=%d,subscriptions=%d", size.clients, size.clients*size.each), func(b *testing.B) {
			s := newBench(b)
			s.crowd(b, size.clients, size.each)
			c := s.caller(b)
			measure := func(name, method, path, body string) {
				b.Run(name, func(b *testing.B) {
					var all []time.Duration
					var bytes int
					for b.Loop() {
						took, n, err := c.ask(method, path, body)
						if err != nil {
							b.Fatal(err)
						}
						all, bytes = append(all, took), n
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "req/s")
					b.ReportMetric(float64(quantile(all, .5).Microseconds()), "p50-us")
					b.ReportMetric(float64(quantile(all, .99).Microseconds()), "p99-us")
					b.ReportMetric(float64(bytes), "B/answer")
				})
			}
			for _, list := range []struct {
				name, v2, v3 string
				rows         int
			}{
				{"clients", "nodes/" + node + "/clients", "connections/", size.clients},
				{"sessions", "nodes/" + node + "/sessions", "sessions/", size.clients},
				{"subscriptions", "nodes/" + node + "/subscriptions", "subscriptions/", size.clients * size.each},
				{"routes", "routes", "routes/", size.clients * size.each},
			} {
				if list.rows == 0 {
					continue
				}
				for _, page := range []struct {
					name   string
					number int
				}{{"first", 1}, {"middle", list.rows / 40}, {"last", list.rows / 20}} {
					measure("v2/"+list.name+"/"+page.name, "GET", fmt.Sprintf("/api/v2/%s?page_size=20&curr_page=%d", list.v2, page.number), "")
					measure("v3/"+list.name+"/"+page.name, "GET", fmt.Sprintf("/api/v3/%s?_limit=20&_page=%d", list.v3, page.number), "")
				}
			}
			id := fmt.Sprintf("client-%07d", size.clients/2)
			measure("v2/look-up", "GET", "/api/v2/clients/"+id, "")
			measure("v3/look-up", "GET", "/api/v3/connections/"+id, "")
			if size.each > 0 {
				topic := fmt.Sprintf("site/%d/device/%d/0", size.clients/2%1000, size.clients/2)
				measure("v2/publish", "POST", "/api/v2/mqtt/publish", `{"topic":"`+topic+`","payload":"0123456789","qos":0,"client_id":"bench"}`)
				measure("v3/publish", "POST", "/api/v3/mqtt/publish", `{"topic":"`+topic+`","payload":"0123456789","qos":0,"client_id":"bench"}`)
				measure("v3/clients/10000-rows", "GET", "/api/v3/connections/?_page=1", "")
			}
		})
	}
}

// threadCPU is the processor time of the calling thread.
func threadCPU() time.Duration {
	const clock = 3 // CLOCK_THREAD_CPUTIME_ID
	var ts syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0) // never fails for one's own
	return time.Duration(ts.Nano())
}

// BenchmarkPublishWhileListing publishes messages of QoS 1, 32 in a round, 500 rounds a second, on a broker with 100 000 clients and a million
// subscriptions, while nobody lists anything and while somebody does, in turns of a quarter of a second: a dashboard that asks for four pages of
// 100 rows every tenth of a second, and a program that asks for pages of 10 000 without a pause. Processor time is that of the publishers'
// thread, latency that of a round, from when it was due.
func BenchmarkPublishWhileListing(b *testing.B) {
	s := newBench(b)
	l := s.crowd(b, 100_000, 10)
	runtime.GC()
	for _, kind := range []string{"dashboard", "flood"} {
		b.Run(kind, func(b *testing.B) {
			c := s.caller(b)
			var listing, busy atomic.Bool
			stop := make(chan struct{})
			var lists atomic.Int64
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if busy.Store(true); !listing.Load() {
						busy.Store(false)
						time.Sleep(time.Millisecond)
						continue
					}
					names, query, pause := []string{"connections", "subscriptions"}, fmt.Sprintf("_page=%d", i%10+1), time.Duration(0)
					if kind == "dashboard" {
						names, pause = []string{"connections", "sessions", "subscriptions", "routes"}, 100*time.Millisecond
						query = fmt.Sprintf("_limit=100&_page=%d", i%1000+1)
					}
					for _, name := range names {
						if _, _, err := c.ask("GET", "/api/v3/"+name+"/?"+query, ""); err != nil {
							b.Error(err)
							busy.Store(false)
							return
						}
						lists.Add(1)
					}
					time.Sleep(pause)
				}
			})
			var cpu [2]time.Duration
			var took [2][]time.Duration
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			batch := s.engine.NewBatch()
			sub := s.enter(b, l, batch, "listener", 1, packet.Subscription{Filter: "load/topic", QoS: 1})
			pub := s.enter(b, l, batch, "publisher", 2)
			defer pub.Closed(batch, nil)
			defer sub.Closed(batch, nil)
			const messages = 32
			var in, acks []byte
			for i := range messages {
				in = (&packet.Publish{Topic: []byte("load/topic"), Payload: make([]byte, 64), QoS: 1, PacketID: uint16(i + 1)}).Append(in, packet.V311)
			}
			id := uint16(0)
			for b.Loop() {
				for turns := range 16 {
					turn := turns % 2
					listing.Store(turn == 1)
					for turn == 0 && busy.Load() { // its last answer is on the way
						time.Sleep(time.Millisecond)
					}
					begin := time.Now()
					for i := range 125 {
						due := begin.Add(time.Duration(i) * 2 * time.Millisecond)
						time.Sleep(time.Until(due))
						before := threadCPU()
						pub.Feed(batch, in)
						batch.Flush()
						acks = acks[:0]
						for range messages {
							if id++; id == 0 {
								id = 1
							}
							acks = packet.AppendAck(acks, packet.V311, packet.TypePuback, id, 0)
						}
						sub.Feed(batch, acks)
						batch.Flush()
						cpu[turn] += threadCPU() - before
						took[turn] = append(took[turn], time.Since(due))
					}
				}
			}
			close(stop)
			wg.Wait()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(lists.Load())/(float64(len(took[1]))*.002), "lists/s")
			for turn, name := range []string{"alone", "listing"} {
				b.ReportMetric(float64(cpu[turn].Nanoseconds())/float64(32*len(took[turn])), "cpu-ns/msg-"+name)
				b.ReportMetric(float64(quantile(took[turn], .5).Microseconds()), "p50-us-"+name)
				b.ReportMetric(float64(quantile(took[turn], .99).Microseconds()), "p99-us-"+name)
			}
		})
	}
}
