// Package v3 answers the REST API v3: it turns requests of the generated
// server into calls of package admin, and what these return into the rows of
// that document. It decides nothing. The handlers speak the items dialect; the
// code dialect is made of their typed results by [Code].
package v3

import (
	"context"
	"encoding/json"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
	"github.com/oapi-codegen/nullable"
)

// What the document calls for and this server has no counterpart of.
const (
	release          = "3.0.1"      // that the API is compatible with
	otpRelease       = "R21/10.0.5" // a string of this pattern is all that clients ask for
	processAvailable = 262144       // tasks are not limited; the reference's default
)

// ok is success without data.
const ok = "ok"

// Options are what the handlers ask beside the service.
type Options struct {
	// Dots says whether metrics and stats have the names of release 3.2.
	Dots func() bool
	// Index lists the calls, as GET / shows them.
	Index []gen.ApiRow
}

// Handlers implement the generated server.
type Handlers struct {
	admin *admin.Service
	o     Options
}

// New makes the handlers.
func New(s *admin.Service, o Options) *Handlers { return &Handlers{s, o} }

var _ gen.StrictServerInterface = (*Handlers)(nil)

// ListAllApi answers GET /.
func (h *Handlers) ListAllApi(context.Context, gen.ListAllApiRequestObject) (gen.ListAllApiResponseObject, error) {
	return gen.ListAllApi200JSONResponse(h.o.Index), nil
}

// window is the page that is asked for; without a limit it is as large as the
// configuration allows.
func (h *Handlers) window(page *gen.Page, limit *gen.Limit) admin.Window {
	return admin.Window{Page: int64(or(page, 1)), Size: int64(or(limit, h.admin.MaxRows()))}
}

func meta[T any](w admin.Window, p admin.Page[T]) gen.PageMeta {
	return gen.PageMeta{Page: int(w.Page), Limit: int(w.Size), Count: p.Total}
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// orNull reads a member that may be absent or null; both are 0.
func orNull(n nullable.Nullable[int64]) int64 {
	v, err := n.Get()
	if err != nil {
		return 0
	}
	return v
}

func rows[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

func deadline(at int64) (d gen.Deadline) {
	if at == 0 {
		_ = d.FromUndefined(admin.Undefined) // a word always encodes
	} else {
		_ = d.FromUnixTime(at) // an integer always encodes
	}
	return d
}

func topics(one, several *string) []string {
	if one != nil {
		return []string{*one}
	}
	if several == nil {
		return nil
	}
	return admin.SplitTopics(*several)
}

// echo is a request as it was sent.
func echo(body any) (gen.BanEcho, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var out gen.BanEcho
	return out, json.Unmarshal(text, &out)
}
