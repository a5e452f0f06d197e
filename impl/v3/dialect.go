package v3

import (
	"errors"
	"net/http"

	gen "github.com/lacewing-mqtt/lacewing/gen/v3"
	"github.com/lacewing-mqtt/lacewing/impl/admin"
)

// Dialect is one of the two forms of answers of this version.
type Dialect string

// The dialects, as management.v3_dialect names them.
const (
	Items Dialect = "items" // 3.0-beta: the value itself, HTTP status for failures
	Coded Dialect = "code"  // 3.0 and later: always 200 with code, data and meta
)

// envelope is a failure in the code dialect.
type envelope struct {
	Code    gen.ResultCode `json:"code"`
	Message string         `json:"message,omitempty"`
}

// form is what a failure looks like.
type form uint8

const (
	text    form = iota // the same text in both dialects
	message             // items: status and message
	param               // items: status, message and errorCode
	result              // items: 200 and a code alone
)

// refusal is what one kind of failure looks like in this version: status and
// form in the items dialect, code in the other, words in both.
type refusal struct {
	form   form
	status int
	code   gen.ResultCode
	words  string // "" stands for the message of the error
}

// Words of answers that are text.
const (
	NotFound      = "Not found."
	BadRequest    = "Bad Request"
	InternalError = "Internal Error"
)

// refusals is the one table from kinds of failure to this version.
var refusals = map[admin.Kind]refusal{
	admin.Internal:          {text, http.StatusInternalServerError, 0, InternalError},
	admin.UnknownNode:       {text, http.StatusNotFound, 0, NotFound},
	admin.UnknownPlugin:     {text, http.StatusNotFound, 0, NotFound},
	admin.BadPage:           {text, http.StatusInternalServerError, 0, InternalError},
	admin.BadJSON:           {text, http.StatusBadRequest, 0, BadRequest},
	admin.LoginLimited:      {text, http.StatusTooManyRequests, 0, "Too Many Requests"},
	admin.NodeDown:          {message, http.StatusInternalServerError, 102, "nodedown"},
	admin.NoLeader:          {message, http.StatusServiceUnavailable, 101, "no_leader"},
	admin.MissingParam:      {param, http.StatusUnprocessableEntity, 107, ""},
	admin.BadParam:          {param, http.StatusUnprocessableEntity, 108, ""},
	admin.BadTopic:          {result, http.StatusOK, 115, "bad_topic"},
	admin.SessionNotFound:   {result, http.StatusOK, 112, "session_not_found"},
	admin.Quota:             {message, http.StatusInternalServerError, 102, "quota_exceeded"},
	admin.PublishRefused:    {message, http.StatusInternalServerError, 102, ""},
	admin.ClientOffline:     {message, http.StatusInternalServerError, 112, "not_found"},
	admin.PluginAbsent:      {message, http.StatusInternalServerError, 102, "not_found"},
	admin.PluginStarted:     {message, http.StatusInternalServerError, 102, "already_started"},
	admin.PluginStopped:     {message, http.StatusInternalServerError, 102, "not_started"},
	admin.PluginRefused:     {message, http.StatusInternalServerError, 102, ""},
	admin.ConfigRefused:     {message, http.StatusInternalServerError, 102, ""},
	admin.EmptyCredential:   {message, http.StatusInternalServerError, 102, "Username or password undefined"},
	admin.UserUnknown:       {message, http.StatusInternalServerError, 102, "Username Not Found"},
	admin.UserExists:        {message, http.StatusInternalServerError, 102, "username already exist"},
	admin.UserProtected:     {message, http.StatusInternalServerError, 102, "Cannot delete admin"},
	admin.LoginUnknown:      {message, http.StatusInternalServerError, 102, "Username Not Found"},
	admin.LoginWrong:        {message, http.StatusInternalServerError, 102, "Password Error"},
	admin.LoginLocal:        {message, http.StatusInternalServerError, 102, ""},
	admin.OldPasswordWrong:  {message, http.StatusInternalServerError, 102, "Password Error"},
	admin.AppExists:         {message, http.StatusInternalServerError, 102, "alread_existed"},
	admin.AppUnknown:        {message, http.StatusInternalServerError, 102, "ont_found"},
	admin.CredentialExists:  {message, http.StatusInternalServerError, 102, "existed"},
	admin.CredentialUnknown: {message, http.StatusInternalServerError, 102, "not_found"},
}

// Refusal returns the answer to a failure: its status, and a body that is
// either text or to be written as JSON.
func Refusal(d Dialect, err error) (status int, body any) {
	r := refusals[admin.KindOf(err)]
	words := r.words
	if e, ours := errors.AsType[*admin.Error](err); ours && words == "" {
		words = e.Message
	}
	switch {
	case r.form == text:
		return r.status, words
	case d == Coded && r.status == http.StatusServiceUnavailable:
		return r.status, envelope{Code: r.code, Message: words}
	case d == Coded:
		return http.StatusOK, envelope{Code: r.code, Message: words}
	case r.form == param:
		return r.status, gen.ParameterFailure{ErrorCode: gen.ParameterFailureErrorCode(r.code), Message: words}
	case r.form == result:
		return r.status, gen.Result{Code: r.code}
	}
	return r.status, gen.Refusal{Message: words}
}
