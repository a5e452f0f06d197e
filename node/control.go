package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/labstack/echo/v4"

	"github.com/lacewing-mqtt/lacewing/cluster"
	"github.com/lacewing-mqtt/lacewing/engine"
	"github.com/lacewing-mqtt/lacewing/engine/packet"
	"github.com/lacewing-mqtt/lacewing/engine/topic"
	api "github.com/lacewing-mqtt/lacewing/gen/node"
	"github.com/lacewing-mqtt/lacewing/impl/peer"
	"github.com/lacewing-mqtt/lacewing/plugins/recon"
	"github.com/lacewing-mqtt/lacewing/raftstore"
)

// ControlPath is where the node API is mounted on the listeners that serve it.
const ControlPath = cluster.APIPath

// maxRestore bounds the body of a restore.
const maxRestore = 1 << 30

// controlHandler serves the node API below ControlPath. Who may call it is decided
// before it: it checks no credentials.
func (n *Node) controlHandler() (http.Handler, error) {
	doc, err := api.GetSpec()
	if err != nil {
		return nil, fmt.Errorf("document of the node API: %w", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return nil, fmt.Errorf("document of the node API: %w", err)
	}
	c := &control{Node: n, Handlers: &peer.Handlers{Node: n.asked, Sync: func(ctx context.Context) bool { return n.store.Sync(ctx) }}}
	e := echo.New()
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		status, message := http.StatusInternalServerError, err.Error()
		if he, ok := errors.AsType[*echo.HTTPError](err); ok {
			status, message = he.Code, fmt.Sprint(he.Message)
		}
		writeFailure(c.Response(), status, message)
	}
	e.GET(ControlPath+"/openapi.json", func(c echo.Context) error { return c.JSON(http.StatusOK, doc) })
	api.RegisterHandlersWithBaseURL(e, api.NewStrictHandler(c, []api.StrictMiddlewareFunc{c.Failures}), ControlPath)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A request is over when its connection cannot be read any more: the deadline for
		// bodies would end a profile or a trace in the middle.
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return // the connection is gone
		}
		// What members ask each other is for them alone, and they ask nothing else.
		if _, member := cluster.PeerOf(r.Context()); member != strings.HasPrefix(r.URL.Path, ControlPath+"/peer/") {
			writeFailure(w, http.StatusNotFound, "no such call")
			return
		} else if member {
			r.Body = http.MaxBytesReader(w, r.Body, maxCommand)
		}
		if r.URL.Path != ControlPath+"/openapi.json" {
			route, params, err := router.FindRoute(r)
			if err != nil {
				status := http.StatusNotFound
				if errors.Is(err, routers.ErrMethodNotAllowed) {
					status = http.StatusMethodNotAllowed
				}
				writeFailure(w, status, "no such call")
				return
			}
			err = openapi3filter.ValidateRequest(r.Context(), &openapi3filter.RequestValidationInput{
				Request: r, PathParams: params, Route: route,
				Options: &openapi3filter.Options{
					AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
					ExcludeRequestBody: true, // the one body there is is a file
				},
			})
			if err != nil {
				message := err.Error()
				if re, ok := errors.AsType[*openapi3filter.RequestError](err); ok && re.Parameter != nil {
					message = "bad parameter " + re.Parameter.Name
				}
				writeFailure(w, http.StatusBadRequest, message)
				return
			}
		}
		e.ServeHTTP(w, r)
	}), nil
}

func writeFailure(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Failure{Message: message}) // a caller that is gone cannot be told
}

// control is the node API over a Node.
type control struct {
	*Node
	*peer.Handlers // what the other nodes ask
}

func (c *control) node() *Node { return c.Node }

var _ api.StrictServerInterface = (*control)(nil)

// NodeStatus implements node_status.
func (c *control) NodeStatus(context.Context, api.NodeStatusRequestObject) (api.NodeStatusResponseObject, error) {
	n := c.node()
	s := api.NodeStatus200JSONResponse{
		Node: n.name, Version: n.release, Compatible: Compatible,
		Go:            runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH,
		UptimeSeconds: int64(time.Since(n.started).Seconds()),
		DataDir:       n.data.path,
		Descriptors:   int64(n.limits.Descriptors), Cores: n.limits.Cores, Memory: int64(n.limits.Memory),
		Listeners: []api.OpenListener{},
	}
	for _, l := range n.Listening() {
		s.Listeners = append(s.Listeners, api.OpenListener{Name: l.Name, Address: l.Address})
	}
	return s, nil
}

