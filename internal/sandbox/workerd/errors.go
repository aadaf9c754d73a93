package workerd

import (
	"errors"
	"fmt"
)

// Code is the machine's part of an Error.
type Code string

// The codes of Error.
const (
	CodeUnsupported Code = "workerd_unsupported_platform" // no runtime for this system
	CodeNoNpm       Code = "workerd_no_npm"               // npm can't be found
	CodeFetch       Code = "workerd_fetch_failed"         // npm could not fetch it
	CodeIntegrity   Code = "workerd_integrity"            // what npm fetched is not the pinned package
	CodeNotHere     Code = "workerd_not_here"             // not on this machine, and not to be fetched
	CodeCache       Code = "workerd_cache"                // the cache folder can't be used
	CodeBinary      Code = "workerd_bad_binary"           // the executable can't be run
	CodeDir         Code = "workerd_bad_dir"              // the private folder can't be made
)

// Error says that the runtime can't be had or run on this machine. No Worker is at
// fault; for that there is StartError.
type Error struct {
	Code    Code
	Message string // a sentence for a person
	Next    string // what to do now; never empty
	Cause   error  // for the operator's log; may be nil
}

// Error gives the sentence and the advice.
func (e *Error) Error() string { return e.Message + "; " + e.Next }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrNotHere says that workerd is not on this machine and was not to be fetched. It is
// the cause of an *Error with CodeNotHere.
var ErrNotHere = errors.New("workerd is not on this machine")

// StartError says that a Worker does not start, in the runtime's own words. The API
// reports it with code 10021.
type StartError struct {
	Worker string // "" when the runtime does not say which
	Text   string // the runtime's words, without our paths; at most 4,000 bytes
}

func (e *StartError) Error() string {
	if e.Worker == "" {
		return "the Worker does not start: " + e.Text
	}
	return fmt.Sprintf("the Worker %s does not start: %s", e.Worker, e.Text)
}

// Why a process ended. Process.Err and a Transport's errors wrap one of them.
var (
	ErrSpun    = errors.New("a Worker kept its process busy for too long")
	ErrMemory  = errors.New("a Worker used more memory than it may")
	ErrCrashed = errors.New("the runtime ended unexpectedly")
	ErrStopped = errors.New("the process was stopped")
)
