package v3

import (
	"context"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// ListAllPlugins answers GET plugins/.
func (h *Handlers) ListAllPlugins(ctx context.Context, _ gen.ListAllPluginsRequestObject) (gen.ListAllPluginsResponseObject, error) {
	all, err := h.admin.AllPlugins(ctx)
	return gen.ListAllPlugins200JSONResponse(rows(all, func(of admin.Of[[]admin.Plugin]) gen.NodePlugins {
		return gen.NodePlugins{Node: of.Node, Plugins: plugins(of.Value)}
	})), err
}

// ListNodePlugins answers GET nodes/{node}/plugins/.
func (h *Handlers) ListNodePlugins(ctx context.Context, r gen.ListNodePluginsRequestObject) (gen.ListNodePluginsResponseObject, error) {
	all, err := h.admin.Plugins(ctx, r.Node)
	return gen.ListNodePlugins200JSONResponse(plugins(all)), err
}

// LoadPlugin answers PUT nodes/{node}/plugins/{plugin}/load.
func (h *Handlers) LoadPlugin(ctx context.Context, r gen.LoadPluginRequestObject) (gen.LoadPluginResponseObject, error) {
	return gen.LoadPlugin200JSONResponse(ok), h.admin.LoadPlugin(ctx, r.Node, r.Plugin)
}

// UnloadPlugin answers PUT nodes/{node}/plugins/{plugin}/unload.
func (h *Handlers) UnloadPlugin(ctx context.Context, r gen.UnloadPluginRequestObject) (gen.UnloadPluginResponseObject, error) {
	return gen.UnloadPlugin200JSONResponse(ok), h.admin.UnloadPlugin(ctx, r.Node, r.Plugin)
}

// GetPluginConfigs answers GET nodes/{node}/plugin_configs/{plugin}.
func (h *Handlers) GetPluginConfigs(ctx context.Context, r gen.GetPluginConfigsRequestObject) (gen.GetPluginConfigsResponseObject, error) {
	list, err := h.admin.PluginConfig(ctx, r.Node, r.Plugin)
	return gen.GetPluginConfigs200JSONResponse(rows(list, func(s admin.PluginSetting) gen.PluginConfigEntry {
		return gen.PluginConfigEntry{Key: s.Key, Value: s.Value, Desc: s.Desc, Required: s.Required}
	})), err
}

// UpdatePluginConfigs answers PUT nodes/{node}/plugin_configs/{plugin}.
func (h *Handlers) UpdatePluginConfigs(ctx context.Context, r gen.UpdatePluginConfigsRequestObject) (gen.UpdatePluginConfigsResponseObject, error) {
	return gen.UpdatePluginConfigs200JSONResponse(ok), h.admin.SetPluginConfig(ctx, r.Node, r.Plugin, *r.Body)
}

// GetAllConfigs answers GET configs/.
func (h *Handlers) GetAllConfigs(ctx context.Context, _ gen.GetAllConfigsRequestObject) (gen.GetAllConfigsResponseObject, error) {
	all, err := h.admin.AllSettings(ctx, admin.V3)
	return gen.GetAllConfigs200JSONResponse(rows(all, func(of admin.Of[[]admin.Setting]) gen.NodeConfigs {
		return gen.NodeConfigs{Node: of.Node, Config: rows(of.Value, setting)}
	})), err
}

// GetNodeConfigs answers GET nodes/{node}/configs/ with the entries, where the
// document shows bare success (C12).
func (h *Handlers) GetNodeConfigs(ctx context.Context, r gen.GetNodeConfigsRequestObject) (gen.GetNodeConfigsResponseObject, error) {
	list, err := h.admin.Settings(ctx, admin.V3, r.Node)
	return gen.GetNodeConfigs200JSONResponse(rows(list, setting)), err
}

// UpdateConfig answers PUT configs/{app}.
func (h *Handlers) UpdateConfig(ctx context.Context, r gen.UpdateConfigRequestObject) (gen.UpdateConfigResponseObject, error) {
	return gen.UpdateConfig200JSONResponse(ok), h.admin.SetConfig(ctx, "", r.App, r.Body.Key, r.Body.Value)
}

// UpdateNodeConfig answers PUT nodes/{node}/configs/{app}.
func (h *Handlers) UpdateNodeConfig(ctx context.Context, r gen.UpdateNodeConfigRequestObject) (gen.UpdateNodeConfigResponseObject, error) {
	return gen.UpdateNodeConfig200JSONResponse(ok), h.admin.SetConfig(ctx, r.Node, r.App, r.Body.Key, r.Body.Value)
}

// ListBanned answers GET banned/.
func (h *Handlers) ListBanned(ctx context.Context, r gen.ListBannedRequestObject) (gen.ListBannedResponseObject, error) {
	w := h.window(r.Params.Page, r.Params.Limit)
	p, err := h.admin.Bans(ctx, w)
	return gen.ListBanned200JSONResponse{Items: rows(p.Rows, banned), Meta: meta(w, p)}, err
}

// CreateBanned answers POST banned/ with the request.
func (h *Handlers) CreateBanned(ctx context.Context, r gen.CreateBannedRequestObject) (gen.CreateBannedResponseObject, error) {
	err := h.admin.Ban(ctx, admin.Ban{
		As: string(r.Body.As), Who: r.Body.Who, Reason: or(r.Body.Reason, ""), By: or(r.Body.By, ""),
		Desc: or(r.Body.Desc, ""), Until: orNull(r.Body.Until),
	})
	if err != nil {
		return nil, err
	}
	same, err := echo(r.Body)
	return gen.CreateBanned201JSONResponse(same), err
}

// DeleteBanned answers DELETE banned/{who}; as comes in the query or the body.
func (h *Handlers) DeleteBanned(ctx context.Context, r gen.DeleteBannedRequestObject) (gen.DeleteBannedResponseObject, error) {
	as := r.Params.As
	if as == nil && r.Body != nil {
		as = r.Body.As
	}
	if as == nil {
		return nil, admin.Missing("as")
	}
	return gen.DeleteBanned200JSONResponse(ok), h.admin.Unban(ctx, string(*as), r.Who)
}

// plugins are those that this version's document lists, under its prefix.
func plugins(all []admin.Plugin) []gen.PluginRow {
	out := []gen.PluginRow{}
	for _, p := range all {
		if p.V3.Version != "" {
			out = append(out, gen.PluginRow{Name: "emqx_" + p.Name, Version: p.V3.Version, Description: p.V3.Description, Active: p.Active})
		}
	}
	return out
}

func setting(s admin.Setting) gen.ConfigEntry {
	return gen.ConfigEntry{Key: s.Key, Value: s.Value, Datatpye: s.Datatype, App: s.App}
}

func banned(b admin.Ban) gen.BannedRow {
	return gen.BannedRow{
		As: gen.BanKind(b.As), Who: b.Who, By: admin.OrUndefined(b.By), Reason: admin.OrUndefined(b.Reason),
		Desc: admin.OrUndefined(b.Desc), Until: deadline(b.Until),
	}
}