// StoreStatus implements store_status.
func (c *control) StoreStatus(ctx context.Context, _ api.StoreStatusRequestObject) (api.StoreStatusResponseObject, error) {
	st, err := c.node().service.Storage(ctx)
	if err != nil {
		return nil, err
	}
	out := api.StoreStatus200JSONResponse{
		Durability: api.StoreStatusDurability(st.Durability), Promise: st.Promise,
		Bytes: st.Bytes, MaxBytes: st.MaxBytes, LiveBytes: st.LiveBytes, Segments: st.Segments, Staged: st.Staged, Committed: st.Committed,
		Commits: st.Commits, Changes: st.Changes, CommittedBytes: st.CommittedBytes, Syncs: st.Syncs, SyncSeconds: st.SyncTime.Seconds(),
		RewrittenBytes: st.RewrittenBytes, Faults: st.Faults,
		GroupP50: st.GroupSizes.Quantile(0.5), GroupP99: st.GroupSizes.Quantile(0.99),
		CommitP50Seconds: st.CommitTimes.Quantile(0.5) / 1e6, CommitP99Seconds: st.CommitTimes.Quantile(0.99) / 1e6,
	}
	if st.Fault != "" {
		out.Error = &st.Fault
	}
	return out, nil
}

var errNoRecon = errors.New("the plugin recon is not active")

func (c *control) recon() (*recon.Recon, error) {
	p, ok := c.node().plugins.Running("recon")
	if !ok {
		return nil, errNoRecon
	}
	r, ok := p.(*recon.Recon)
	if !ok {
		return nil, errNoRecon
	}
	return r, nil
}

func refused(err error) api.RefusedJSONResponse { return api.RefusedJSONResponse{Message: err.Error()} }

