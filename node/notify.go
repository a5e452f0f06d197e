package node

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier speaks the readiness protocol of service supervisors: datagrams of
// KEY=VALUE lines to the socket that NOTIFY_SOCKET names. Without the variable it
// does nothing.
type notifier struct{ conn *net.UnixConn }

func newNotifier() *notifier {
	name := os.Getenv("NOTIFY_SOCKET") // a leading @ is the abstract name space, which net understands
	if name == "" {
		return &notifier{}
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return &notifier{} // nobody listens: the node runs all the same
	}
	return &notifier{conn}
}

func (n *notifier) send(format string, args ...any) {
	if n.conn != nil {
		fmt.Fprintf(n.conn, format, args...) // a supervisor that is gone cannot be told
	}
}

func (n *notifier) ready(status string) { n.send("READY=1\nSTATUS=%s\n", status) }
func (n *notifier) stopping()           { n.send("STOPPING=1\nSTATUS=stopping\n") }
func (n *notifier) alive()              { n.send("WATCHDOG=1\n") }

// watchdog is how often the supervisor wants to hear alive; 0: never.
func (n *notifier) watchdog() time.Duration {
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if n.conn == nil || err != nil || us <= 0 {
		return 0
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(us) * time.Microsecond / 2
}

func (n *notifier) close() {
	if n.conn != nil {
		n.conn.Close() // datagrams: nothing is lost
	}
}
