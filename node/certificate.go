package node

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// TLSFiles says what a TLS listener shows and whom it believes.
type TLSFiles struct {
	Cert, Key string // PEM files; both empty: the self-signed pair of the data directory
	CA        string // PEM file of the authorities of client certificates; "" for none
	Verify    bool   // ask clients for a certificate and check it
	Require   bool   // refuse clients without one
	Versions  []string
}

// certificate serves the files of one TLS listener and reads them again on demand.
// New handshakes see the new files; connections that exist are not touched.
type certificate struct {
	files  TLSFiles
	now    atomic.Pointer[tls.Config]
	stamps atomic.Pointer[[]stamp]
}

// loadCertificate reads the files; own is the directory of the self-signed pair.
func loadCertificate(files TLSFiles, own string, host string) (*certificate, error) {
	if files.Cert == "" && files.Key == "" {
		files.Cert, files.Key = filepath.Join(own, "cert.pem"), filepath.Join(own, "key.pem")
		if err := ensureSelfSigned(files.Cert, files.Key, host); err != nil {
			return nil, err
		}
	}
	c := &certificate{files: files}
	return c, c.reload()
}

// config is what a listener is opened with; it always asks for the present files.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load(), nil }}
}

// reload reads the files again. On an error the old ones stay in use.
func (c *certificate) reload() error {
	stamps := stampFiles(c.files.Cert, c.files.Key, c.files.CA)
	if err := readable(c.files.Cert); err != nil {
		return certificateError("certificate", c.files.Cert, err)
	}
	if err := readable(c.files.Key); err != nil {
		return certificateError("key", c.files.Key, err)
	}
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return certificateError("certificate", c.files.Cert+" with key "+c.files.Key, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if err := c.versions(cfg); err != nil {
		return err
	}
	if c.files.CA != "" {
		text, err := os.ReadFile(c.files.CA)
		if err != nil {
			return certificateError("CA file", c.files.CA, err)
		}
		cfg.ClientCAs = x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(text) {
			return certificateError("CA file", c.files.CA, errors.New("holds no certificate"))
		}
	}
	switch {
	case !c.files.Verify:
	case c.files.CA == "":
		return &StartError{What: "clients are to be verified and no CA file is configured", Code: ExitConfig}
	case c.files.Require:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	default:
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	c.now.Store(cfg)
	c.stamps.Store(&stamps)
	return nil
}

// versions narrows the protocol versions to the configured names ("tlsv1.2",
// "tlsv1.3"). Versions before 1.2 are in old configuration files and are not
// spoken.
func (c *certificate) versions(cfg *tls.Config) error {
	low, high := uint16(0), uint16(0)
	for _, name := range c.files.Versions {
		v := uint16(0)
		switch strings.ToLower(name) {
		case "tlsv1.2":
			v = tls.VersionTLS12
		case "tlsv1.3":
			v = tls.VersionTLS13
		case "tlsv1", "tlsv1.1", "sslv3":
			continue
		default:
			return &StartError{What: "unknown TLS version " + name, Code: ExitConfig}
		}
		if low == 0 || v < low {
			low = v
		}
		high = max(high, v)
	}
	if len(c.files.Versions) > 0 && high == 0 {
		return &StartError{What: "of the TLS versions " + strings.Join(c.files.Versions, ",") + " none is spoken: tlsv1.2 and tlsv1.3 are", Code: ExitConfig}
	}
	if high != 0 {
		cfg.MinVersion = low
		// 1.3 stays on beside 1.2: a list written before it existed does not mean to
		// keep it out.
	}
	return nil
}

// changed reports whether a file on disk differs from the one in use.
func (c *certificate) changed() bool {
	used := c.stamps.Load()
	return used == nil || !equalStamps(*used, stampFiles(c.files.Cert, c.files.Key, c.files.CA))
}

// expires returns when the certificate in use ends.
func (c *certificate) expires() time.Time {
	if cfg := c.now.Load(); cfg != nil && cfg.Certificates[0].Leaf != nil {
		return cfg.Certificates[0].Leaf.NotAfter
	}
	return time.Time{}
}

func certificateError(what, name string, err error) error {
	return &StartError{What: "TLS " + what + " " + name + " cannot be used", Err: reason(err), Code: ExitConfig}
}

func readable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return f.Close()
}

// ensureSelfSigned makes a private key and a certificate for this machine where
// there is none yet. It is good for encryption and for trying things out; clients
// that check the server need a certificate of the operator's.
func ensureSelfSigned(certFile, keyFile, host string) error {
	if readable(certFile) == nil && readable(keyFile) == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	name, _ := os.Hostname() // without one the loopback names do
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "Lacewing self-signed", Organization: []string{"Lacewing"}},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, h := range []string{name, host} {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if h != "" {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	cert, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	if err := writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	if err := writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644); err != nil {
		return fmt.Errorf("self-signed certificate: %w", err)
	}
	return nil
}
