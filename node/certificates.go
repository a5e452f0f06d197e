package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine/transport"
)

// httpCertificate is the TLS configuration of an HTTPS listener, replaced as a whole.
type httpCertificate struct {
	files transport.TLS
	now   atomic.Pointer[tls.Config]
}

func loadHTTPCertificate(files transport.TLS) (*httpCertificate, error) {
	c := &httpCertificate{files: files}
	return c, c.reload()
}

func (c *httpCertificate) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load(), nil }}
}

// reload reads the files again; after an error the old ones stay.
func (c *httpCertificate) reload() error {
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return &StartError{What: "TLS certificate " + c.files.CertFile + " with key " + c.files.KeyFile + " cannot be used", Err: reason(err), Code: ExitConfig}
	}
	cfg := &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"},
		MinVersion: max(c.files.MinVersion, tls.VersionTLS12), MaxVersion: c.files.MaxVersion,
	}
	if c.files.Verify {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if c.files.RequireCert {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if c.files.CAFile != "" {
			text, err := os.ReadFile(c.files.CAFile)
			if err != nil {
				return &StartError{What: "TLS CA file " + c.files.CAFile + " cannot be read", Err: reason(err), Code: ExitConfig}
			}
			cfg.ClientCAs = x509.NewCertPool()
			if !cfg.ClientCAs.AppendCertsFromPEM(text) {
				return &StartError{What: "TLS CA file " + c.files.CAFile + " holds no certificate", Code: ExitConfig}
			}
		}
	}
	for _, name := range c.files.Ciphers {
		id, ok := transport.CipherSuite(name)
		if !ok {
			return &StartError{What: "unknown cipher suite " + name, Code: ExitConfig}
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	c.now.Store(cfg)
	return nil
}

// ReloadCertificates reads the certificates of all TLS listeners again. New
// handshakes use them; a listener whose files are not good keeps the old ones.
func (n *Node) ReloadCertificates() error {
	var errs []error
	for _, l := range n.mqttListeners() {
		errs = append(errs, l.reload())
	}
	for _, l := range n.web.listeners("") {
		if l.cert != nil {
			if err := l.cert.reload(); err != nil {
				errs = append(errs, fmt.Errorf("listener %s: %w", l.name, err))
			}
		}
	}
	return errors.Join(errs...)
}
