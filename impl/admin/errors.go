package admin

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what went wrong, in terms that both API versions can translate.
// Each version has one table from Kind to its own status, code and message.
type Kind uint8

// The kinds of failure.
const (
	Internal          Kind = iota // a fault of the server: nobody asked for anything wrong
	UnknownNode                   // no node of that name has ever been part of the cluster
	NodeDown                      // the node is known and does not answer
	NoLeader                      // a metadata write without a leader to take it; worth repeating
	BadPage                       // a page or size that is no number, or a size below one
	BadJSON                       // the body is not JSON
	MissingParam                  // a required member is absent
	BadParam                      // a member has the wrong type or is outside its range
	BadTopic                      // no valid topic name or filter was given
	PublishRefused                // a plugin does not let the message pass
	ClientOffline                 // an action on a connection that is not there
	SessionNotFound               // an action on a session that is not there
	Quota                         // a limit of the session or the broker refuses the action
	UnknownPlugin                 // no document has a plugin of that name
	PluginAbsent                  // a document has it, this build does not
	PluginStarted                 // load of an active plugin
	PluginStopped                 // unload of one that is not active
	PluginRefused                 // the plugin could not be started, stopped or configured
	ConfigRefused                 // unknown key, key of another application, bad value
	EmptyCredential               // a user name or password that is empty
	UserUnknown                   // an operation on a user that is not there
	UserExists                    // a second user of that name
	UserProtected                 // the user admin cannot be deleted
	LoginUnknown                  // a login with a name that no user has
	LoginWrong                    // a login with a wrong password
	LoginLocal                    // a login with the default password from another machine
	LoginLimited                  // too many failed logins from that address; worth repeating later
	OldPasswordWrong              // a change of password with a wrong old one
	AppExists                     // a second application of that id
	AppUnknown                    // an operation on an application that is not there
	CredentialExists              // a second MQTT credential of that name
	CredentialUnknown             // an operation on an MQTT credential that is not there
	NumKinds                      // how many kinds there are
)

// Error is the failure of a management operation. Message is for the caller of
// the API; it is empty where the version's own words say everything.
type Error struct {
	Kind    Kind
	Message string
	// Subject is what the failure is about: a topic, a client id, a plugin.
	Subject string
	cause   error
}

// Error returns the message, or the kind's number where there is none, with
// the cause.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = fmt.Sprintf("management error %d", e.Kind)
	}
	if e.Subject != "" {
		text += ": " + e.Subject
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	return text
}

// Unwrap returns what caused the failure, if anything did.
func (e *Error) Unwrap() error { return e.cause }

// Is makes two errors of one kind equal for errors.Is.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Kind == e.Kind
}

// KindOf returns the kind of err. An error that did not come from this package
// is Internal, a deadline that passed is NodeDown.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return NodeDown
	}
	return Internal
}

// Away is the failure of a call that another node did not answer.
func Away(node string, cause error) error {
	return &Error{Kind: NodeDown, Message: "the node does not answer", Subject: node, cause: cause}
}

func fail(k Kind, message string) *Error { return &Error{Kind: k, Message: message} }

func failOn(k Kind, subject, message string) *Error {
	return &Error{Kind: k, Subject: subject, Message: message}
}

func failBy(k Kind, message string, cause error) *Error {
	return &Error{Kind: k, Message: message, cause: cause}
}
