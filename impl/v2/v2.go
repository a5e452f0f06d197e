// Package v2 answers the REST API v2: it turns requests of the generated
// server into calls of package admin, and what these return into the rows and
// envelopes of that document. It decides nothing.
package v2

import (
	"context"
	"math"

	gen "github.com/lacewing-mqtt/lacewing/gen/v2"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// What the document calls for and this server has no counterpart of.
const (
	release          = "2.3.11"  // that the API is compatible with
	otpRelease       = "R19/8.3" // a string of this pattern is all that clients ask for
	processAvailable = 262144    // tasks are not limited; the reference's default
)

// Handlers implement the generated server.
type Handlers struct {
	admin *admin.Service
	// arrays says whether the aggregates of listeners, metrics and stats are
	// lists that hold the object, as release 2.3.11 sends them.
	arrays func() bool
}

// New makes the handlers. arrays is asked for each answer.
func New(s *admin.Service, arrays func() bool) *Handlers { return &Handlers{s, arrays} }

// empty is the result of success without data.
var empty = gen.EmptyList{}

func done() gen.EmptySuccess { return gen.EmptySuccess{Code: gen.Success, Result: empty} }

const defaultPageSize = 20

func window(page *gen.CurrPage, size *gen.PageSize) admin.Window {
	return admin.Window{Page: int64(or(page, 1)), Size: int64(or(size, defaultPageSize))}
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func rows[A, B any](in []A, f func(A) B) []B {
	out := make([]B, len(in))
	for i, a := range in {
		out[i] = f(a)
	}
	return out
}

func count[T int | int64](n T) gen.Count { return gen.Count(n) }

// aggregate makes an object of what every node said, keyed by node.
func aggregate[A, B any](all []admin.Of[A], f func(A) B) map[string]B {
	out := make(map[string]B, len(all))
	for _, of := range all {
		out[of.Node] = f(of.Value)
	}
	return out
}

// clip fits a figure of 64 bits into the generated type.
func clip(n int64) int { return int(min(n, math.MaxInt)) }

var _ gen.StrictServerInterface = (*Handlers)(nil)

// AuthUser answers POST auth.
func (h *Handlers) AuthUser(ctx context.Context, r gen.AuthUserRequestObject) (gen.AuthUserResponseObject, error) {
	return gen.AuthUser200JSONResponse(done()), h.admin.Login(ctx, r.Body.Username, r.Body.Password)
}

// ChangePwd answers PUT change_pwd/{username}.
func (h *Handlers) ChangePwd(ctx context.Context, r gen.ChangePwdRequestObject) (gen.ChangePwdResponseObject, error) {
	err := h.admin.ChangePassword(ctx, r.Username, admin.PasswordPair{
		OldPwd: r.Body.OldPwd, NewPwd: r.Body.NewPwd, OldPassword: r.Body.Oldpassword, Password: r.Body.Password,
	})
	return gen.ChangePwd200JSONResponse(done()), err
}

// ListUsers answers GET users.
func (h *Handlers) ListUsers(ctx context.Context, _ gen.ListUsersRequestObject) (gen.ListUsersResponseObject, error) {
	all, err := h.admin.Users(ctx)
	return gen.ListUsers200JSONResponse{Code: gen.Success, Result: rows(all, user)}, err
}

// LookupUser answers GET users/{username}.
func (h *Handlers) LookupUser(ctx context.Context, r gen.LookupUserRequestObject) (gen.LookupUserResponseObject, error) {
	u, found, err := h.admin.User(ctx, r.Username)
	answer := gen.LookupUser200JSONResponse{Code: gen.Success}
	if found {
		err = first(err, answer.Result.FromUserRow(user(u)))
	} else {
		err = first(err, answer.Result.FromEmptyList(empty))
	}
	return answer, err
}

// CreateUser answers POST users.
func (h *Handlers) CreateUser(ctx context.Context, r gen.CreateUserRequestObject) (gen.CreateUserResponseObject, error) {
	err := h.admin.CreateUser(ctx, admin.NewUser{Name: r.Body.Username, Password: r.Body.Password, Tags: r.Body.Tags})
	return gen.CreateUser200JSONResponse(done()), err
}

// UpdateUser answers PUT users/{username}.
func (h *Handlers) UpdateUser(ctx context.Context, r gen.UpdateUserRequestObject) (gen.UpdateUserResponseObject, error) {
	return gen.UpdateUser200JSONResponse(done()), h.admin.UpdateUser(ctx, r.Username, r.Body.Tags)
}

// DeleteUser answers DELETE users/{username}.
func (h *Handlers) DeleteUser(ctx context.Context, r gen.DeleteUserRequestObject) (gen.DeleteUserResponseObject, error) {
	return gen.DeleteUser200JSONResponse(done()), h.admin.DeleteUser(ctx, r.Username)
}

func user(u admin.User) gen.UserRow { return gen.UserRow{Username: u.Name, Tags: u.Tags} }

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
