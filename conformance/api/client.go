package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const mqttTimeout = 10 * time.Second

// mqttSpec is a client as an example shows it.
type mqttSpec struct {
	ID        string
	Username  string // "" for none
	KeepAlive int    // seconds
	Version   uint   // 3 or 4
	Clean     bool
}

// mqttClient is one connection.
type mqttClient struct {
	paho.Client
	spec mqttSpec

	mu   sync.Mutex // guards conn
	conn net.Conn
}

func connect(ctx context.Context, addr string, s mqttSpec) (*mqttClient, error) {
	c := &mqttClient{spec: s}
	o := paho.NewClientOptions().
		AddBroker("tcp://" + addr).
		SetClientID(s.ID).
		SetCleanSession(s.Clean).
		SetKeepAlive(time.Duration(s.KeepAlive) * time.Second).
		SetProtocolVersion(s.Version).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(mqttTimeout).
		SetOrderMatters(false).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", addr)
			c.mu.Lock()
			c.conn = conn
			c.mu.Unlock()
			return conn, err
		})
	if s.Username != "" {
		o.SetUsername(s.Username)
	}
	c.Client = paho.NewClient(o)
	if err := await(c.Connect()); err != nil {
		return nil, fmt.Errorf("connect %s: %w", s.ID, err)
	}
	return c, nil
}

func await(token paho.Token) error {
	if !token.WaitTimeout(mqttTimeout) {
		return errors.New("no answer in time")
	}
	return token.Error()
}

func (c *mqttClient) subscribe(filter string, qos byte) error {
	t := c.Subscribe(filter, qos, func(paho.Client, paho.Message) {})
	if err := await(t); err != nil {
		return fmt.Errorf("subscribe %s to %s: %w", c.spec.ID, filter, err)
	}
	if granted, ok := t.(*paho.SubscribeToken); ok && granted.Result()[filter] > 2 {
		return fmt.Errorf("subscribe %s to %s: refused", c.spec.ID, filter)
	}
	return nil
}

func (c *mqttClient) publish(topic string, qos byte, payload []byte) error {
	if err := await(c.Publish(topic, qos, false, payload)); err != nil {
		return fmt.Errorf("publish to %s: %w", topic, err)
	}
	return nil
}

// hangUp closes the connection without DISCONNECT.
func (c *mqttClient) hangUp() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}

// leave ends connection and session.
func (c *mqttClient) leave(ctx context.Context, addr string) error {
	c.Disconnect(0)
	if c.spec.Clean {
		return nil
	}
	s := c.spec
	s.Clean = true
	again, err := connect(ctx, addr, s)
	if err != nil {
		return err
	}
	again.Disconnect(0)
	return nil
}
