package v3

import (
	"context"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListApps answers GET apps/.
func (h *Handlers) ListApps(ctx context.Context, _ gen.ListAppsRequestObject) (gen.ListAppsResponseObject, error) {
	all, err := h.admin.Apps(ctx)
	return gen.ListApps200JSONResponse(rows(all, func(a admin.App) gen.AppRow {
		return gen.AppRow{AppId: a.ID, Name: a.Name, Desc: a.Desc, Status: a.Status, Expired: deadline(a.Expired)}
	})), err
}

// AddApp answers POST apps/.
func (h *Handlers) AddApp(ctx context.Context, r gen.AddAppRequestObject) (gen.AddAppResponseObject, error) {
	secret, err := h.admin.CreateApp(ctx, admin.App{
		ID: r.Body.AppId, Name: or(r.Body.Name, ""), Desc: or(r.Body.Desc, ""), Status: or(r.Body.Status, true),
		Expired: orNull(r.Body.Expired), Secret: or(r.Body.Secret, ""),
	})
	return gen.AddApp200JSONResponse{Secret: secret}, err
}

// LookupApp answers GET apps/{appid}: the only place that shows a secret again.
func (h *Handlers) LookupApp(ctx context.Context, r gen.LookupAppRequestObject) (gen.LookupAppResponseObject, error) {
	a, found, err := h.admin.App(ctx, r.Appid)
	if err != nil {
		return nil, err
	}
	var row gen.AppOrNothing
	if !found {
		err = row.FromEmptyList(gen.EmptyList{})
		return gen.LookupApp200JSONResponse(row), err
	}
	err = row.FromAppDetail(gen.AppDetail{
		AppId: a.ID, Secret: a.Secret, Name: a.Name, Desc: a.Desc, Status: a.Status, Expired: deadline(a.Expired),
	})
	return gen.LookupApp200JSONResponse(row), err
}

// UpdateApp answers PUT apps/{appid}: all four properties are replaced.
func (h *Handlers) UpdateApp(ctx context.Context, r gen.UpdateAppRequestObject) (gen.UpdateAppResponseObject, error) {
	err := h.admin.UpdateApp(ctx, admin.AppChange{
		ID: r.Appid, Name: or(r.Body.Name, ""), Desc: or(r.Body.Desc, ""), Status: r.Body.Status, Expired: orNull(r.Body.Expired),
	})
	return gen.UpdateApp200JSONResponse(ok), err
}

// DelApp answers DELETE apps/{appid}.
func (h *Handlers) DelApp(ctx context.Context, r gen.DelAppRequestObject) (gen.DelAppResponseObject, error) {
	return gen.DelApp200JSONResponse(ok), h.admin.DeleteApp(ctx, r.Appid)
}

// ListUsers answers GET users/.
func (h *Handlers) ListUsers(ctx context.Context, _ gen.ListUsersRequestObject) (gen.ListUsersResponseObject, error) {
	all, err := h.admin.Users(ctx)
	return gen.ListUsers200JSONResponse(rows(all, func(u admin.User) gen.UserRow {
		return gen.UserRow{Username: u.Name, Tags: u.Tags}
	})), err
}

// CreateUser answers POST users/.
func (h *Handlers) CreateUser(ctx context.Context, r gen.CreateUserRequestObject) (gen.CreateUserResponseObject, error) {
	err := h.admin.CreateUser(ctx, admin.NewUser{Name: r.Body.Username, Password: r.Body.Password, Tags: or(r.Body.Tags, "")})
	return gen.CreateUser200JSONResponse(ok), err
}

// UpdateUser answers PUT users/{name}.
func (h *Handlers) UpdateUser(ctx context.Context, r gen.UpdateUserRequestObject) (gen.UpdateUserResponseObject, error) {
	return gen.UpdateUser200JSONResponse(ok), h.admin.UpdateUser(ctx, r.Name, r.Body.Tags)
}

// DeleteUser answers DELETE users/{name}.
func (h *Handlers) DeleteUser(ctx context.Context, r gen.DeleteUserRequestObject) (gen.DeleteUserResponseObject, error) {
	return gen.DeleteUser200JSONResponse(ok), h.admin.DeleteUser(ctx, r.Name)
}

// AuthUser answers POST auth.
func (h *Handlers) AuthUser(ctx context.Context, r gen.AuthUserRequestObject) (gen.AuthUserResponseObject, error) {
	return gen.AuthUser200JSONResponse(ok), h.admin.Login(ctx, r.Body.Username, r.Body.Password)
}

// ChangePwd answers PUT change_pwd/{username}; either pair of names is taken (C3).
func (h *Handlers) ChangePwd(ctx context.Context, r gen.ChangePwdRequestObject) (gen.ChangePwdResponseObject, error) {
	err := h.admin.ChangePassword(ctx, r.Username, admin.PasswordPair{
		OldPwd: r.Body.OldPwd, NewPwd: r.Body.NewPwd, OldPassword: r.Body.Oldpassword, Password: r.Body.Password,
	})
	return gen.ChangePwd200JSONResponse(ok), err
}

// ListClientid answers GET auth_clientid.
func (h *Handlers) ListClientid(ctx context.Context, _ gen.ListClientidRequestObject) (gen.ListClientidResponseObject, error) {
	ids, err := h.admin.Credentials(ctx, admin.ByClientID)
	return gen.ListClientid200JSONResponse(ids), err
}

// AddClientid answers POST auth_clientid.
func (h *Handlers) AddClientid(ctx context.Context, r gen.AddClientidRequestObject) (gen.AddClientidResponseObject, error) {
	return gen.AddClientid200JSONResponse(ok), h.admin.AddCredential(ctx, admin.ByClientID, r.Body.Clientid, r.Body.Password)
}

// LookupClientid answers GET auth_clientid/{id}.
func (h *Handlers) LookupClientid(ctx context.Context, r gen.LookupClientidRequestObject) (gen.LookupClientidResponseObject, error) {
	hash, err := h.admin.Credential(ctx, admin.ByClientID, r.Clientid)
	return gen.LookupClientid200JSONResponse{Clientid: r.Clientid, Password: hash}, err
}

// UpdateClientid answers PUT auth_clientid/{id}.
func (h *Handlers) UpdateClientid(ctx context.Context, r gen.UpdateClientidRequestObject) (gen.UpdateClientidResponseObject, error) {
	return gen.UpdateClientid200JSONResponse(ok), h.admin.UpdateCredential(ctx, admin.ByClientID, r.Clientid, r.Body.Password)
}

// DeleteClientid answers DELETE auth_clientid/{id}.
func (h *Handlers) DeleteClientid(ctx context.Context, r gen.DeleteClientidRequestObject) (gen.DeleteClientidResponseObject, error) {
	return gen.DeleteClientid200JSONResponse(ok), h.admin.DeleteCredential(ctx, admin.ByClientID, r.Clientid)
}

// ListUsername answers GET auth_username.
func (h *Handlers) ListUsername(ctx context.Context, _ gen.ListUsernameRequestObject) (gen.ListUsernameResponseObject, error) {
	names, err := h.admin.Credentials(ctx, admin.ByUsername)
	return gen.ListUsername200JSONResponse(names), err
}

// AddUsername answers POST auth_username.
func (h *Handlers) AddUsername(ctx context.Context, r gen.AddUsernameRequestObject) (gen.AddUsernameResponseObject, error) {
	return gen.AddUsername200JSONResponse(ok), h.admin.AddCredential(ctx, admin.ByUsername, r.Body.Username, r.Body.Password)
}

// LookupUsername answers GET auth_username/{name}.
func (h *Handlers) LookupUsername(ctx context.Context, r gen.LookupUsernameRequestObject) (gen.LookupUsernameResponseObject, error) {
	hash, err := h.admin.Credential(ctx, admin.ByUsername, r.Username)
	return gen.LookupUsername200JSONResponse{Username: r.Username, Password: hash}, err
}

// UpdateUsername answers PUT auth_username/{name}.
func (h *Handlers) UpdateUsername(ctx context.Context, r gen.UpdateUsernameRequestObject) (gen.UpdateUsernameResponseObject, error) {
	return gen.UpdateUsername200JSONResponse(ok), h.admin.UpdateCredential(ctx, admin.ByUsername, r.Username, r.Body.Password)
}

// DeleteUsername answers DELETE auth_username/{name}.
func (h *Handlers) DeleteUsername(ctx context.Context, r gen.DeleteUsernameRequestObject) (gen.DeleteUsernameResponseObject, error) {
	return gen.DeleteUsername200JSONResponse(ok), h.admin.DeleteCredential(ctx, admin.ByUsername, r.Username)
}
