package raftstore

import (
	"encoding/json"
	"fmt"
)

// A command is an entry of the log: type, version, request id, body.
//
//	byte 0      type
//	byte 1      version of the body
//	byte 2-17   request id, chosen by the proposer, the same in every retry
//	byte 18-    body, JSON
//
// The proposer stamps time, identifiers, salts, hashes and limits: applying a
// command reads nothing but the command and the tables.
type kind uint8

// The types of commands. Numbers are never reused; a type that is retired
// keeps its line. A type from skippable on may be passed over by a node that
// does not know it.
const (
	cmdCreateUser        kind = 1
	cmdUserTags          kind = 2
	cmdUserPassword      kind = 3
	cmdDeleteUser        kind = 4
	cmdCreateApplication kind = 5
	cmdUpdateApplication kind = 6
	cmdDeleteApplication kind = 7
	cmdPutBan            kind = 8
	cmdDeleteBan         kind = 9
	cmdSweepBans         kind = 10
	cmdSetConfig         kind = 11
	cmdDeleteConfig      kind = 12
	cmdPluginState       kind = 13
	cmdPluginConfig      kind = 14
	cmdPutCredential     kind = 15
	cmdDeleteCredential  kind = 16
	cmdPutMember         kind = 17
	cmdDropMember        kind = 18
	cmdClusterKey        kind = 19
	cmdPutMarks          kind = 20 // of feature level 2

	skippable kind = 0x80
)

const (
	commandVersion = 1
	requestIDSize  = 16
	headerSize     = 2 + requestIDSize
)

// The bodies.
type (
	createUser struct {
		User User `json:"user"`
		Max  int  `json:"max"`
	}
	userTags struct {
		Name string `json:"name"`
		Tags string `json:"tags"`
	}
	userPassword struct {
		Name string `json:"name"`
		Hash Hash   `json:"hash"`
	}
	byName struct {
		Name string `json:"name"`
	}
	createApplication struct {
		App Application `json:"app"`
		Max int         `json:"max"`
	}
	updateApplication struct {
		App Application `json:"app"` // without secret and time
	}
	putBan struct {
		Ban Ban `json:"ban"`
		Max int `json:"max"`
	}
	deleteBan struct {
		As  string `json:"as"`
		Who string `json:"who"`
	}
	sweepBans struct {
		Now int64 `json:"now"`
	}
	setConfig struct {
		Scope string `json:"scope"`
		Key   string `json:"key"`
		Value string `json:"value"`
		Max   int    `json:"max"`
	}
	deleteConfig struct {
		Scope string `json:"scope"`
		Key   string `json:"key"`
	}
	pluginState struct {
		Node   string `json:"node"`
		Plugin string `json:"plugin"`
		Loaded bool   `json:"loaded"`
		Max    int    `json:"max"`
	}
	pluginConfig struct {
		Node   string   `json:"node"`
		Plugin string   `json:"plugin"`
		Pairs  []Pair   `json:"pairs"`
		Keys   []string `json:"keys"` // of the plugin: the node's own values of these go
		Max    int      `json:"max"`
	}
	putCredential struct {
		Cred Credential `json:"cred"`
		When When       `json:"when"`
		Max  int        `json:"max"`
	}
	deleteCredential struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
	}
	putMember struct {
		Member   Member `json:"member"`
		Join     bool   `json:"join"`     // it may be new
		Replaces string `json:"replaces"` // identity that goes: what it had of its own becomes the member's
		Max      int    `json:"max"`
	}
	dropMember struct {
		ID string `json:"id"`
	}
)

// When says on what a [Store.PutCredential] depends.
type When uint8

// The conditions.
const (
	Always    When = 0
	IfAbsent  When = 1 // ErrExists otherwise
	IfPresent When = 2 // ErrNotFound otherwise
)

func encode(k kind, id [requestIDSize]byte, body any) ([]byte, error) {
	b := append([]byte{byte(k), commandVersion}, id[:]...)
	j, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", k, err)
	}
	return append(b, j...), nil
}

// decoded is a command with its body as one of the types above; the body is
// nil when the type is unknown and may be skipped.
type decoded struct {
	kind kind
	id   string
	body any
}

// decode reads an entry. An error means that this release cannot apply it.
func decode(b []byte) (decoded, error) {
	if len(b) < headerSize {
		return decoded{}, fmt.Errorf("command of %d bytes", len(b))
	}
	d := decoded{kind: kind(b[0]), id: string(b[2:headerSize])}
	switch d.kind {
	case cmdCreateUser:
		d.body = new(createUser)
	case cmdUserTags:
		d.body = new(userTags)
	case cmdUserPassword:
		d.body = new(userPassword)
	case cmdDeleteUser, cmdDeleteApplication:
		d.body = new(byName)
	case cmdCreateApplication:
		d.body = new(createApplication)
	case cmdUpdateApplication:
		d.body = new(updateApplication)
	case cmdPutBan:
		d.body = new(putBan)
	case cmdDeleteBan:
		d.body = new(deleteBan)
	case cmdSweepBans:
		d.body = new(sweepBans)
	case cmdSetConfig:
		d.body = new(setConfig)
	case cmdDeleteConfig:
		d.body = new(deleteConfig)
	case cmdPluginState:
		d.body = new(pluginState)
	case cmdPluginConfig:
		d.body = new(pluginConfig)
	case cmdPutCredential:
		d.body = new(putCredential)
	case cmdDeleteCredential:
		d.body = new(deleteCredential)
	case cmdPutMember:
		d.body = new(putMember)
	case cmdDropMember:
		d.body = new(dropMember)
	case cmdClusterKey:
		d.body = new(clusterKey)
	case cmdPutMarks:
		d.body = new(putMarks)
	default:
		if d.kind >= skippable {
			return d, nil
		}
		return decoded{}, fmt.Errorf("command of unknown type %d", d.kind)
	}
	if b[1] != commandVersion {
		return decoded{}, fmt.Errorf("command %d of unknown version %d", d.kind, b[1])
	}
	if err := json.Unmarshal(b[headerSize:], d.body); err != nil {
		return decoded{}, fmt.Errorf("command %d: %w", d.kind, err)
	}
	return d, nil
}
