package impl

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

func newDocs(t *testing.T, dialect *openapi.Document) *httptest.Server {
	t.Helper()
	docs := NewDocs(func() openapi.Document { return *dialect })
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !docs.Serves(r) {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		docs.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func fetch(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestDocsServeEveryDocument(t *testing.T) {
	dialect := openapi.V3Items
	s := newDocs(t, &dialect)
	paths := []struct{ path, title string }{
		{"/api-docs/v2", "Lacewing REST API v2"}, {"/api-docs/v3", "Lacewing REST API v3"},
		{"/api-docs/v3-code", "Lacewing REST API v3, code dialect"}, {"/api-docs/node", "Lacewing node API"},
		{"/api/node/openapi", "Lacewing node API"},
		{"/api/v2/openapi", "Lacewing REST API v2"}, {"/api/v3/openapi", "Lacewing REST API v3"},
	}
	check := func(path, title string) {
		t.Helper()
		resp, body := fetch(t, s.URL+path+".json")
		var doc struct {
			Info struct{ Title string }
		}
		if err := json.Unmarshal([]byte(body), &doc); err != nil || doc.Info.Title != title {
			t.Errorf("%s.json: title %q (%v), want %q", path, doc.Info.Title, err, title)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s.json: content type %q", path, got)
		}
		resp, body = fetch(t, s.URL+path+".yaml")
		if !strings.Contains(body, "\n  title: "+title+"\n") && !strings.Contains(body, "\n  title: '"+title+"'\n") {
			t.Errorf("%s.yaml: not %q", path, title)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/yaml" {
			t.Errorf("%s.yaml: content type %q", path, got)
		}
	}
	for _, p := range paths {
		check(p.path, p.title)
	}
	dialect = openapi.V3Code
	check("/api/v3/openapi", "Lacewing REST API v3, code dialect")
	check("/api-docs/v3", "Lacewing REST API v3")
}

var external = regexp.MustCompile(`(https?:)?//[a-z]`)

func TestDocsPageIsOffline(t *testing.T) {
	dialect := openapi.V3Items
	s := newDocs(t, &dialect)
	resp, body := fetch(t, s.URL+"/api-docs")
	if resp.Request.URL.Path != "/api-docs/" || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s %d", resp.Request.URL.Path, resp.StatusCode)
	}
	if got := resp.Header.Get("Content-Security-Policy"); !strings.HasPrefix(got, "default-src 'self';") {
		t.Errorf("content security policy %q", got)
	}
	if external.MatchString(body) {
		t.Errorf("the page names another host: %s", body)
	}
	links := regexp.MustCompile(`(?:src|href)="([^":]+)"`).FindAllStringSubmatch(body, -1)
	if len(links) != 4 {
		t.Errorf("links %q, want 4", links)
	}
	for _, link := range links {
		resp, body := fetch(t, s.URL+"/api-docs/"+link[1])
		if resp.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: status %d, %d bytes", link[1], resp.StatusCode, len(body))
		}
	}
	_, script := fetch(t, s.URL+"/api-docs/documents.js")
	if external.MatchString(script) {
		t.Errorf("the script names another host: %s", script)
	}
	urls := regexp.MustCompile(`"url":"([^"]+)"`).FindAllStringSubmatch(script, -1)
	if len(urls) != 4 || urls[0][1] != "/api-docs/v3.yaml" {
		t.Errorf("documents %q", urls)
	}
	for _, u := range urls {
		if resp, _ := fetch(t, s.URL+u[1]); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", u[1], resp.StatusCode)
		}
	}
}

func TestDocsLeaveOtherRequestsAlone(t *testing.T) {
	dialect := openapi.V3Items
	s := newDocs(t, &dialect)
	for _, path := range []string{"/", "/api/v2/", "/api/v3/openapi.txt", "/api-docs/../v2.yaml", "/api-docs/swagger-ui.js", "/api/v3/nodes"} {
		if resp, _ := fetch(t, s.URL+path); resp.StatusCode != http.StatusTeapot {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
	}
	resp, err := http.Post(s.URL+"/api/v2/openapi.json", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTeapot {
		t.Errorf("POST: status %d", resp.StatusCode)
	}
}

func TestDocsAreNotSentTwice(t *testing.T) {
	dialect := openapi.V3Items
	s := newDocs(t, &dialect)
	for _, encoding := range []string{"", "gzip"} {
		req, err := http.NewRequest(http.MethodGet, s.URL+"/api/v2/openapi.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", encoding)
		first, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		first.Body.Close()
		if got := first.Header.Get("Content-Encoding"); got != encoding {
			t.Errorf("encoding %q, want %q", got, encoding)
		}
		req.Header.Set("If-None-Match", first.Header.Get("ETag"))
		again, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		again.Body.Close()
		if again.StatusCode != http.StatusNotModified {
			t.Errorf("encoding %q: second answer %d, want 304", encoding, again.StatusCode)
		}
	}
}
