package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lacewing-mqtt/lacewing/node"
)

// startNode runs a node as somebody would who knows nothing of the examples.
func startNode(t *testing.T) *node.Node {
	t.Helper()
	n, err := node.Start(t.Context(), node.Options{
		Logger: slog.New(slog.DiscardHandler),
		Settings: map[string]string{
			"node.name":                "broker@127.0.0.1",
			"node.data_dir":            t.TempDir(),
			"node.cookie":              "contract",
			"listener.tcp.external":    "127.0.0.1:0",
			"listener.tcp.internal":    "off",
			"listener.ssl.external":    "off",
			"listener.ws.external":     "off",
			"listener.wss.external":    "off",
			"cluster.listen":           "127.0.0.1:0",
			"management.listener.http": "127.0.0.1:0",
			"dashboard.listener.http":  "127.0.0.1:0",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Close(ctx); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	return n
}

// changing passes requests on and changes one word of the answers.
func changing(t *testing.T, to, old, new string) string {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) },
		ModifyResponse: func(r *http.Response) error {
			text, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			text = bytes.ReplaceAll(text, []byte(old), []byte(new))
			r.Body = io.NopCloser(bytes.NewReader(text))
			r.ContentLength = int64(len(text))
			r.Header.Set("Content-Length", strconv.Itoa(len(text)))
			return nil
		},
	}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return s.URL
}

func TestContract(t *testing.T) {
	n := startNode(t)
	base, dashboard := "http://"+n.Addr("http management"), "http://"+n.Addr("http dashboard")
	flags := func(more ...string) []string {
		return append([]string{"--dashboard", dashboard, "--mqtt", n.Addr("mqtt:tcp external")}, more...)
	}
	t.Run("server that keeps it", func(t *testing.T) {
		var out bytes.Buffer
		code, err := run(t.Context(), flags("--base", base), &out, io.Discard)
		if code != exitGood || err != nil {
			t.Errorf("exit %d, %v\n%s", code, err, &out)
		}
		for _, want := range []string{"v2: 66 examples, 44 of them documented, 0 failed", "v3: 74 examples, 44 of them documented, 0 failed"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("report has no %q:\n%s", want, &out)
			}
		}
	})
	altered := changing(t, base, `"keepalive":60`, `"keepalive":"60"`)
	t.Run("server that does not", func(t *testing.T) {
		var out bytes.Buffer
		junit := filepath.Join(t.TempDir(), "junit.xml")
		code, err := run(t.Context(), flags("--base", altered, "--version", "v2", "--only", "v2.*client", "--junit", junit), &out, io.Discard)
		if code != exitDiffers || err != nil {
			t.Errorf("exit %d, %v", code, err)
		}
		for _, want := range []string{
			"FAIL v2 v2.client\n", "section   Clients / Retrieve a Client in the Cluster\n",
			"request   GET /api/v2/clients/C_1492145414740\n", `expected  200 {"code":0,"result":{"objects":[{`, `got       200 {`,
			`/result/objects/0/keepalive: "60", want 60`,
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("report has no %q:\n%s", want, &out)
			}
		}
		var suites struct {
			Suites []struct {
				Failures int `xml:"failures,attr"`
				Cases    []struct {
					Name    string  `xml:"name,attr"`
					Failure *string `xml:"failure"`
				} `xml:"testcase"`
			} `xml:"testsuite"`
		}
		text, err := os.ReadFile(junit)
		if err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(text, &suites); err != nil {
			t.Fatal(err)
		}
		if len(suites.Suites) != 1 || suites.Suites[0].Failures == 0 || suites.Suites[0].Failures != len(suites.Suites[0].Cases) {
			t.Errorf("JUnit report: %+v", suites)
		}
	})
	t.Run("JSON", func(t *testing.T) {
		var out bytes.Buffer
		code, err := run(t.Context(), flags("--base", altered, "--version", "v3", "--dialect", "items", "--only", "v3.l*_connections", "--json"), &out, io.Discard)
		if code != exitDiffers || err != nil {
			t.Errorf("exit %d, %v", code, err)
		}
		var report struct {
			Failed  int
			Results []struct {
				Section, Request string
				Passed           bool
				Faults           []string
				Expected, Got    struct{ Status int }
			}
		}
		if err := json.Unmarshal(out.Bytes(), &report); err != nil {
			t.Fatal(err)
		}
		if report.Failed == 0 || len(report.Results) == 0 {
			t.Fatalf("report: %s", &out)
		}
		for _, r := range report.Results {
			if r.Passed || r.Section == "" || r.Request == "" || len(r.Faults) == 0 || r.Got.Status != 200 || r.Expected.Status != 200 {
				t.Errorf("result: %+v", r)
			}
		}
	})
	t.Run("wrong dialect", func(t *testing.T) {
		var out bytes.Buffer
		code, err := run(t.Context(), flags("--base", base, "--version", "v3", "--dialect", "code", "--only", "v3.list_routes"), &out, io.Discard)
		if code != exitDiffers || err != nil {
			t.Errorf("exit %d, %v\n%s", code, err, &out)
		}
	})
	t.Run("nobody there", func(t *testing.T) {
		code, err := run(t.Context(), []string{"--base", "http://127.0.0.1:1", "--version", "v2", "--only", "v2.users"}, io.Discard, io.Discard)
		if code != exitTrouble || err == nil {
			t.Errorf("exit %d, %v", code, err)
		}
	})
	t.Run("wrong password", func(t *testing.T) {
		code, err := run(t.Context(), flags("--base", base, "--password", "x", "--only", "v2.users"), io.Discard, io.Discard)
		if code != exitTrouble || err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("exit %d, %v", code, err)
		}
	})
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct{ name, flags, want string }{
		{"no base", "", "-base is needed"},
		{"base that is no URL", "--base localhost", "is no URL"},
		{"version", "--base http://a --version v4", `-version "v4"`},
		{"dialect", "--base http://a --dialect x", `-dialect "x"`},
		{"aggregates", "--base http://a --aggregates x", `-aggregates "x"`},
		{"application", "--base http://a --app x", "-app is not"},
		{"rest", "--base http://a b", `unknown argument "b"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, err := run(t.Context(), strings.Fields(tc.flags), io.Discard, io.Discard)
			if code != exitTrouble || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("exit %d, %v, want %d and %q", code, err, exitTrouble, tc.want)
			}
		})
	}
}
