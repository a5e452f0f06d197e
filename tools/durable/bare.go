package main

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// bare is what there is to win: n callers append a record to a file and wait until it is synced; those that come while a sync is under way
// share the next one. The file is reserved beforehand, as the store's are.
func (b *bench) bare(n int) (s sample, err error) {
	f, err := os.Create(filepath.Join(b.work, "bare"))
	if err != nil {
		return s, err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	_ = syscall.Fallocate(int(f.Fd()), 0, 0, 64<<20) // where it cannot be had, neither has the store
	record := make([]byte, b.payload+60)
	l := &log{f: f, wake: make(chan struct{}, 1), stop: make(chan struct{})}
	l.next = make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- l.run() }()
	var wg sync.WaitGroup
	times := make([][]time.Duration, n)
	begin := time.Now()
	for i := range n {
		wg.Go(func() {
			for b.ctx.Err() == nil && time.Since(begin) < b.round {
				t := time.Now()
				l.append(record)
				times[i] = append(times[i], time.Since(t))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	close(l.stop)
	if err := <-ended; err != nil {
		return s, err
	}
	count := 0
	s.p50, s.p99, count = latencies(times)
	s.rate = float64(count) / took.Seconds()
	s.bytes = float64(len(record))
	return s, nil
}

// log is a file with a group commit.
type log struct {
	f    *os.File
	wake chan struct{}
	stop chan struct{}

	mu   sync.Mutex
	buf  []byte
	next chan struct{} // closed when what is in buf is synced
}

func (l *log) append(record []byte) {
	l.mu.Lock()
	l.buf = append(l.buf, record...)
	done := l.next
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-done
}

func (l *log) run() error {
	var spare []byte
	var failed error
	for at := int64(0); ; {
		select {
		case <-l.wake:
		case <-l.stop:
			return failed
		}
		l.mu.Lock()
		buf, done := l.buf, l.next
		l.buf, l.next = spare[:0], make(chan struct{})
		l.mu.Unlock()
		if at+int64(len(buf)) > 64<<20 {
			at = 0
		}
		if _, err := l.f.WriteAt(buf, at); err != nil && failed == nil {
			failed = err
		}
		if err := syscall.Fdatasync(int(l.f.Fd())); err != nil && failed == nil {
			failed = err
		}
		at += int64(len(buf))
		spare = buf
		close(done)
	}
}
