// Command bare is the engine on its drivers and nothing else: no management, no
// stored metadata, no plugins. It is what the measurements of engine/DESIGN.md
// that concern engine and transport alone are made with.
//
//	go run ./tools/mqload/testdata/bare -tcp 127.0.0.1:1883
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net/http"
	_ "net/http/pprof" // served with -pprof
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/transport"
	"github.com/lacewing-mqtt/lacewing/impl/websocket"
)

func main() {
	tcp := flag.String("tcp", "127.0.0.1:1883", "address of the TCP listener")
	tls := flag.String("tls", "", "address of the TLS listener")
	ws := flag.String("ws", "", "address of the WebSocket listener")
	wss := flag.String("wss", "", "address of the secure WebSocket listener")
	loops := flag.Int("loops", 0, "event loops; 0: the default")
	buffer := flag.Int("buffer", 0, "read buffer of a loop, bytes; 0: the default")
	goroutines := flag.Bool("goroutines", false, "a goroutine for each connection in place of event loops")
	pprof := flag.String("pprof", "", "address for profiles")
	flag.Parse()
	if err := run(*tcp, *tls, *ws, *wss, *pprof, transport.Options{Loops: *loops, ReadBuffer: *buffer, Goroutines: *goroutines}); err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
}

func run(tcp, tls, ws, wss, pprof string, o transport.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "lacewing-bare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	e, err := engine.New(engine.Options{})
	if err != nil {
		return err
	}
	if err := e.EnableRetainer(engine.RetainerOptions{}); err != nil {
		return err
	}
	d, err := transport.New(e, o)
	if err != nil {
		return err
	}
	upgrader, err := websocket.NewUpgrader(websocket.Options{})
	if err != nil {
		return err
	}
	for _, l := range []struct {
		protocol, address string
		secure, web       bool
	}{{"mqtt:tcp", tcp, false, false}, {"mqtt:ssl", tls, true, false}, {"mqtt:ws", ws, false, true}, {"mqtt:wss", wss, true, true}} {
		if l.address == "" {
			continue
		}
		lo := transport.ListenOptions{Name: l.protocol, Address: l.address}
		if l.web {
			lo.Upgrader = upgrader
		}
		if l.secure {
			if lo.TLS, err = selfSigned(dir); err != nil {
				return err
			}
		}
		ln, err := d.Open(lo)
		if err != nil {
			return err
		}
		el, err := e.AddListener(engine.ListenerOptions{Name: "external", Protocol: l.protocol, Address: ln.Addr().String()})
		if err != nil {
			return err
		}
		if err := ln.Serve(el); err != nil {
			return err
		}
		fmt.Println(l.protocol, ln.Addr())
	}
	if pprof != "" {
		go func() { fmt.Fprintln(os.Stderr, http.ListenAndServe(pprof, nil)) }()
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	<-ctx.Done()
	<-ended
	last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := e.Close(last); err != nil {
		return err
	}
	return d.Close(last)
}

func selfSigned(dir string) (*transport.TLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 7)}
	cert, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	o := &transport.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	if err := os.WriteFile(o.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600); err != nil {
		return nil, err
	}
	return o, os.WriteFile(o.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}
