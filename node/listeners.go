package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/lacewing-mqtt/lacewing/config"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/impl/websocket"
)

// mqttListener is one open MQTT address: the socket of the transport and the
// engine's side of it.
type mqttListener struct {
	name   string // as in Addr: "mqtt:tcp external"
	socket *transport.Listener
	side   *engine.Listener
	web    *websocket.Upgrader // nil without WebSocket
}

func (l *mqttListener) addr() net.Addr { return l.socket.Addr() }
func (l *mqttListener) serve() error   { return l.socket.Serve(l.side) }
func (l *mqttListener) reload() error  { return l.socket.Reload() }

// close stops listening; connections stay until the engine ends them.
func (l *mqttListener) close() error {
	l.side.Remove()
	return l.socket.Close()
}

// openMQTT opens every MQTT listener of the configuration. On an error those that were
// opened are closed again.
func (n *Node) openMQTT() error {
	var open []*mqttListener
	for _, l := range n.cfg.Load().Listeners() {
		one, err := n.openListener(l)
		if err != nil {
			for _, o := range open {
				err = errors.Join(err, o.close())
			}
			return err
		}
		open = append(open, one)
	}
	n.mqtt.Store(&open)
	n.configureWebSocket(n.cfg.Load()) // which may have changed meanwhile
	return nil
}

// mqttListeners returns the open MQTT listeners, none before the node serves. The
// list never changes: their addresses take effect at the start.
func (n *Node) mqttListeners() []*mqttListener {
	if open := n.mqtt.Load(); open != nil {
		return *open
	}
	return nil
}

func (n *Node) openListener(l config.Listener) (*mqttListener, error) {
	name := "mqtt:" + l.Type + " " + l.Name
	opts, err := n.listenOptions(l)
	if err != nil {
		return nil, err
	}
	var web *websocket.Upgrader
	if l.Type == "ws" || l.Type == "wss" {
		if web, err = websocket.NewUpgrader(webSocketOptions(n.cfg.Load())); err != nil {
			return nil, fmt.Errorf("listener %s: %w", name, err)
		}
		opts.Upgrader = web
	}
	socket, err := n.driver.Open(opts)
	if err != nil {
		return nil, openError(name, l.Address, err)
	}
	side, err := n.engine.AddListener(listenerOptions(l, shownAddress(l.Address, socket.Addr())))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listener %s: %w", name, err), socket.Close())
	}
	return &mqttListener{name: name, socket: socket, side: side, web: web}, nil
}

func webSocketOptions(cfg *config.Config) websocket.Options {
	return websocket.Options{AnyProtocol: !cfg.Bool("mqtt.websocket_protocol_header")}
}

// configureWebSocket brings the WebSocket listeners to a configuration.
func (n *Node) configureWebSocket(cfg *config.Config) {
	for _, l := range n.mqttListeners() {
		if l.web == nil {
			continue
		}
		if err := l.web.Configure(webSocketOptions(cfg)); err != nil {
			n.log.Error("listener not configured", "listener", l.name, "err", err)
		}
	}
}

// listenOptions cuts a listener into the transport's form.
func (n *Node) listenOptions(l config.Listener) (transport.ListenOptions, error) {
	o := transport.ListenOptions{
		Name:          "mqtt:" + l.Type + " " + l.Name,
		Address:       l.Address,
		ProxyProtocol: l.ProxyProtocol,
		ProxyTimeout:  l.ProxyProtocolTimeout,
	}
	for _, r := range l.Access {
		o.Access = append(o.Access, transport.AccessRule{Allow: r.Allow, Prefix: r.Net})
	}
	if len(l.Access) > 0 { // an address without a rule is let in
		o.Access = append(o.Access, transport.AccessRule{Allow: true})
	}
	if l.TLS != nil {
		t, err := n.tlsFiles(*l.TLS)
		if err != nil {
			return o, err
		}
		o.TLS, o.HandshakeTimeout = &t, l.TLS.HandshakeTimeout
	}
	return o, nil
}

// tlsFiles names the files and rules of a TLS listener; without configured files
// those are the node's own, made when they are missing.
func (n *Node) tlsFiles(c config.TLS) (transport.TLS, error) {
	t := transport.TLS{
		CertFile: c.CertFile, KeyFile: c.KeyFile, CAFile: c.CAFile,
		Verify: c.VerifyPeer, RequireCert: c.VerifyPeer && c.FailIfNoPeerCert,
		Ciphers: c.Ciphers,
	}
	t.MinVersion, t.MaxVersion = tlsVersions(c.Versions)
	switch {
	case t.CertFile == "" && t.KeyFile == "":
		dir := n.data.file("certs")
		t.CertFile, t.KeyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		if err := ensureSelfSigned(t.CertFile, t.KeyFile, n.host()); err != nil {
			return t, err
		}
	case t.CertFile == "" || t.KeyFile == "":
		return t, &StartError{What: "TLS needs certfile and keyfile together; only one of them is configured", Code: ExitConfig}
	}
	for _, f := range []struct{ what, name string }{{"certificate", t.CertFile}, {"key", t.KeyFile}, {"CA file", t.CAFile}} {
		if f.name == "" {
			continue
		}
		if err := readable(f.name); err != nil {
			return t, &StartError{What: "TLS " + f.what + " " + f.name + " cannot be read", Err: reason(err), Code: ExitConfig}
		}
	}
	return t, nil
}

// openError says for an operator why a listener was not opened.
func openError(name, address string, err error) error {
	if _, ok := errors.AsType[*net.OpError](err); ok || isSystem(err) {
		return listenError(name, address, err)
	}
	return &StartError{What: "listener " + name + " cannot be opened", Err: err, Code: ExitConfig}
}

// shownAddress is what the lists show of a listener: a bare port stays one, with the
// real number in place of 0.
func shownAddress(configured string, bound net.Addr) string {
	host, port, err := net.SplitHostPort(bound.String())
	if err != nil {
		return bound.String()
	}
	if !strings.Contains(configured, ":") {
		return port
	}
	if h, _, err := net.SplitHostPort(configured); err == nil && h != "" {
		host = h
	}
	return net.JoinHostPort(host, port)
}