// Vm implements vm.
func (c *control) Vm(context.Context, api.VmRequestObject) (api.VmResponseObject, error) {
	r, err := c.recon()
	if err != nil {
		return api.Vm409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	m, s := r.Memory(), r.Scheduler()
	var out api.Vm200JSONResponse
	out.Memory.Process = int64(processMemory())
	out.Memory.Used, out.Memory.Heap, out.Memory.Stacks = int64(m.Used), int64(m.Heap), int64(m.Stacks)
	out.Memory.Released, out.Memory.Total, out.Memory.Objects = int64(m.Released), int64(m.Total), int64(m.Objects)
	out.Memory.NextCollect, out.Memory.Collections = int64(m.NextCollect), int64(m.Collections)
	out.Memory.PauseSeconds = m.PauseTotal.Seconds()
	if !m.LastCollected.IsZero() {
		out.Memory.LastCollected = &m.LastCollected
	}
	out.Scheduler.Goroutines, out.Scheduler.Threads, out.Scheduler.Processors = s.Goroutines, s.Threads, s.Processors
	out.Scheduler.LatencyP50Seconds, out.Scheduler.LatencyP99Seconds = s.LatencyP50.Seconds(), s.LatencyP99.Seconds()
	return out, nil
}

// VmCollect implements vm_collect.
func (c *control) VmCollect(context.Context, api.VmCollectRequestObject) (api.VmCollectResponseObject, error) {
	r, err := c.recon()
	if err != nil {
		return api.VmCollect409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.VmCollect200JSONResponse{FreedBytes: r.Collect()}, nil
}

// VmProfile implements vm_profile.
func (c *control) VmProfile(ctx context.Context, request api.VmProfileRequestObject) (api.VmProfileResponseObject, error) {
	r, err := c.recon()
	if err == nil {
		length, debug := 10*time.Second, 0
		if s := request.Params.Seconds; s != nil {
			length = time.Duration(*s) * time.Second
		}
		if d := request.Params.Debug; d != nil {
			debug = *d
		}
		var text bytes.Buffer // a profile that fails half way is a refusal and no half answer
		if err = r.Profile(ctx, &text, string(request.Name), length, debug); err == nil {
			return api.VmProfile200ApplicationoctetStreamResponse{Body: &text, ContentLength: int64(text.Len())}, nil
		}
	}
	return api.VmProfile409JSONResponse{RefusedJSONResponse: refused(err)}, nil
}

// Reload implements reload.
func (c *control) Reload(ctx context.Context, request api.ReloadRequestObject) (api.ReloadResponseObject, error) {
	var what []string
	if request.Params.What != nil {
		for _, w := range *request.Params.What {
			what = append(what, string(w))
		}
	}
	read, err := c.node().Reload(ctx, what...)
	if err != nil {
		return api.Reload409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.Reload200JSONResponse{Reloaded: read}, nil
}

// EffectiveConfigs implements effective_configs.
func (c *control) EffectiveConfigs(context.Context, api.EffectiveConfigsRequestObject) (api.EffectiveConfigsResponseObject, error) {
	out := api.EffectiveConfigs200JSONResponse{}
	for _, v := range c.node().Config().Values() {
		out = append(out, api.EffectiveConfig{
			Key: v.Key, Value: v.Text, Origin: api.EffectiveConfigOrigin(v.Origin.String()), Source: v.Source, Hot: v.Hot,
		})
	}
	return out, nil
}

// DropSession implements drop_session.
func (c *control) DropSession(_ context.Context, request api.DropSessionRequestObject) (api.DropSessionResponseObject, error) {
	switch err := c.node().engine.DropSession(request.ClientId); {
	case errors.Is(err, engine.ErrNotFound):
		return api.DropSession404JSONResponse{NotFoundJSONResponse: api.NotFoundJSONResponse{Message: "no session of that client"}}, nil
	case err != nil:
		return nil, err
	}
	return api.DropSession204Response{}, nil
}

// ListRetained implements list_retained.
func (c *control) ListRetained(_ context.Context, request api.ListRetainedRequestObject) (api.ListRetainedResponseObject, error) {
	offset, limit := 0, 100
	if p := request.Params.Offset; p != nil {
		offset = *p
	}
	if p := request.Params.Limit; p != nil {
		limit = *p
	}
	rows, total := c.node().engine.Retained(offset, limit)
	out := api.ListRetained200JSONResponse{Total: total, Items: []api.RetainedMessage{}}
	for _, m := range rows {
		out.Items = append(out.Items, api.RetainedMessage{Topic: m.Topic, Qos: int(m.QoS), Size: len(m.Payload), From: m.From, At: m.At})
	}
	return out, nil
}

// CleanRetained implements clean_retained.
func (c *control) CleanRetained(_ context.Context, request api.CleanRetainedRequestObject) (api.CleanRetainedResponseObject, error) {
	if !topic.ValidFilter(request.Params.Filter) {
		return api.CleanRetained409JSONResponse{RefusedJSONResponse: api.RefusedJSONResponse{Message: "no topic filter"}}, nil
	}
	return api.CleanRetained200JSONResponse{Count: c.node().engine.CleanRetained(request.Params.Filter)}, nil
}

// Trace implements trace.
func (c *control) Trace(ctx context.Context, request api.TraceRequestObject) (api.TraceResponseObject, error) {
	var filter engine.TraceFilter
	if p := request.Params.ClientId; p != nil {
		filter.ClientID = *p
	}
	if p := request.Params.Topic; p != nil {
		filter.Topic = *p
	}
	switch {
	case filter.ClientID == "" && filter.Topic == "":
		return api.Trace409JSONResponse{RefusedJSONResponse: api.RefusedJSONResponse{Message: "say which client or which topic"}}, nil
	case filter.Topic != "" && !topic.ValidFilter(filter.Topic):
		return api.Trace409JSONResponse{RefusedJSONResponse: api.RefusedJSONResponse{Message: "no topic filter"}}, nil
	}
	length := 600 * time.Second
	if p := request.Params.Seconds; p != nil {
		length = time.Duration(*p) * time.Second
	}
	return traceStream{ctx: ctx, node: c.node(), filter: filter, length: length}, nil
}

// traceStream writes packets as they come. The engine calls it on the goroutines of
// the traffic, which may not wait for a slow reader: what does not fit is counted.
type traceStream struct {
	ctx    context.Context
	node   *Node
	filter engine.TraceFilter
	length time.Duration
}

const traceBacklog = 1024

// VisitTraceResponse implements the response of trace.
func (t traceStream) VisitTraceResponse(w http.ResponseWriter) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.length)
	defer cancel()
	events := make(chan engine.TraceEvent, traceBacklog)
	var missed atomic.Int64
	stop := t.node.engine.Trace(t.filter, func(e engine.TraceEvent) {
		select {
		case events <- e:
		default:
			missed.Add(1)
		}
	})
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	end := time.Now().Add(t.length + time.Minute)
	if err := errors.Join(rc.SetWriteDeadline(end), rc.SetReadDeadline(end)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil // the connection is gone
	}
	enc := json.NewEncoder(w)
	flush := func() bool { return rc.Flush() == nil }
	if !flush() {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.node.closing:
			return nil
		case e := <-events:
			if enc.Encode(tracedPacket(e, missed.Swap(0))) != nil {
				return nil // the caller has gone
			}
			if len(events) == 0 && !flush() {
				return nil
			}
		}
	}
}

