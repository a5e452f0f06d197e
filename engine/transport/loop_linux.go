package transport

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// loops are the event loops of a driver and the table of their sockets.
type loops struct {
	d     *Driver
	all   []*loop
	table sockTable
	gens  atomic.Uint32
	maxFD atomic.Int64 // descriptors from this number on are for others
	wg    sync.WaitGroup
}

// A loop is one goroutine that waits for its sockets and feeds the engine. All
// fields without a note belong to that goroutine.
type loop struct {
	ls     *loops
	epfd   int
	epoll  *os.File // epfd, watched by Go's poller
	raw    syscall.RawConn
	wakeFD int
	batch  *engine.Batch
	buf    []byte
	events []syscall.EpollEvent
	count  atomic.Int64 // sockets, to spread new ones

	plain   []byte  // decrypted input; made when it is needed
	answer  []byte  // what a codec answers
	drained []*sock // sockets that reported room for output in this round
	timed   []timer // sockets that have a deadline
	paused  []*acceptor
	swept   time.Time
	timing  bool // the wait has a deadline
	spent   bool // the last round had one event, whose input was read whole: epoll has nothing more
	ended   bool
	accepts map[int32]*acceptor

	asleep atomic.Bool // parked, or about to be

	mu       sync.Mutex
	posted   []*sock  // under mu: to be looked at by the loop's goroutine
	tasks    []func() // under mu
	stopping bool     // under mu
	hasWork  atomic.Bool
}

// A timer ends a socket that is still in the same phase at a time.
type timer struct {
	s     *sock
	phase phase
	at    time.Time
}

// sweepEvery is how often deadlines and paused listeners are looked at while
// there are any.
const sweepEvery = 250 * time.Millisecond

// eventsAtOnce bounds a round, and with it the time until what was queued
// while it lasted is written.
const eventsAtOnce = 256

func startLoops(d *Driver) (*loops, error) {
	n := d.opts.Loops
	if n == 0 {
		n = defaultLoops(runtime.GOMAXPROCS(0))
	}
	ls := &loops{d: d}
	ls.limitFiles()
	for range n {
		l, err := ls.open()
		if err != nil {
			for _, l := range ls.all {
				l.release()
			}
			return nil, err
		}
		ls.all = append(ls.all, l)
	}
	for _, l := range ls.all {
		ls.wg.Go(l.run)
	}
	return ls, nil
}

// defaultLoops is one for each processor that Go may use. Where a broker shares
// its processors a single loop costs about as much for each message, but gets
// less done, and one long round then holds up everybody.
func defaultLoops(procs int) int { return max(1, procs) }

func (ls *loops) open() (*loop, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wake, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return nil, errors.Join(errno, syscall.Close(epfd))
	}
	if err := syscall.SetNonblock(epfd, true); err != nil { // or Go's poller does not take it
		return nil, errors.Join(err, syscall.Close(epfd), syscall.Close(int(wake)))
	}
	l := &loop{ls: ls, epfd: epfd, epoll: os.NewFile(uintptr(epfd), "epoll"), wakeFD: int(wake), batch: ls.d.eng.NewBatch(),
		buf: make([]byte, ls.d.opts.ReadBuffer), events: make([]syscall.EpollEvent, eventsAtOnce),
		accepts: map[int32]*acceptor{}}
	// A descriptor that Go's poller did not take has no deadlines, and waiting
	// for it would not wait.
	err = l.epoll.SetReadDeadline(time.Time{})
	if err == nil {
		l.raw, err = l.epoll.SyscallConn()
	}
	if err != nil {
		l.release()
		return nil, err
	}
	if errno := epollControl(epfd, syscall.EPOLL_CTL_ADD, l.wakeFD, syscall.EPOLLIN, 0); errno != 0 {
		l.release()
		return nil, errno
	}
	return l, nil
}

func (l *loop) release() {
	_ = l.epoll.Close() // nothing was written to these: closing cannot lose anything
	_ = syscall.Close(l.wakeFD)
}

