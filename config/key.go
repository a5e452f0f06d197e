// Package config holds the one table of keys: what a key is called, what it
// may be, what it means, where its value came from. The configuration file,
// the environment, the flags, the hot configuration of both REST APIs, the
// configuration of plugins and the printed reference are all read from it.
//
// A [Table] is assembled once from the keys of this package ([Core]) and those
// of the plugins. [Load] reads the layers over it into a [Config], a frozen
// snapshot with typed getters; a change while the node runs makes a new
// snapshot ([Config.With]), and [Diff] says what differs.
package config

import "time"

// Type is the kind of a value: how text is read, checked and shown.
type Type string

// The types of values. The text in brackets is what the hot configuration
// shows.
const (
	String   Type = "string"   // any text
	Flag     Type = "flag"     // on, off, true, false [true, false]
	Integer  Type = "integer"  // decimal, between Min and Max
	Float    Type = "float"    // decimal fraction [four decimals]
	Duration Type = "duration" // ms, s, m, h, d and sums such as 1h30m [milliseconds]
	Bytesize Type = "bytesize" // B, KB, MB, GB, powers of 1024 [bytes]
	Percent  Type = "percent"  // 20% or 0.2 [four decimals of the fraction]
	Enum     Type = "enum"     // one word of Key.Enum
	Address  Type = "address"  // off, port, host:port, [v6]:port
	List     Type = "list"     // words separated by commas; each of Key.Enum where that is set
	SecretT  Type = "secret"   // text that is never shown
	Rate     Type = "rate"     // amount a second, and the burst after a comma: 10,100; 0 is unlimited
	Access   Type = "access"   // allow or deny, and all, an address or a CIDR range
)

// Key is one row of the table.
type Key struct {
	// Name is the canonical name. One level may be a pattern: $name stands for
	// any name, $N for a number from 1 (zone.$name.max_inflight,
	// auth.client.$N.clientid). A further level may be $N in a key that has no
	// aliases and no default (listener.tcp.$name.access.$N).
	Name string
	// Aliases are further names that mean this key in every layer. An alias of
	// a pattern key either has the same pattern level, or stands for the
	// instance that For names.
	Aliases []string
	// For is the instance that aliases and V2 rows without a pattern level
	// mean, and that always exists: "external" for zone.$name.max_inflight.
	For string

	Type    Type
	Default string            // text as a file would have it; "" is unset
	Named   map[string]string // defaults of single instances of a pattern; these instances always exist
	Inherit string            // the key whose value is used while this one is not set
	Enum    []string          // the words of an Enum, or those a List may hold
	Min     float64           // lower bound of numbers, in the unit that is shown
	Max     float64           // upper bound; 0 is none
	Check   func(string) error

	// Hot keys take effect at once, the others at the next start.
	Hot bool
	// App is the application under which the v3 API lists the key ("emqx",
	// "emqx_retainer"); "" for keys outside the hot configuration.
	App string
	// Datatype is the word that the v3 API shows, where it is not the Type.
	Datatype string
	// V2 are the rows of the v2 API that show this key.
	V2 []V2

	// Plugin is the plugin (without prefix: "retainer") in whose
	// plugin_configs the key appears; "" for none.
	Plugin string

	Doc string // what the key does, in sentences, for the reference
}

// V2 is a row of the hot configuration of the REST API v2. Key is accepted as
// an alias in every layer.
type V2 struct {
	App      string // "emqttd", "emq_retainer"
	Key      string // "mqtt.session.max_inflight"
	Datatype string // the documented word
	// Unit of a duration that v2 shows as a plain number other than
	// milliseconds; a number without a unit is read in it too.
	Unit time.Duration
}
