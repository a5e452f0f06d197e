package node

import (
	"fmt"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/plugins"
	"github.com/lacewing-mqtt/lacewing/plugins/authclientid"
	"github.com/lacewing-mqtt/lacewing/plugins/authusername"
	"github.com/lacewing-mqtt/lacewing/plugins/delayedpublish"
	"github.com/lacewing-mqtt/lacewing/plugins/modules"
	"github.com/lacewing-mqtt/lacewing/plugins/recon"
	"github.com/lacewing-mqtt/lacewing/plugins/reloader"
	"github.com/lacewing-mqtt/lacewing/plugins/retainer"
)

// ownKeys are the keys of the node that the core table does not have.
var ownKeys = []config.Key{
	{
		Name: "node.reserved_descriptors", Type: config.Integer, Default: "256", Min: 16,
		Doc: "File descriptors that MQTT connections leave free for the REST API, stored metadata and logs; connections beyond are refused. Of a small limit a quarter is reserved.",
	},
	{
		Name: "os_mon.procmem_high_watermark", Type: config.Percent, Default: "80%", Hot: true, App: "emqx",
		Doc: "Share of the machine's or container's memory that this process may use before the alarm process_memory_high_watermark is raised.",
	},
}

// builtin describes the plugins that need nothing of the node.
func builtin() []plugins.Descriptor {
	return []plugins.Descriptor{
		authclientid.Descriptor(), authusername.Descriptor(), retainer.Descriptor(), modules.Descriptor(),
		delayedpublish.Descriptor(), recon.Descriptor(),
	}
}

// Table returns the table of all keys of a node, those of its plugins included.
func Table() *config.Table {
	groups := [][]config.Key{config.Core(), ownKeys, reloader.Descriptor(nil, "").Keys}
	for _, d := range builtin() {
		groups = append(groups, d.Keys)
	}
	t, err := config.NewTable(groups...)
	if err != nil {
		panic(fmt.Sprintf("node: %v", err)) // the keys are part of the program
	}
	return t
}