// stop ends the loops, after every socket was closed, and waits for them.
func (ls *loops) stop() {
	for _, l := range ls.all {
		l.mu.Lock()
		l.stopping = true
		l.hasWork.Store(true)
		l.mu.Unlock()
		l.wake()
	}
	ls.wg.Wait()
}

func (ls *loops) limitFiles() {
	_, usable := ls.d.files.limits()
	ls.maxFD.Store(int64(usable))
}

// least is the loop with the fewest sockets.
func (ls *loops) least() *loop {
	best := ls.all[0]
	for _, l := range ls.all[1:] {
		if l.count.Load() < best.count.Load() {
			best = l
		}
	}
	return best
}

func (l *loop) run() {
	defer l.release()
	for !l.ended {
		if l.timing = l.waits(); l.timing {
			// It fails on a closed descriptor only, and this one is open.
			_ = l.epoll.SetReadDeadline(time.Now().Add(sweepEvery))
		}
		if err := l.raw.Read(l.rounds); err != nil { // the deadline has passed
			l.round(0)
		}
		if l.timing {
			_ = l.epoll.SetReadDeadline(time.Time{}) // as above
		}
	}
}

// rounds works until there is nothing left to do, and then returns false: its caller parks the goroutine in Go's own
// poller, which watches the loop's epoll descriptor, and calls again. A blocking epoll_wait of our own would leave the
// processor to be taken away by the scheduler's monitor, which costs more than the messages when these come one by one.
// It returns true when the loop has ended or needs another deadline.
//
// After a round with several events it asks without waiting and lets other goroutines run before it parks: meanwhile more
// comes together. After one message read whole it parks at once. DESIGN.md has the measurements.
func (l *loop) rounds(uintptr) (done bool) {
	l.asleep.Store(false)
	several := false
	for {
		n := epollNow(l.epfd, l.events)
		if n > 0 || l.hasWork.Load() {
			l.round(n)
			if l.ended || l.waits() != l.timing {
				return true
			}
			several = n > 1
			if !l.spent {
				continue
			}
		} else if several {
			several = false
			runtime.Gosched()
			continue
		}
		l.asleep.Store(true)
		if !l.hasWork.Load() {
			return false
		}
		l.asleep.Store(false)
	}
}

// round handles the first n events, does what others have asked for, and writes what came of it.
func (l *loop) round(n int) {
	l.spent = false
	for _, ev := range l.events[:n] {
		l.handle(ev)
	}
	l.spent = l.spent && n == 1
	if l.hasWork.Load() {
		l.ended = l.work()
	}
	l.batch.Flush()
	if len(l.drained) > 0 {
		l.disarm()
	}
	if l.waits() {
		l.sweep()
	}
	if l.ended {
		l.closeAll()
		l.batch.Flush()
	}
}

// waits reports whether something is to be looked at even without events.
func (l *loop) waits() bool { return len(l.timed)+len(l.paused) > 0 }

// wake ends the wait of a loop that is blocked. Any goroutine may call it,
// after it has left work.
func (l *loop) wake() {
	if l.asleep.CompareAndSwap(true, false) {
		one := [8]byte{0: 1, 7: 1} // 1 in either byte order does: any value but 0 wakes
		rawWrite(l.wakeFD, one[:])
	}
}

// post asks the loop's goroutine to look at s.
func (l *loop) post(s *sock) {
	l.mu.Lock()
	l.posted = append(l.posted, s)
	l.hasWork.Store(true)
	l.mu.Unlock()
	l.wake()
}

// do runs f on the loop's goroutine. It reports false, and does nothing, when
// the loop is ending.
func (l *loop) do(f func()) bool {
	l.mu.Lock()
	if l.stopping {
		l.mu.Unlock()
		return false
	}
	l.tasks = append(l.tasks, f)
	l.hasWork.Store(true)
	l.mu.Unlock()
	l.wake()
	return true
}

