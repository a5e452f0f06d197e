package transport_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/engine/transport/transporttest"
)

// TestMain runs the server of a limited test when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv("TRANSPORT_LIMITED") != "" {
		limitedChild()
		return
	}
	os.Exit(m.Run())
}

// The child's limits. ballast is what other parts of a program have open.
const (
	childLimit   = 200
	childReserve = 60
)

// limitedChild serves echoes in a process with few descriptors, and does what
// its standard input says: "open N" files, "close" them, "cpu" used in ms,
// "refused" by the reserve and otherwise.
func limitedChild() {
	check := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	// Go raises the soft limit of its own accord; what counts is what is set here.
	check(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: childLimit, Max: childLimit}))
	t := new(testing.T)
	d := newDriver(t, transport.Options{ReserveFiles: childReserve, Goroutines: os.Getenv("TRANSPORT_LIMITED") == "goroutines"})
	l, err := d.Open(transport.ListenOptions{Address: "127.0.0.1:0"})
	check(err)
	serveMirror(t, l)
	fmt.Println(l.Addr())
	var files []*os.File
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var n int
		switch cmd := in.Text(); {
		case strings.HasPrefix(cmd, "open "):
			_, err := fmt.Sscanf(cmd, "open %d", &n)
			check(err)
			opened := 0
			for range n {
				f, err := os.Open(os.DevNull)
				if err != nil {
					break
				}
				files = append(files, f)
				opened++
			}
			fmt.Println(opened)
		case cmd == "close":
			for _, f := range files {
				check(f.Close())
			}
			files = nil
			fmt.Println(0)
		case cmd == "cpu":
			var ru syscall.Rusage
			check(syscall.Getrusage(syscall.RUSAGE_SELF, &ru))
			fmt.Println((ru.Utime.Nano() + ru.Stime.Nano()) / 1e6)
		case cmd == "refused":
			fmt.Println(l.Refused().Descriptors + l.Refused().Other)
		}
	}
}

type limited struct {
	t    *testing.T
	addr string
	in   io.Writer
	out  *bufio.Scanner
}

func startLimited(t *testing.T, kind string) *limited {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TRANSPORT_LIMITED="+kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends the child
		if err := cmd.Wait(); err != nil {
			t.Error("child:", err)
		}
	})
	p := &limited{t: t, in: in, out: bufio.NewScanner(out)}
	if !p.out.Scan() {
		t.Fatal("the child does not speak")
	}
	p.addr = p.out.Text()
	return p
}

// ask tells the child something and returns the number that it answers.
func (p *limited) ask(what string) (n int) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, what); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatal("the child has ended")
	}
	if _, err := fmt.Sscan(p.out.Text(), &n); err != nil {
		p.t.Fatalf("%s: %q", what, p.out.Text())
	}
	return n
}

// try connects and reports whether it got an echo.
func (p *limited) try() (net.Conn, bool) {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience)) // what is below fails then
	if _, err := c.Write([]byte("x")); err == nil {
		if _, err = io.ReadFull(c, make([]byte, 1)); err == nil {
			return c, true
		}
		if os.IsTimeout(err) {
			p.t.Fatal("neither let in nor refused")
		}
	}
	_ = c.Close()
	return nil, false
}

func TestDescriptorLimit(t *testing.T) {
	for _, kind := range []string{"loops", "goroutines"} {
		t.Run(kind, func(t *testing.T) {
			p := startLimited(t, kind)
			var conns []net.Conn
			storm := func() {
				for range 2 * childLimit {
					if c, ok := p.try(); ok {
						t.Cleanup(func() { _ = c.Close() })
						conns = append(conns, c)
					}
				}
			}
			storm()
			most := childLimit - childReserve
			if n := len(conns); n > most || n < most-30 {
				t.Fatalf("%d connections let in, want somewhat less than %d", n, most)
			}
			if n := p.ask("refused"); n != 2*childLimit-len(conns) {
				t.Errorf("%d counted as refused, want %d", n, 2*childLimit-len(conns))
			}
			// The rest of the program has what was reserved for it.
			if n := p.ask("open 50"); n != 50 {
				t.Errorf("%d files of 50 opened", n)
			}
			for _, c := range conns {
				echoes(t, c, "", "undisturbed")
			}
			// A place that was left can be taken.
			_ = conns[0].Close()
			_ = conns[1].Close()
			conns = conns[2:]
			p.ask("close")
			transporttest.Eventually(t, "there is room again", func() bool {
				c, ok := p.try()
				if ok {
					conns = append(conns, c)
				}
				return ok
			})
		})
	}
}

// TestNoDescriptors: the rest of the program has used up the last descriptor.
func TestNoDescriptors(t *testing.T) {
	for _, kind := range []string{"loops", "goroutines"} {
		t.Run(kind, func(t *testing.T) {
			p := startLimited(t, kind)
			first, ok := p.try()
			if !ok {
				t.Fatal("refused at the start")
			}
			defer first.Close()
			p.ask(fmt.Sprintf("open %d", childLimit))
			waiting, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer waiting.Close()
			if kind == "loops" {
				_ = waiting.SetDeadline(time.Now().Add(patience)) // reads fail then
				refused(t, waiting)
			}
			before := p.ask("cpu")
			time.Sleep(300 * time.Millisecond) // in which nothing should happen
			if used := p.ask("cpu") - before; used > 100 {
				t.Errorf("%d ms of CPU in 300 ms: it spins", used)
			}
			echoes(t, first, "", "undisturbed")
			p.ask("close")
			transporttest.Eventually(t, "connections are let in again", func() bool {
				c, ok := p.try()
				if ok {
					_ = c.Close()
				}
				return ok
			})
		})
	}
}
