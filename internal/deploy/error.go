package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Code names a kind of failure for programs. Codes are part of the contract with
// agents: a code is never renamed, and each has one meaning.
type Code string

// The codes that a caller of the Service can meet.
const (
	CodeInvalidArgument Code = "invalid_argument"    // an argument is malformed or missing
	CodeUnknownArgument Code = "unknown_argument"    // an argument that the tool does not take
	CodeTwoSources      Code = "two_sources"         // more than one of project_dir, files, bundle_id
	CodeNoSource        Code = "no_source"           // none of project_dir, files, bundle_id
	CodeNoEntry         Code = "no_entry"            // no entry file was found
	CodeBuildFailed     Code = "build_failed"        // the bundler refused the code; see diagnostics
	CodeConfigInvalid   Code = "config_invalid"      // the wrangler configuration can't be read or used
	CodeNotSupported    Code = "not_supported"       // a temporary account, or this server, can't do that
	CodeTooLarge        Code = "too_large"           // over a limit on bytes
	CodeTooManyFiles    Code = "too_many_files"      // over a limit on files
	CodePathInvalid     Code = "path_invalid"        // absolute, "..", or otherwise not a project path
	CodeRootNotAllowed  Code = "root_not_allowed"    // project_dir is outside the allowed roots
	CodeNameInvalid     Code = "name_invalid"        // a Worker name that Cloudflare refuses
	CodeBundleNotFound  Code = "bundle_not_found"    // no such bundle_id of this caller
	CodeSessionNotFound Code = "session_not_found"   // no such session of this caller
	CodeSessionExpired  Code = "session_expired"     // the session's account is over
	CodeSessionClosed   Code = "session_closed"      // the session was handed over to a human
	CodeClaimPending    Code = "claim_pending"       // frozen: a human has been asked to keep the account
	CodeNothingToClaim  Code = "nothing_to_claim"    // the session has nothing live that could be kept
	CodeNoApproval      Code = "no_approval_channel" // no way to reach a human from here
	CodeStartFailed     Code = "start_failed"        // the Worker does not start
	CodeMigrationFailed Code = "migration_failed"    // a D1 migration was refused; nothing was uploaded
	CodeSecretMissing   Code = "secret_missing"      // a required secret can't be had here
	CodeAPIUnreachable  Code = "api_unreachable"     // no answer from the API
	CodeAPIBadResponse  Code = "api_bad_response"    // an answer that is not the API's
	CodeAPIRefused      Code = "api_refused"         // the API said no
	CodeRateLimited     Code = "rate_limited"        // the API, or a limit of ours, said not now
	CodeChallengeHard   Code = "challenge_too_hard"  // proof of work beyond the cap
	CodeChallengeFailed Code = "challenge_failed"    // proof of work refused
	CodeAccountLost     Code = "account_lost"        // the API does not know the account any more
	CodeTermsNeeded     Code = "terms_not_accepted"  // a human has not accepted Cloudflare's terms
	CodeReadOnly        Code = "read_only"           // the operator allows looking only
	CodeScopeMissing    Code = "scope_missing"       // the caller's credential does not allow it
	CodePolicyDenied    Code = "policy_denied"       // a rule of the operator's, or a human, said no
	CodeApprovalNeeded  Code = "approval_needed"     // a rule wants a human's yes first
	CodeFrozen          Code = "frozen"              // an operator stopped all deployments
	CodeIdempotency     Code = "idempotency_conflict"
	CodeBusy            Code = "busy"
	CodeCancelled       Code = "cancelled"
	CodeTimeout         Code = "timeout"
	CodeStore           Code = "store_failed" // the session store can't be read or written
	CodeInternal        Code = "internal"     // a mistake of ours
)

// Error is what every refusal and failure becomes before it reaches a caller. It
// has three readers: Code is for programs, Message and Next for people and agents,
// Cause for the operator's log and never for the model.
type Error struct {
	Code    Code
	Message string
	// Next says what to do now, phrased for an agent. It is never empty.
	Next string
	// RetryAfter is how long to wait before the same call makes sense; 0: don't know.
	RetryAfter time.Duration
	// Diagnostics are the rows behind a CodeBuildFailed.
	Diagnostics []Diagnostic
	Cause       error
}

// Error is the sentence for people, without the cause.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf makes an Error; a %w operand becomes its cause but stays out of the
// message's reach only if the caller words it so.
func Errorf(code Code, next, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: wrapped.Error(), Next: next, Cause: errors.Unwrap(wrapped)}
}

// Caused puts a cause behind an Error without showing it to the caller.
func (e *Error) Caused(err error) *Error {
	e.Cause = err
	return e
}

// AsError turns any error into an Error. What is not one already is CodeCancelled
// or CodeTimeout for the context's errors, else CodeInternal, whose cause is for
// the log alone.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{
			Code: CodeCancelled, Message: "the call was cancelled",
			Next: "Call status to see what is live, then repeat the call if it is still wanted.", Cause: err,
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{
			Code: CodeTimeout, Message: "the call ran out of time",
			Next: "Call status to see what is live, then repeat the call.", Cause: err,
		}
	}
	return &Error{
		Code: CodeInternal, Message: "an internal error of the deploy server; its log has the cause",
		Next: "Repeat the call once. If it fails again, tell the user to look at the server's log.", Cause: err,
	}
}

// IsCode tells whether err is an Error of that code.
func IsCode(err error, code Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}