// work does what others have asked for.
func (l *loop) work() (stopping bool) {
	l.mu.Lock()
	posted, tasks := l.posted, l.tasks
	l.posted, l.tasks = nil, nil
	stopping = l.stopping
	l.hasWork.Store(false)
	l.mu.Unlock()
	for _, f := range tasks {
		f()
	}
	for _, s := range posted {
		s.attend()
	}
	return stopping
}

// scratch is a buffer for what one TLS record holds.
func (l *loop) scratch() []byte {
	if l.plain == nil {
		l.plain = make([]byte, 16<<10)
	}
	return l.plain
}

func (l *loop) handle(ev syscall.EpollEvent) {
	if ev.Pad == 0 {
		if a := l.accepts[ev.Fd]; a != nil {
			a.accept()
		} else if int(ev.Fd) == l.wakeFD {
			var b [8]byte
			rawRead(l.wakeFD, b[:])
		}
		return
	}
	// A socket may have been closed, and its number taken by another, earlier
	// in this very round: the generation tells.
	s := l.ls.table.get(int(ev.Fd))
	if s == nil || s.gen != uint32(ev.Pad) || s.loop != l {
		return
	}
	if ev.Events&syscall.EPOLLOUT != 0 {
		s.drain()
	}
	if ev.Events&^uint32(syscall.EPOLLOUT) != 0 {
		s.input(ev.Events)
	}
}

// disarm stops waiting for room of the sockets that took all there was.
func (l *loop) disarm() {
	for i, s := range l.drained {
		s.mu.Lock()
		if s.flags&(gone|full) == 0 && s.flags&wantOut != 0 {
			s.arm(s.flags &^ wantOut)
		}
		s.mu.Unlock()
		l.drained[i] = nil
	}
	l.drained = l.drained[:0]
}

// sweep ends the sockets whose deadline has passed and lets paused listeners
// try again.
func (l *loop) sweep() {
	now := time.Now()
	if now.Sub(l.swept) < sweepEvery {
		return
	}
	l.swept = now
	keep := l.timed[:0]
	for _, t := range l.timed {
		switch {
		case t.s.phase != t.phase: // it has come further in time
		case now.After(t.at):
			t.s.expire()
		default:
			keep = append(keep, t)
		}
	}
	clear(l.timed[len(keep):])
	l.timed = keep
	paused := l.paused
	l.paused = nil
	for _, a := range paused {
		a.resume()
	}
}

// closeAll closes every socket of the loop; the driver is closing.
func (l *loop) closeAll() {
	for _, a := range l.accepts {
		a.close()
	}
	l.ls.table.each(func(s *sock) {
		if s.loop == l {
			s.end(nil)
		}
	})
}

// maxFiles bounds the table of sockets, and so the descriptors that
// connections may use; a higher limit of the process is not used up.
const maxFiles = tableChunks * tableChunk

const (
	tableChunks = 4096
	tableChunk  = 512
)

// A sockTable finds a socket by its descriptor, from any goroutine.
type sockTable struct {
	mu     sync.Mutex // to add a chunk
	chunks [tableChunks]atomic.Pointer[[tableChunk]atomic.Pointer[sock]]
}

func (t *sockTable) get(fd int) *sock {
	if c := t.chunks[fd/tableChunk].Load(); c != nil {
		return c[fd%tableChunk].Load()
	}
	return nil
}

func (t *sockTable) set(fd int, s *sock) {
	c := t.chunks[fd/tableChunk].Load()
	if c == nil {
		t.mu.Lock()
		if c = t.chunks[fd/tableChunk].Load(); c == nil {
			c = new([tableChunk]atomic.Pointer[sock])
			t.chunks[fd/tableChunk].Store(c)
		}
		t.mu.Unlock()
	}
	c[fd%tableChunk].Store(s)
}

func (t *sockTable) each(f func(*sock)) {
	for i := range t.chunks {
		c := t.chunks[i].Load()
		if c == nil {
			continue
		}
		for j := range c {
			if s := c[j].Load(); s != nil {
				f(s)
			}
		}
	}
}
