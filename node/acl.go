package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/acl"
)

// defaultACLFile is the name that mqtt.acl_file has by default. It need not exist.
const defaultACLFile = "etc/acl.conf"

// builtinACL holds while the file of the default name does not exist: the rules
// that EMQ ships.
const builtinACL = `
{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.
{allow, {ipaddr, "127.0.0.1"}, pubsub, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}]}.
{allow, all}.
`

// aclFile is the authorizer of the ACL file. It is asked after the plugins' ones.
type aclFile struct {
	rules atomic.Pointer[acl.Rules]

	mu     sync.Mutex // held over reading
	name   string
	stamps []stamp
}

// load reads a file of rules. After an error the old rules stay.
func (a *aclFile) load(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	stamps := stampFiles(name)
	text, err := os.ReadFile(name)
	from := name
	if errors.Is(err, fs.ErrNotExist) && name == defaultACLFile {
		text, from, err = []byte(builtinACL), "built-in rules", nil
	}
	if err != nil {
		return &StartError{What: "ACL file " + name + " cannot be read", Err: reason(err), Code: ExitConfig}
	}
	rules, err := acl.Parse(from, strings.NewReader(string(text)))
	if err != nil {
		return &StartError{What: "ACL file", Err: err, Code: ExitConfig}
	}
	a.rules.Store(rules)
	a.name, a.stamps = name, stamps
	return nil
}

// changed reports whether the file on disk is another one than that in use.
func (a *aclFile) changed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !equalStamps(a.stamps, stampFiles(a.name))
}

// Authorize implements engine.Authorizer.
func (a *aclFile) Authorize(c *engine.ClientInfo, action engine.Action, topic string) engine.Verdict {
	return a.rules.Load().Authorize(c, action, topic)
}

// ReloadACL reads the ACL file again. What a connection remembers holds until its
// time is over (acl_cache_ttl) or it is cleaned through the API. A file that cannot
// be read or parsed changes nothing.
func (n *Node) ReloadACL(context.Context) error {
	return n.acl.load(n.cfg.Load().String("mqtt.acl_file"))
}
