package raftstore

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Table names a table for [Store.Watch].
type Table uint8

// The tables.
const (
	Users Table = iota
	Applications
	Bans
	Config
	PluginStates
	PluginConfigs
	Credentials
	Members    // who is in the cluster; see [Store.Members]
	MarksTable // see [Store.PutMarks]
	sealKeys
	tableCount
)

// Hash is a stored password hash. It prints as stars.
type Hash string

// Format prints stars for every verb.
func (Hash) Format(f fmt.State, _ rune) { io.WriteString(f, "******") } // fmt has nowhere to report an error to

// User is an admin user of the management API.
type User struct {
	Name    string `json:"name"` // case-sensitive, any UTF-8
	Hash    Hash   `json:"hash"`
	Tags    string `json:"tags"`
	Created int64  `json:"created"` // Unix seconds
}

// Check reports whether password is the user's. It takes some 50 ms of a core:
// callers bound how many run at a time, and remember what was right.
func (u User) Check(password string) bool { return CheckPassword(u.Hash, password) }

// Application may use the v3 API with its identifier and secret.
type Application struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Desc    string `json:"desc"`
	Status  bool   `json:"status"`  // false: its credentials are refused
	Expired int64  `json:"expired"` // Unix seconds after which it is refused; 0 is never
	Created int64  `json:"created"` // Unix seconds
	Sealed  []byte `json:"sealed"`  // the secret, readable with the node's key alone
}

// Good reports whether the application may log in at a time.
func (a Application) Good(now time.Time) bool {
	return a.Status && (a.Expired == 0 || a.Expired >= now.Unix())
}

// The kinds of a ban: what Who is compared with.
const (
	BanClientID  = "client_id"
	BanUsername  = "username"
	BanIPAddress = "ip_address"
)

// Ban keeps clients from connecting.
type Ban struct {
	As     string `json:"as"`  // BanClientID, BanUsername or BanIPAddress
	Who    string `json:"who"` // an address is kept in its shortest form
	Reason string `json:"reason"`
	By     string `json:"by"`
	Desc   string `json:"desc"`
	Until  int64  `json:"until"` // Unix seconds at which it ends; 0 is never
}

// Ended reports whether the ban is over.
func (b Ban) Ended(now time.Time) bool { return b.Until != 0 && b.Until <= now.Unix() }

// Pair is one key of a plugin's configuration.
type Pair struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

// state is all metadata at one index of the log. It is immutable: a command
// makes a new one that shares what it did not change.
type state struct {
	users     tree[User]
	apps      tree[Application]
	bans      tree[Ban]      // by as, 0, who
	banEnds   tree[struct{}] // by end and key, of those bans that end
	config    tree[string]   // by node ("" is the cluster), 0, key
	states    tree[bool]     // by node, 0, plugin
	plugins   tree[[]Pair]   // by node, 0, plugin
	creds     tree[Credential]
	members   tree[Member] // by identity
	key       clusterKey
	marks     Marks
	recent    tree[request] // by request id: what was answered, for a repeated request
	recentAge tree[string]  // by age: request id
	clock     uint64        // counts requests; the age of the next one
}

// request is the outcome of a command that may be asked for again.
type request struct {
	Age     uint64  `json:"age"`
	Outcome outcome `json:"outcome"`
}

func pairKey(a, b string) string { return a + "\x00" + b }

func splitKey(k string) (a, b string) {
	a, b, _ = strings.Cut(k, "\x00")
	return a, b
}

// endKey orders bans by their end: a fixed number of digits sorts bytewise as
// the numbers do.
func endKey(until int64, key string) string {
	return fmt.Sprintf("%020d", max(until, 0)) + key
}

func ageKey(age uint64) string {
	s := strconv.FormatUint(age, 10)
	return strings.Repeat("0", 20-len(s)) + s
}

// View is a consistent read-only state of all metadata. It costs nothing to
// take and never changes; what was acknowledged before it was taken is in it.
type View struct {
	s    *state
	seal *sealer
}

// User returns an admin user.
func (v View) User(name string) (User, bool) { return v.s.users.get(name) }

// Users returns a page of the admin users by name, and how many there are. A
// limit below 0 is no limit.
func (v View) Users(offset, limit int) ([]User, int) { return page(v.s.users, offset, limit) }

// Application returns an application.
func (v View) Application(id string) (Application, bool) { return v.s.apps.get(id) }

// Applications returns a page of the applications by identifier, and how many
// there are. A limit below 0 is no limit.
func (v View) Applications(offset, limit int) ([]Application, int) {
	return page(v.s.apps, offset, limit)
}

// Secret returns the secret of an application.
func (v View) Secret(a Application) (string, error) {
	b, err := v.seal.open(a.Sealed, a.ID)
	if err != nil {
		return "", fmt.Errorf("read the secret of application %q: %w", a.ID, err)
	}
	return string(b), nil
}

