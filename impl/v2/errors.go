package v2

import (
	"errors"
	"net/http"

	gen "github.com/lacewing-mqtt/lacewing/gen/v2"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// refusal is what one kind of failure looks like in this version. A code of 0
// has no body; words without a message are left out.
type refusal struct {
	status int
	code   gen.FailureCode
	words  string
}

// refusals is the one table from kinds of failure to this version.
var refusals = map[admin.Kind]refusal{
	admin.Internal:          {status: http.StatusNotFound},
	admin.UnknownNode:       {status: http.StatusNotFound},
	admin.BadPage:           {status: http.StatusNotFound},
	admin.NodeDown:          {http.StatusOK, gen.RemoteCallFailed, "nodedown"},
	admin.NoLeader:          {http.StatusServiceUnavailable, gen.RemoteCallFailed, "no leader"},
	admin.BadJSON:           {http.StatusOK, gen.NotJSON, "Body not json"},
	admin.MissingParam:      {http.StatusOK, gen.ParameterMissing, "params error"},
	admin.BadParam:          {http.StatusOK, gen.ParameterType, "params type error"},
	admin.BadTopic:          {http.StatusOK, gen.UnknownError, ""},
	admin.PublishRefused:    {http.StatusOK, gen.UnknownError, ""},
	admin.ClientOffline:     {http.StatusOK, gen.ClientOffline, ""},
	admin.SessionNotFound:   {http.StatusOK, gen.UnknownError, ""},
	admin.Quota:             {http.StatusOK, gen.UnknownError, "quota exceeded"},
	admin.UnknownPlugin:     {http.StatusOK, gen.UnknownError, "unknown"},
	admin.PluginAbsent:      {http.StatusOK, gen.UnknownError, "unknown"},
	admin.PluginStarted:     {http.StatusOK, gen.PluginLoaded, "already_started"},
	admin.PluginStopped:     {http.StatusOK, gen.PluginUnloaded, "not_started"},
	admin.PluginRefused:     {http.StatusOK, gen.UnknownError, ""},
	admin.ConfigRefused:     {http.StatusOK, gen.UnknownError, ""},
	admin.EmptyCredential:   {http.StatusOK, gen.EmptyCredentials, "Username or password undefined"},
	admin.UserUnknown:       {http.StatusOK, gen.NoSuchUser, "User not found"},
	admin.UserExists:        {http.StatusOK, gen.UserExists, "User already exist"},
	admin.UserProtected:     {http.StatusOK, gen.AdminNotDeletable, "admin cannot be deleted"},
	admin.LoginUnknown:      {http.StatusOK, gen.WrongCredentials, "User not found"},
	admin.LoginWrong:        {http.StatusOK, gen.WrongCredentials, "Password error"},
	admin.LoginLocal:        {http.StatusOK, gen.WrongCredentials, ""},
	admin.LoginLimited:      {status: http.StatusTooManyRequests},
	admin.OldPasswordWrong:  {http.StatusOK, gen.OldPasswordWrong, "OldPassword error"},
	admin.AppExists:         {status: http.StatusNotFound}, // this version has no applications
	admin.AppUnknown:        {status: http.StatusNotFound},
	admin.CredentialExists:  {status: http.StatusNotFound}, // nor MQTT credentials
	admin.CredentialUnknown: {status: http.StatusNotFound},
}

// Refusal returns the status and the body of a failure; a nil body is none.
func Refusal(err error) (status int, body *gen.Failure) {
	kind := admin.KindOf(err)
	r := refusals[kind]
	if r.code == 0 {
		return r.status, nil
	}
	words := r.words
	e, _ := errors.AsType[*admin.Error](err)
	switch kind {
	case admin.BadTopic:
		words = "validate topic: " + e.Subject + " fail"
	case admin.SessionNotFound:
		words = "Clientid: " + e.Subject + " not found"
	case admin.PluginRefused, admin.PublishRefused, admin.LoginLocal:
		words = e.Message
	}
	body = &gen.Failure{Code: r.code}
	if words != "" {
		body.Message = &words
	}
	return r.status, body
}
