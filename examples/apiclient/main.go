// Apiclient is a program on the generated client of API v3: it lists the connections of a cluster page by page and
// publishes a message.
//
//	LACEWING_SECRET=... go run ./examples/apiclient -url http://127.0.0.1:8080 -app my_app
//
// The application is made with "lacewing ctl mgmt insert my_app" or on the dashboard listener.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	v3 "github.com/lacewing-mqtt/lacewing/gen/v3"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "API listener of a node")
	app := flag.String("app", "", "application id; its secret is read from LACEWING_SECRET")
	topic := flag.String("topic", "hello/apiclient", "topic to publish to")
	payload := flag.String("payload", "hello", "payload to publish")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := run(ctx, os.Stdout, *url, *app, os.Getenv("LACEWING_SECRET"), *topic, *payload); err != nil {
		fmt.Fprintln(os.Stderr, "apiclient:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, url, app, secret, topic, payload string) error {
	// An API version is one path below the listener; every request carries the application as HTTP Basic.
	client, err := v3.NewClientWithResponses(strings.TrimSuffix(url, "/")+"/api/v3",
		v3.WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			r.SetBasicAuth(app, secret)
			return nil
		}))
	if err != nil {
		return err
	}
	if err := listConnections(ctx, out, client); err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	if err := publish(ctx, client, topic, payload); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	_, err = fmt.Fprintf(out, "published %q to %s\n", payload, topic)
	return err
}

// listConnections prints every connection, a page at a time.
func listConnections(ctx context.Context, out io.Writer, client *v3.ClientWithResponses) error {
	for page, limit, seen := 1, 100, 0; ; page++ {
		resp, err := client.ListConnectionsWithResponse(ctx, &v3.ListConnectionsParams{Page: &page, Limit: &limit})
		if err != nil {
			return err
		}
		if resp.JSON200 == nil {
			return refusal(resp.HTTPResponse, resp.Body, resp.JSON500)
		}
		for _, c := range resp.JSON200.Items {
			if _, err := fmt.Fprintf(out, "%s\t%s:%d\t%s\n", c.ClientId, c.Ipaddress, c.Port, c.Node); err != nil {
				return err
			}
		}
		seen += len(resp.JSON200.Items)
		if len(resp.JSON200.Items) < limit {
			_, err := fmt.Fprintf(out, "%d of %d connections\n", seen, resp.JSON200.Meta.Count)
			return err
		}
	}
}

func publish(ctx context.Context, client *v3.ClientWithResponses, topic, payload string) error {
	qos := 1
	resp, err := client.MqttPublishWithResponse(ctx, v3.PublishBody{Topic: &topic, Payload: &payload, Qos: &qos})
	if err != nil {
		return err
	}
	switch {
	case resp.JSON200 == nil:
		return refusal(resp.HTTPResponse, resp.Body, resp.JSON500)
	case resp.JSON200.Code == v3.ResultBadTopic:
		return errors.New("not a valid topic")
	case resp.JSON200.Code != v3.ResultSuccess:
		return fmt.Errorf("code %d", resp.JSON200.Code)
	}
	return nil
}

// refusal says why a call failed: the message of a refused call, or the text of everything else.
func refusal(resp *http.Response, body []byte, refused *v3.Refusal) error {
	if refused != nil {
		return errors.New(refused.Message)
	}
	return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
}
