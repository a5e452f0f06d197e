package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// answer is what a call came to: the decoded value, and the JSON that it was.
type answer[T any] struct {
	Value T
	Raw   json.RawMessage
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 30

// fetch takes the response of a generated client and returns its value, or an error
// in one line.
func fetch[T any](resp *http.Response, err error) (answer[T], error) {
	var out answer[T]
	body, err := read(resp, err)
	if err != nil {
		return out, err
	}
	if out.Raw, err = unwrap(body); err != nil {
		return out, err
	}
	if len(out.Raw) == 0 {
		return out, nil
	}
	if err := json.Unmarshal(out.Raw, &out.Value); err != nil {
		return out, fmt.Errorf("answer of the node: %w", err)
	}
	return out, nil
}

// do takes the response of a call that has no value.
func do(resp *http.Response, err error) error {
	body, err := read(resp, err)
	if err == nil && len(body) > 0 {
		_, err = unwrap(body)
	}
	return err
}

// stream takes the response of a call whose answer is read as it comes.
func stream(resp *http.Response, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, connection(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	_, err = read(resp, nil)
	return nil, err
}

func read(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, connection(err)
	}
	defer resp.Body.Close() // all of it was read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("answer of the node: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return body, nil
	}
	var failure struct {
		Message string `json:"message"`
	}
	text := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &failure) == nil && failure.Message != "" {
		text = failure.Message
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return nil, fmt.Errorf("user or password refused: %s", text)
	case text == "":
		return nil, errors.New(resp.Status)
	}
	return nil, errors.New(strings.TrimSuffix(text, "."))
}

// connection strips what an operator does not need off an error of the client.
func connection(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return fmt.Errorf("the node does not answer: %w", op.Err)
	}
	return fmt.Errorf("the node does not answer: %w", err)
}

// unwrap brings an answer of the code dialect, which a node may be configured to
// speak, to the form of the items dialect, and turns its codes into errors.
func unwrap(body []byte) (json.RawMessage, error) {
	var c struct {
		Code    *int            `json:"code"`
		Message string          `json:"message"`
		Data    json.RawMessage `json:"data"`
		Meta    json.RawMessage `json:"meta"`
	}
	if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) || json.Unmarshal(body, &c) != nil || c.Code == nil {
		return body, nil
	}
	switch {
	case *c.Code != 0:
		if known := codes[*c.Code]; c.Message == "" {
			c.Message = known
		}
		return nil, fmt.Errorf("%s (code %d)", c.Message, *c.Code)
	case c.Meta != nil && c.Data != nil:
		return json.Marshal(map[string]json.RawMessage{"items": c.Data, "meta": c.Meta})
	}
	return c.Data, nil
}

// codes are the words for codes that come without a message.
var codes = map[int]string{112: "no such client or session", 115: "bad topic"}
