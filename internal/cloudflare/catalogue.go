package cloudflare

import (
	"fmt"
	"net/http"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The codes of the API that the code itself asks about.
const (
	codeNotAuthorized = 10000
	codeNoWorker      = 10007
	codeStart         = 10021
	codeProof         = 1019
)

// Entry is what is known of one error code of the API: what it becomes for callers,
// the cause in plain words, and what to do.
type Entry struct {
	Code  int
	Kind  deploy.Code
	Cause string
	Next  string
}

// Catalogue lists the codes that are told apart (wrangler-wire fact sheet, sections
// 3, 15 and 21). Any other is a deploy.CodeAPIRefused with the API's own words.
func Catalogue() []Entry {
	const (
		lost    = "the account's token is not accepted: the account may be over, or a human has claimed it, or the upload asks for something that temporary accounts can't have"
		fresh   = "Call deploy_temporary with fresh: true to use a new temporary account, unless the code uses a binding that temporary accounts lack."
		event   = "Tell the user: the event code is part of this server's settings, and only they can change it."
		noRetry = nextUser
		smaller = "Make the Worker smaller: bundle with minify: true, and look at bundle's largest[] for what to leave out. Then deploy again."
	)
	return []Entry{
		{codeProof, deploy.CodeChallengeFailed, "the proof of work was not accepted; it may have come too late", "Call deploy_temporary once more: it solves a new challenge. If that fails too, tell the user."},
		{1035, deploy.CodeAPIRefused, "the event code is malformed", event},
		{1036, deploy.CodeAPIRefused, "there is no such event code", event},
		{1037, deploy.CodeAPIRefused, "the event of this event code has not begun yet", event},
		{1038, deploy.CodeAPIRefused, "the event of this event code is over", event},
		{1039, deploy.CodeAPIRefused, "the event code was switched off", event},
		{1040, deploy.CodeAPIRefused, "the event of this event code has no accounts left", event},
		{1041, deploy.CodeAPIRefused, "the account for this event could not be prepared", event},
		{9106, deploy.CodeAccountLost, lost, fresh},
		{9109, deploy.CodeAccountLost, lost, fresh},
		{codeNotAuthorized, deploy.CodeAccountLost, lost, fresh},
		{codeNoWorker, deploy.CodeAPIRefused, "the account has no such Worker, or no workers.dev name", "Call deploy_temporary again with the same source. If it fails again, call it with fresh: true."},
		{10090, deploy.CodeAPIRefused, "the account has no such Worker", "Call deploy_temporary again with the same source. If it fails again, call it with fresh: true."},
		{codeStart, deploy.CodeStartFailed, "the Worker does not start", "Fix the code at the place that the message names, then deploy again. What was live before is still live."},
		{10027, deploy.CodeTooLarge, "the Worker is too large for this account", smaller},
		{10057, deploy.CodeAPIRefused, "a binding is to be taken over from the version before, which does not have it", noRetry},
		{10072, deploy.CodeNotSupported, "the account has no room for more cron triggers", "Remove cron triggers from the configuration, then deploy again."},
		{10097, deploy.CodeNotSupported, "this account can't have Durable Objects of that kind", "Use new_sqlite_classes in the migrations instead of new_classes, then deploy again."},
	}
}

func entry(code int) (Entry, bool) {
	for _, e := range Catalogue() {
		if e.Code == code {
			return e, true
		}
	}
	return Entry{}, false
}

// startWords bounds the runtime's text of a Worker that does not start, in bytes: it
// holds the stack by which the place in the source is found.
const startWords = 2000

// fromCatalogue words what the API refused. errs is not empty.
func fromCatalogue(status int, errs []apiError, doing string) *deploy.Error {
	e, known := entry(errs[0].Code)
	switch {
	case known && e.Kind == deploy.CodeStartFailed:
		return deploy.Errorf(e.Kind, e.Next, "%s: %s", e.Cause, words(errs, startWords))
	case known:
		return deploy.Errorf(e.Kind, e.Next, "%s failed: %s (%s)", doing, e.Cause, words(errs, maxWords))
	case status == http.StatusRequestEntityTooLarge:
		return deploy.Errorf(deploy.CodeTooLarge, "Send less: fewer or smaller files.", "%s failed: it is too large for the API (%s)", doing, words(errs, maxWords))
	case status == http.StatusUnauthorized:
		e, _ = entry(codeNotAuthorized)
		return deploy.Errorf(e.Kind, e.Next, "%s failed: %s (%s)", doing, e.Cause, words(errs, maxWords))
	}
	return deploy.Errorf(deploy.CodeAPIRefused, nextUser, "%s failed: the API refused it (HTTP %d, %s)", doing, status, words(errs, maxWords))
}

// eventCode tells whether code is about the event code that was sent.
func eventCode(code int) bool { return code >= 1035 && code <= 1041 }

func missing(doing, field string) *deploy.Error {
	return badResponse(doing, fmt.Sprintf("%s is missing or has the wrong form", field))
}