func tracedPacket(e engine.TraceEvent, missed int64) api.TracedPacket {
	p := api.TracedPacket{At: e.At, ClientId: e.ClientID, Peer: e.Peer, Direction: api.In, Type: e.Type.String()}
	if e.Sent {
		p.Direction = api.Out
	}
	if missed > 0 {
		p.Missed = &missed
	}
	if e.PacketID != 0 {
		id := int(e.PacketID)
		p.PacketId = &id
	}
	if e.Topic != "" {
		p.Topic = &e.Topic
	}
	if e.Type == packet.TypePublish {
		qos := int(e.QoS)
		p.Qos, p.Retain, p.Dup, p.Size = &qos, &e.Retain, &e.Dup, &e.Size
	}
	if e.Code != 0 {
		code := int(e.Code)
		p.Code = &code
	}
	return p
}

// Backup implements backup.
func (c *control) Backup(ctx context.Context, _ api.BackupRequestObject) (api.BackupResponseObject, error) {
	var text bytes.Buffer
	if err := c.node().store.Backup(&text); err != nil {
		return api.Backup409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.Backup200ApplicationoctetStreamResponse{Body: &text, ContentLength: int64(text.Len())}, nil
}

// Restore implements restore.
func (c *control) Restore(ctx context.Context, request api.RestoreRequestObject) (api.RestoreResponseObject, error) {
	n := c.node()
	err := n.store.Restore(io.LimitReader(request.Body, maxRestore))
	if err == nil {
		err = errors.Join(n.Reconfigure(ctx), n.plugins.Sync(ctx))
	}
	if err != nil {
		return api.Restore409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.Restore204Response{}, nil
}

// SetPassword implements set_password.
func (c *control) SetPassword(ctx context.Context, request api.SetPasswordRequestObject) (api.SetPasswordResponseObject, error) {
	switch err := c.node().store.SetUserPassword(ctx, request.Name, request.Body.Password); {
	case errors.Is(err, raftstore.ErrNotFound):
		return api.SetPassword404JSONResponse{NotFoundJSONResponse: api.NotFoundJSONResponse{Message: "no admin user of that name"}}, nil
	case err != nil:
		return api.SetPassword409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.SetPassword204Response{}, nil
}

// ReloadPlugin implements reload_plugin.
func (c *control) ReloadPlugin(ctx context.Context, request api.ReloadPluginRequestObject) (api.ReloadPluginResponseObject, error) {
	if err := c.node().plugins.Reload(ctx, request.Name); err != nil {
		return api.ReloadPlugin409JSONResponse{RefusedJSONResponse: refused(err)}, nil
	}
	return api.ReloadPlugin204Response{}, nil
}

// ListPlugins implements list_plugins.
func (c *control) ListPlugins(context.Context, api.ListPluginsRequestObject) (api.ListPluginsResponseObject, error) {
	out := api.ListPlugins200JSONResponse{}
	for _, p := range c.node().plugins.List() {
		description := p.V3.Description
		if description == "" {
			description = p.V2.Description
		}
		out = append(out, struct {
			Active      bool   `json:"active"`
			Description string `json:"description"`
			Name        string `json:"name"`
		}{p.Active, description, "emqx_" + p.Name})
	}
	return out, nil
}
