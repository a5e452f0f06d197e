package node

import (
	"context"

	"github.com/lacewing-mqtt/lacewing/plugins/reloader"
)

// watched are the files that the plugin reloader looks at.
func (n *Node) watched() []reloader.File {
	files := []reloader.File{{Name: "ACL file " + n.cfg.Load().String("mqtt.acl_file"), Changed: n.acl.changed, Reload: n.ReloadACL}}
	if n.file != "" && n.load != nil {
		files = append(files, reloader.File{
			Name:    "configuration file " + n.file,
			Changed: func() bool { return n.stamps.changed("configuration", n.file) },
			Reload: func(ctx context.Context) error {
				return n.stamps.taking("configuration", n.ReloadConfig, n.file)(ctx)
			},
		})
	}
	for _, l := range n.mqttListeners() {
		if t := l.socket.Options().TLS; t != nil {
			files = append(files, n.certificateFile(l.name, func() error { return l.reload() }, t.CertFile, t.KeyFile, t.CAFile))
		}
	}
	for _, l := range n.web.listeners("") {
		if l.cert != nil {
			f := l.cert.files
			files = append(files, n.certificateFile(l.name, l.cert.reload, f.CertFile, f.KeyFile, f.CAFile))
		}
	}
	return files
}

func (n *Node) certificateFile(listener string, reload func() error, names ...string) reloader.File {
	return reloader.File{
		Name:    "certificate of " + listener,
		Changed: func() bool { return n.stamps.changed(listener, names...) },
		Reload:  n.stamps.taking(listener, func(context.Context) error { return reload() }, names...),
	}
}