// CheckApplication reports whether an application may log in with secret.
func (v View) CheckApplication(id, secret string, now time.Time) bool {
	a, ok := v.Application(id)
	if !ok || !a.Good(now) {
		return false
	}
	is, err := v.Secret(a)
	return err == nil && equalSecrets(is, secret)
}

// Ban returns the ban of (as, who), also one that has ended and was not swept
// yet.
func (v View) Ban(as, who string) (Ban, bool) {
	return v.s.bans.get(pairKey(as, canonicalWho(as, who)))
}

// Bans returns a page of the bans in force, ordered by as and who, and how
// many there are. A limit below 0 is no limit. While bans that have ended are
// not swept yet, a page costs what is before it too.
func (v View) Bans(now time.Time, offset, limit int) ([]Ban, int) {
	ended := v.s.banEnds.rank(endKey(now.Unix()+1, ""))
	total := v.s.bans.len() - ended
	if ended == 0 {
		return page(v.s.bans, offset, limit)
	}
	rows := []Ban{}
	v.s.bans.walk(0, func(_ string, b Ban) bool {
		switch {
		case limit >= 0 && len(rows) >= limit:
			return false
		case b.Ended(now):
		case offset > 0:
			offset--
		default:
			rows = append(rows, b)
		}
		return true
	})
	return rows, total
}

// Banned returns the ban that keeps a client out: by its identifier, its user
// name, or its address. An empty identifier or user name and the zero address
// are not looked up.
func (v View) Banned(clientID, username string, addr netip.Addr, now time.Time) (Ban, bool) {
	for _, k := range [...]struct{ as, who string }{{BanClientID, clientID}, {BanUsername, username}, {BanIPAddress, addrText(addr)}} {
		if k.who == "" {
			continue
		}
		if b, ok := v.s.bans.get(pairKey(k.as, k.who)); ok && !b.Ended(now) {
			return b, true
		}
	}
	return Ban{}, false
}

// NextBanEnd returns when the first ban ends.
func (v View) NextBanEnd() (time.Time, bool) {
	var end time.Time
	v.s.banEnds.walk(0, func(k string, _ struct{}) bool {
		n, err := strconv.ParseInt(k[:20], 10, 64)
		if err != nil {
			panic("raftstore: index of bans holds " + strconv.Quote(k))
		}
		end = time.Unix(n, 0)
		return false
	})
	return end, !end.IsZero()
}

// Config returns the configuration of a scope: a node's, or with [Cluster] the
// one of all nodes.
func (v View) Config(scope string) map[string]string { return scoped(v.s.config, scope) }

// PluginStates returns the plugins of a node whose state somebody has set, and
// whether they are to be loaded.
func (v View) PluginStates(node string) map[string]bool { return scoped(v.s.states, node) }

// PluginConfig returns the configuration that was set for a plugin of a node,
// in the order in which it was set; false when none was.
func (v View) PluginConfig(node, plugin string) ([]Pair, bool) {
	pairs, ok := v.s.plugins.get(pairKey(node, plugin))
	return append([]Pair(nil), pairs...), ok
}

// PluginConfigs returns the configurations that were set for the plugins of a
// node.
func (v View) PluginConfigs(node string) map[string][]Pair { return scoped(v.s.plugins, node) }

// Credential returns the credential of an identifier.
func (v View) Credential(kind, id string) (Credential, bool) {
	return v.s.creds.get(pairKey(kind, id))
}

// Credentials returns a page of the credentials of a kind by identifier, and
// how many there are. A limit below 0 is no limit.
func (v View) Credentials(kind string, offset, limit int) ([]Credential, int) {
	first, end := v.s.creds.rank(pairKey(kind, "")), v.s.creds.rank(kind+"\x01")
	rows, total := []Credential{}, end-first
	offset = max(offset, 0)
	left := total - offset
	if limit >= 0 {
		left = min(left, limit)
	}
	if left <= 0 {
		return rows, total
	}
	v.s.creds.walk(first+offset, func(_ string, c Credential) bool {
		rows = append(rows, c)
		return len(rows) < left
	})
	return rows, total
}

func page[V any](t tree[V], offset, limit int) ([]V, int) {
	rows := []V{}
	if limit != 0 {
		t.walk(max(offset, 0), func(_ string, v V) bool {
			rows = append(rows, v)
			return len(rows) != limit
		})
	}
	return rows, t.len()
}

func scoped[V any](t tree[V], scope string) map[string]V {
	out := map[string]V{}
	t.from(pairKey(scope, ""), func(k string, v V) {
		_, name := splitKey(k)
		out[name] = v
	})
	return out
}

// addrText is the form in which an address is kept: IPv4-mapped ones as IPv4,
// without a zone.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.Unmap().WithZone("").String()
}

// canonicalWho returns who as it is kept. Text that is no address stays: it is
// in no table.
func canonicalWho(as, who string) string {
	if as == BanIPAddress {
		if a, err := netip.ParseAddr(who); err == nil {
			return addrText(a)
		}
	}
	return who
}
