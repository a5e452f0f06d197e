package admin

import (
	"context"
	"errors"

	"github.com/lacewing-mqtt/lacewing/engine/topic"
)

// maxTopic is the longest topic, in bytes, that both documents take.
const maxTopic = 4096

// Publication is one message for one or more topics.
type Publication struct {
	Topics   []string
	Payload  []byte
	QoS      byte
	Retain   bool
	ClientID string // a label of the sender
}

// Publish routes a message to every valid topic of p. Invalid topics are left
// out; BadTopic when none is valid.
func (s *Service) Publish(ctx context.Context, p Publication) error {
	sent := false
	for _, t := range p.Topics {
		if len(t) > maxTopic || !topic.ValidName(t) {
			continue
		}
		err := s.local.Publish(ctx, Message{Topic: t, Payload: p.Payload, QoS: p.QoS, Retain: p.Retain, From: p.ClientID})
		if err != nil && !errors.Is(err, &Error{Kind: BadTopic}) {
			return err
		}
		sent = sent || err == nil
	}
	if !sent {
		return badTopic(p.Topics)
	}
	return nil
}

// SubscribeRequest asks for filters on behalf of a client.
type SubscribeRequest struct {
	ClientID string
	Topics   []string
	QoS      byte
}

// Subscribe puts every valid filter of r on the client's session, connected or
// not. BadTopic when none is valid, then SessionNotFound, Quota.
func (s *Service) Subscribe(ctx context.Context, r SubscribeRequest) error {
	filters := validFilters(r.Topics)
	if len(filters) == 0 {
		return badTopic(r.Topics)
	}
	return s.onOwner(ctx, SessionNotFound, func(ctx context.Context, n Node) error {
		for _, f := range filters {
			if err := n.Subscribe(ctx, r.ClientID, f, r.QoS); err != nil {
				return err
			}
		}
		return nil
	})
}

// UnsubscribeRequest takes filters back on behalf of a client.
type UnsubscribeRequest struct {
	ClientID string
	Topics   []string
}

// Unsubscribe takes every valid filter of r off the client's session; one that
// the session does not have is success. BadTopic, SessionNotFound.
func (s *Service) Unsubscribe(ctx context.Context, r UnsubscribeRequest) error {
	filters := validFilters(r.Topics)
	if len(filters) == 0 {
		return badTopic(r.Topics)
	}
	return s.onOwner(ctx, SessionNotFound, func(ctx context.Context, n Node) error {
		for _, f := range filters {
			if err := n.Unsubscribe(ctx, r.ClientID, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func validFilters(topics []string) []string {
	valid := make([]string, 0, len(topics))
	for _, t := range topics {
		if _, _, _, ok := topic.ParseShare(t); ok && len(t) <= maxTopic {
			valid = append(valid, t)
		}
	}
	return valid
}

func badTopic(topics []string) error {
	subject := ""
	if len(topics) > 0 {
		subject = topics[0]
	}
	return failOn(BadTopic, subject, "bad topic")
}
