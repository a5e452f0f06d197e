package impl

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// remote is the address of the connection. What a request says of where it
// came from is not looked at. A unix socket has none.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// admitUser lets an admin user in, or answers the request.
func (s *Server) admitUser(w http.ResponseWriter, r *http.Request, v *version) bool {
	name, password, ok := r.BasicAuth()
	if !ok {
		s.unauthorized(w, v, "")
		return false
	}
	if s.o.Admin.KnownUser(r.Context(), name, password) {
		return true
	}
	if s.limited(w, r, v) {
		return false
	}
	err := s.o.Admin.CheckUser(r.Context(), name, password)
	switch admin.KindOf(err) {
	case admin.LoginUnknown, admin.LoginWrong:
		s.loginFailed(r)
		s.unauthorized(w, v, "")
	case admin.LoginLocal:
		s.log.Warn("the default password was refused: it works from this machine only", "peer", r.RemoteAddr)
		e, _ := errors.AsType[*admin.Error](err)
		s.unauthorized(w, v, e.Message)
	default:
		if err == nil {
			return true
		}
		s.refuse(w, v, err)
	}
	return false
}

// admitApp lets an application in, or answers the request.
func (s *Server) admitApp(w http.ResponseWriter, r *http.Request, v *version) bool {
	id, secret, ok := r.BasicAuth()
	if !ok {
		s.unauthorized(w, v, "")
		return false
	}
	if s.o.Admin.KnownApp(id, secret) {
		return true
	}
	if s.limited(w, r, v) {
		return false
	}
	if s.o.Admin.CheckApp(id, secret) {
		return true
	}
	s.loginFailed(r)
	s.unauthorized(w, v, "")
	return false
}

// limited answers a request from an address that has failed to log in too often.
func (s *Server) limited(w http.ResponseWriter, r *http.Request, v *version) bool {
	wait := s.failed.wait(remote(r), time.Now())
	if wait <= 0 {
		return false
	}
	s.counts.limited.Add(1)
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	s.refuse(w, v, fail(admin.LoginLimited))
	return true
}

func (s *Server) loginFailed(r *http.Request) {
	s.counts.loginsFailed.Add(1)
	s.failed.failed(remote(r), time.Now())
}

// unauthorized answers a request without good credentials; reason is for a
// person, where the version's own words do not say enough.
func (s *Server) unauthorized(w http.ResponseWriter, v *version, reason string) {
	if v == nil {
		v = s.versions[len(s.versions)-1]
	}
	w.Header().Set("WWW-Authenticate", `Basic Realm="`+v.realm+`"`)
	text := v.unauthorized
	if reason != "" {
		text = reason
	}
	writeText(w, http.StatusUnauthorized, text)
}
