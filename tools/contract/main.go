// Contract replays the documented examples of the REST APIs v2 and v3 against a
// server, whoever has made it, and reports where it differs.
//
//	go run ./tools/contract --base http://127.0.0.1:8080 --dashboard http://127.0.0.1:18083
//
// README.md says what the server has to be like. The exit code is 0 when every
// example holds, 1 when one does not, and 2 when the replay could not be made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path"
	"strings"
	"time"

	"github.com/lacewing-mqtt/lacewing/conformance/api"
	"github.com/lacewing-mqtt/lacewing/openapi"
)

// Exit codes.
const (
	exitGood = iota
	exitDiffers
	exitTrouble
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	code, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "contract:", err)
	}
	os.Exit(code)
}

// options are the flags.
type options struct {
	base, dashboard, mqtt string
	user, password, app   string
	version, dialect      string
	aggregates, only      string
	json                  bool
	junit                 string
	slack                 time.Duration
}

func parse(args []string, help io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("contract", flag.ContinueOnError)
	f.SetOutput(help)
	f.StringVar(&o.base, "base", "", "URL of the API listener, such as http://127.0.0.1:8080")
	f.StringVar(&o.dashboard, "dashboard", "", "URL of the listener for admin users of v3; calls for them are skipped without it")
	f.StringVar(&o.mqtt, "mqtt", "", "host:port of MQTT over TCP; default: the host of -base, port 1883")
	f.StringVar(&o.user, "user", "admin", "admin user")
	f.StringVar(&o.password, "password", "public", "password of the admin user")
	f.StringVar(&o.app, "app", "", "ID:SECRET of an application for v3; without it one is made on the dashboard listener and deleted again")
	f.StringVar(&o.version, "version", "", "v2 or v3; default: both")
	f.StringVar(&o.dialect, "dialect", "", "items or code, the form of the answers of v3; default: as the server answers")
	f.StringVar(&o.aggregates, "aggregates", "object", "object or array, the form of the v2 answers for all nodes; examples of the other are skipped")
	f.StringVar(&o.only, "only", "*", "ids of examples to replay, with * for any text")
	f.DurationVar(&o.slack, "slack", 26*time.Hour, "how far the server's clock and zone may be from those of this machine")
	f.BoolVar(&o.json, "json", false, "write the report as JSON")
	f.StringVar(&o.junit, "junit", "", "write a JUnit report to this file too")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unknown argument %q", f.Arg(0))
	case o.base == "":
		return o, errors.New("-base is needed")
	case o.version != "" && o.version != "v2" && o.version != "v3":
		return o, fmt.Errorf("-version %q is neither v2 nor v3", o.version)
	case o.dialect != "" && o.dialect != "items" && o.dialect != "code":
		return o, fmt.Errorf("-dialect %q is neither items nor code", o.dialect)
	case o.aggregates != "object" && o.aggregates != "array":
		return o, fmt.Errorf("-aggregates %q is neither object nor array", o.aggregates)
	case o.app != "" && !strings.Contains(o.app, ":"):
		return o, errors.New("-app is not of the form ID:SECRET")
	}
	u, err := url.Parse(o.base)
	if err != nil || u.Host == "" {
		return o, fmt.Errorf("-base %q is no URL", o.base)
	}
	if o.mqtt == "" {
		o.mqtt = net.JoinHostPort(u.Hostname(), "1883")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) (int, error) {
	o, err := parse(args, errs)
	if errors.Is(err, flag.ErrHelp) {
		return exitGood, nil
	}
	if err != nil {
		return exitTrouble, err
	}
	report := api.Report{Base: o.base}
	for _, version := range []string{"v2", "v3"} {
		if o.version != "" && o.version != version {
			continue
		}
		results, err := o.replay(ctx, version)
		if err != nil {
			return exitTrouble, err
		}
		report.Results = append(report.Results, results...)
	}
	if len(report.Results) == 0 {
		return exitTrouble, fmt.Errorf("no example is called %q", o.only)
	}
	if err := o.write(report, out); err != nil {
		return exitTrouble, err
	}
	if report.Failed() > 0 {
		return exitDiffers, nil
	}
	return exitGood, nil
}

// replay replays the examples of one version.
func (o options) replay(ctx context.Context, version string) (results []*api.Result, err error) {
	t := &api.Target{
		API: o.base, Dashboard: o.dashboard, User: o.user, Password: o.password, MQTT: o.mqtt,
		Elsewhere: true, Aggregates: o.aggregates, Slack: o.slack,
	}
	t.App, t.Secret, _ = strings.Cut(o.app, ":")
	t.Document = openapi.V2
	if version == "v3" {
		if t.Document, err = o.document(ctx, t); err != nil {
			return nil, err
		}
	}
	r, err := api.NewReplay(t.Document, time.Now())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close(context.WithoutCancel(ctx))) }()
	if err := t.Prepare(ctx); err != nil {
		return nil, err
	}
	for _, ex := range r.Examples {
		if ok, err := path.Match(o.only, ex.ID); err != nil || !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return results, err
		}
		results = append(results, r.Run(ctx, t, ex))
	}
	return results, nil
}

// document is that of the dialect which the server speaks: code wraps a list in
// an object.
func (o options) document(ctx context.Context, t *api.Target) (openapi.Document, error) {
	switch o.dialect {
	case "items":
		return openapi.V3Items, nil
	case "code":
		return openapi.V3Code, nil
	}
	base, user, password := o.dashboard, t.User, t.Password
	if t.App != "" {
		base, user, password = o.base, t.App, t.Secret
	}
	if base == "" {
		return "", errors.New("-dashboard, -app or -dialect is needed for v3")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(base, "/")+"/api/v3/brokers/", nil)
	if err != nil {
		return "", err
	}
	req.SetBasicAuth(user, password)
	client := &http.Client{Timeout: 15 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask for the dialect: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return "", fmt.Errorf("ask for the dialect: %w", err)
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("ask for the dialect: GET /api/v3/brokers/: %s", resp.Status)
	case strings.HasPrefix(strings.TrimSpace(string(text)), "{"):
		return openapi.V3Code, nil
	}
	return openapi.V3Items, nil
}

func (o options) write(report api.Report, out io.Writer) error {
	if o.junit != "" {
		f, err := os.Create(o.junit)
		if err != nil {
			return fmt.Errorf("JUnit report: %w", err)
		}
		if err := errors.Join(report.WriteJUnit(f), f.Close()); err != nil {
			return fmt.Errorf("JUnit report: %w", err)
		}
	}
	if o.json {
		return report.WriteJSON(out)
	}
	return report.WriteText(out)
}
