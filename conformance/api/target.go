package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Target is a server to replay against.
type Target struct {
	Document openapi.Document
	// API is the base of the API listener ("http://127.0.0.1:8080"), Dashboard that
	// of the listener for admin users; "" when the server has one listener.
	API, Dashboard string
	// User is an admin user. For v3 an application is made with it on the dashboard
	// listener when App is empty.
	User, Password string
	App, Secret    string
	MQTT           string // host:port of MQTT over TCP
	Node           string // name of the node that answers; asked for when empty

	// Elsewhere says that the suite has not started the server just now: counters
	// and listeners are then compared by their form.
	Elsewhere bool
	// Aggregates is the form of the v2 aggregates ("object", "array"), "" for
	// unknown.
	Aggregates string
	// Slack is how far the server's clock and zone may be from ours.
	Slack time.Duration

	client  *http.Client
	trouble error // of Prepare
	madeApp bool
	done    map[string]func() // worlds that stay, by name
}

// listeners of a server
type listener int

const (
	onAPI listener = iota
	onDashboard
)

// call is one HTTP exchange to make.
type call struct {
	on     listener
	method string
	path   string // with query, without the first slash
	body   []byte
	noAuth bool
}

var errAway = errors.New("the server did not answer")

// Prepare finds out what the replay needs to know of the server and makes the
// application that it logs in with. Run does it when it has not been done.
func (t *Target) Prepare(ctx context.Context) error {
	if t.client == nil {
		t.trouble = t.prepare(ctx)
	}
	return t.trouble
}

func (t *Target) prepare(ctx context.Context) error {
	t.client = &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	t.done = make(map[string]func())
	if err := t.ensureApp(ctx); err != nil {
		return err
	}
	if t.Node != "" {
		return nil
	}
	path := "api/v2/management/nodes"
	if t.v3() {
		path = "api/v3/brokers/"
	}
	data, err := t.data(ctx, call{method: http.MethodGet, path: path})
	if err != nil {
		return fmt.Errorf("ask for the name of the node: %w", err)
	}
	rows, _ := data.([]any)
	for _, row := range rows {
		m, _ := row.(map[string]any)
		for _, key := range []string{"name", "node"} {
			if name, ok := m[key].(string); ok {
				t.Node = name
				return nil
			}
		}
	}
	return fmt.Errorf("ask for the name of the node: no name in %s", show(data))
}

func (t *Target) v3() bool { return t.Document != openapi.V2 }

// ensureApp makes the application that v3 calls are made with.
func (t *Target) ensureApp(ctx context.Context) error {
	if !t.v3() || t.App != "" || t.Dashboard == "" {
		return nil
	}
	const id = "contract-replay"
	body := object("app_id", id, "name", id, "desc", "replay of the documented examples", "status", true)
	data, err := t.data(ctx, call{on: onDashboard, method: http.MethodPost, path: "api/v3/apps/", body: body})
	if err != nil {
		return fmt.Errorf("make an application: %w", err)
	}
	m, _ := data.(map[string]any)
	secret, _ := m["secret"].(string)
	if secret == "" {
		return fmt.Errorf("make an application: no secret in %s", show(data))
	}
	t.App, t.Secret, t.madeApp = id, secret, true
	return nil
}

// dropApp takes the application away that ensureApp has made.
func (t *Target) dropApp(ctx context.Context) error {
	if !t.madeApp {
		return nil
	}
	_, err := t.data(ctx, call{on: onDashboard, method: http.MethodDelete, path: "api/v3/apps/" + t.App})
	t.App, t.Secret, t.madeApp = "", "", false
	return err
}

// Close undoes what the replay has left on the server.
func (t *Target) Close(ctx context.Context) error {
	for _, undo := range t.done {
		undo()
	}
	t.done = nil
	if t.client == nil {
		return nil
	}
	err := t.dropApp(ctx)
	t.client.CloseIdleConnections()
	return err
}

// send makes an exchange.
func (t *Target) send(ctx context.Context, c call) (Answer, error) {
	base, user, password := t.API, t.App, t.Secret
	if !t.v3() {
		user, password = t.User, t.Password
	}
	if c.on == onDashboard {
		user, password = t.User, t.Password
		if t.Dashboard != "" {
			base = t.Dashboard
		}
	}
	var body io.Reader
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(ctx, c.method, strings.TrimSuffix(base, "/")+"/"+c.path, body)
	if err != nil {
		return Answer{}, err
	}
	if !c.noAuth {
		req.SetBasicAuth(user, password)
	}
	if c.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errAway, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errAway, err)
	}
	a := Answer{Status: resp.StatusCode, To: time.Now()}
	a.MediaType, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case len(text) == 0:
	case a.MediaType == "application/json":
		if err := json.Unmarshal(text, &a.Body); err != nil {
			a.MediaType, a.Body = "application/json (malformed)", string(text)
		}
	default:
		a.Body = string(text)
	}
	return a, nil
}

// data makes a call that must succeed and returns its data without the envelope.
func (t *Target) data(ctx context.Context, c call) (any, error) {
	a, err := t.send(ctx, c)
	if err != nil {
		return nil, err
	}
	refused := fmt.Errorf("%s /%s: %d %s", c.method, c.path, a.Status, show(a.Body))
	if a.Status >= 300 {
		return nil, refused
	}
	m, isObject := a.Body.(map[string]any)
	if !isObject {
		return a.Body, nil
	}
	if code, ok := m["code"].(float64); ok && code != 0 {
		return nil, refused
	}
	for _, key := range []string{"result", "data", "items"} {
		if v, ok := m[key]; ok {
			return v, nil
		}
	}
	return m, nil
}

// object writes a JSON object from names and values.
func object(pairs ...any) []byte {
	m := make(map[string]any, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // of texts, numbers and flags only
	}
	return text
}
