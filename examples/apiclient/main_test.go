package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	v3 "github.com/lacewing-mqtt/lacewing/gen/v3"
)

// server answers the two calls of the example; every other call panics.
type server struct {
	v3.StrictServerInterface
	clients   int
	published []v3.PublishBody
}

func (s *server) ListConnections(_ context.Context, r v3.ListConnectionsRequestObject) (v3.ListConnectionsResponseObject, error) {
	page, limit := *r.Params.Page, *r.Params.Limit
	answer := v3.ListConnections200JSONResponse{Items: []v3.ConnectionRow{}, Meta: v3.PageMeta{Page: page, Limit: limit, Count: s.clients}}
	for i := (page - 1) * limit; i < min(page*limit, s.clients); i++ {
		answer.Items = append(answer.Items, v3.ConnectionRow{ClientId: fmt.Sprintf("c%03d", i), Ipaddress: "127.0.0.1", Port: 1000 + i, Node: "emqx@127.0.0.1"})
	}
	return answer, nil
}

func (s *server) MqttPublish(_ context.Context, r v3.MqttPublishRequestObject) (v3.MqttPublishResponseObject, error) {
	if strings.Contains(*r.Body.Topic, "#") {
		return v3.MqttPublish200JSONResponse{Code: v3.ResultBadTopic}, nil
	}
	s.published = append(s.published, *r.Body)
	return v3.MqttPublish200JSONResponse{Code: v3.ResultSuccess}, nil
}

func TestRun(t *testing.T) {
	s := &server{clients: 250}
	e := echo.New()
	e.Use(func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if app, secret, _ := c.Request().BasicAuth(); app != "my_app" || secret != "s3cret" {
				return c.String(http.StatusUnauthorized, "UNAUTHORIZED")
			}
			return next(c)
		}
	})
	v3.RegisterHandlersWithBaseURL(e, v3.NewStrictHandler(s, nil), "/api/v3")
	h := httptest.NewServer(e)
	defer h.Close()

	var out bytes.Buffer
	if err := run(t.Context(), &out, h.URL, "my_app", "s3cret", "a/b", "hello"); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 252 || lines[0] != "c000\t127.0.0.1:1000\temqx@127.0.0.1" || lines[250] != "250 of 250 connections" {
		t.Errorf("%d lines, first %q, then %q", len(lines), lines[0], lines[len(lines)-2:])
	}
	if len(s.published) != 1 || *s.published[0].Topic != "a/b" || *s.published[0].Payload != "hello" || *s.published[0].Qos != 1 {
		t.Errorf("published %+v", s.published)
	}

	if err := run(t.Context(), &out, h.URL, "my_app", "s3cret", "a/#", "hello"); err == nil || !strings.Contains(err.Error(), "not a valid topic") {
		t.Errorf("wildcard: %v", err)
	}
	if err := run(t.Context(), &out, h.URL, "my_app", "wrong", "a/b", "hello"); err == nil || !strings.Contains(err.Error(), "UNAUTHORIZED") {
		t.Errorf("wrong secret: %v", err)
	}
}
