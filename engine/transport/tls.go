package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/lacewing-mqtt/lacewing/engine"
)

// TLS says how a listener encrypts. The files are in PEM format.
type TLS struct {
	CertFile string // the server's certificate, followed by intermediate ones
	KeyFile  string
	// CAFile has the certificates that client certificates are checked
	// against. Empty with Verify means those of the system.
	CAFile string
	// Verify asks clients for a certificate and checks what they send;
	// RequireCert refuses those that send none. RequireCert implies Verify.
	Verify, RequireCert bool
	// MinVersion and MaxVersion are tls.VersionTLS12 and the like; 0 means TLS
	// 1.2 and the newest.
	MinVersion, MaxVersion uint16
	// Ciphers are the cipher suites for TLS 1.2 and older, by their names in
	// the IANA registry or in OpenSSL; empty means Go's choice. Those of TLS
	// 1.3 are not configurable.
	Ciphers []string
	// NoTickets switches session resumption off.
	NoTickets bool
}

// certificates are the TLS configuration in force, replaced as a whole.
type certificates struct {
	now atomic.Pointer[tls.Config]
}

func loadCertificates(o TLS) (*certificates, error) {
	c := &certificates{}
	return c, c.replace(o)
}

// replace reads everything anew, and changes nothing if there is an error.
func (c *certificates) replace(o TLS) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	c.now.Store(cfg)
	return nil
}

// config is what a handshake uses. Session tickets are bound to one such
// value, so that after a reload with another CA every client has to show its
// certificate again.
func (c *certificates) config() *tls.Config { return c.now.Load() }

func (o TLS) config() (*tls.Config, error) {
	if o.CertFile == "" || o.KeyFile == "" {
		return nil, errors.New("tls: certificate file and key file are needed")
	}
	cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", o.CertFile, o.KeyFile, err)
	}
	cfg := &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             o.MinVersion,
		MaxVersion:             o.MaxVersion,
		SessionTicketsDisabled: o.NoTickets,
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if cfg.MaxVersion != 0 && cfg.MaxVersion < cfg.MinVersion {
		return nil, fmt.Errorf("tls: maximum version %s is below the minimum %s", tls.VersionName(cfg.MaxVersion), tls.VersionName(cfg.MinVersion))
	}
	if o.Verify || o.RequireCert {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if o.RequireCert {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
		if o.CAFile != "" {
			pem, err := os.ReadFile(o.CAFile)
			if err != nil {
				return nil, fmt.Errorf("read CA certificates: %w", err)
			}
			cfg.ClientCAs = x509.NewCertPool()
			if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("read CA certificates: no certificate in %s", o.CAFile)
			}
		}
	}
	for _, name := range o.Ciphers {
		id, ok := CipherSuite(name)
		if !ok {
			return nil, fmt.Errorf("tls: unknown cipher suite %q", name)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	return cfg, nil
}

// CipherSuite finds a cipher suite of TLS 1.2 or older by its IANA name
// (TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) or its OpenSSL name
// (ECDHE-RSA-AES128-GCM-SHA256). Suites that Go calls insecure are known too:
// who names them needs them.
func CipherSuite(name string) (id uint16, ok bool) {
	for _, list := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, s := range list {
			if strings.EqualFold(s.Name, name) || strings.EqualFold(openSSLName(s.Name), name) {
				return s.ID, true
			}
		}
	}
	return 0, false
}

// openSSLName turns TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 into
// ECDHE-RSA-AES128-GCM-SHA256.
func openSSLName(iana string) string {
	s := strings.TrimPrefix(iana, "TLS_")
	s = strings.TrimPrefix(s, "RSA_WITH_") // plain RSA key exchange is not named
	s = strings.Replace(s, "_WITH_", "_", 1)
	s = strings.Replace(s, "3DES_EDE_CBC", "DES_CBC3", 1)
	s = strings.NewReplacer("AES_128_CBC", "AES128", "AES_256_CBC", "AES256", "AES_128", "AES128", "AES_256", "AES256",
		"CHACHA20_POLY1305_SHA256", "CHACHA20_POLY1305").Replace(s)
	return strings.ReplaceAll(s, "_", "-")
}

// peerCert is what the engine needs to know of a verified client certificate.
func peerCert(cs tls.ConnectionState) *engine.PeerCert {
	if len(cs.VerifiedChains) == 0 {
		return nil
	}
	subject := cs.VerifiedChains[0][0].Subject
	return &engine.PeerCert{CommonName: subject.CommonName, Subject: subject.String()}
}
