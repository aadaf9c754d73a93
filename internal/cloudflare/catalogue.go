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
	codeMigrated      = 10079
	codeNoQueue       = 11000
	codeNoConsumer    = 11002 // as the sandbox says it; the live API's is not known
)

// Entry is what is known of one error code of the API: what it becomes for callers,
// the cause in plain words, whether the same call may succeed later, and what to do.
type Entry struct {
	Code  int
	Kind  deploy.Code
	Retry bool // unchanged, after a while
	Cause string
	Next  string
}

// Catalogue lists the codes that are told apart (wrangler-wire fact sheet, sections
// 3, 10, 15 and 21; those of missing binding targets were taken from the live API by
// others). Any other is a deploy.CodeAPIRefused with the API's own words.
func Catalogue() []Entry {
	const (
		lost    = "the account's token is not accepted: the account may be over, or a human has claimed it, or the upload asks for something that temporary accounts can't have"
		fresh   = "Call deploy_temporary with fresh: true to use a new temporary account, unless the code uses a binding that temporary accounts lack."
		event   = "Tell the user: the event code is part of this server's settings, and only they can change it."
		smaller = "Make the Worker smaller: bundle with minify: true, and look at bundle's largest[] for what to leave out. Then deploy again."
		again   = "Call deploy_temporary again with the same source. If it fails again, call it with fresh: true."
		noID    = "Remove the id from the configuration: the temporary account gets a resource of its own. Then deploy again."
		classes = "Look at migrations and durable_objects in the configuration and at what the entry exports; call deploy_temporary again after the correction."
	)
	const refused, unsupported, gone = deploy.CodeAPIRefused, deploy.CodeNotSupported, deploy.CodeAccountLost
	return []Entry{
		{codeProof, deploy.CodeChallengeFailed, true, "the proof of work was not accepted; it may have come too late", "Call deploy_temporary once more: it solves a new challenge. If that fails too, tell the user."},
		{1035, refused, false, "the event code is malformed", event},
		{1036, refused, false, "there is no such event code", event},
		{1037, refused, true, "the event of this event code has not begun yet", event},
		{1038, refused, false, "the event of this event code is over", event},
		{1039, refused, false, "the event code was switched off", event},
		{1040, refused, false, "the event of this event code has no accounts left", event},
		{1041, refused, true, "the account for this event could not be prepared", event},
		{7400, refused, false, "the database request is malformed", nextUser},
		{codeNoDatabase, refused, false, "the account has no such D1 database", noID},
		{7406, unsupported, false, "the account has no room for another D1 database: a temporary account has one", "Use one database with several tables; bindings may share it by naming the same database_name. Or call deploy_temporary with fresh: true, if the database that is there is not needed."},
		{7500, refused, false, "the database refused a statement", "Correct the SQL at what the message names, then deploy again."},
		{codeDatabaseExists, refused, false, "a D1 database of that name exists already", again},
		{9106, gone, false, lost, fresh},
		{9109, gone, false, lost, fresh},
		{codeNotAuthorized, gone, false, lost, fresh},
		{10006, unsupported, false, "there is no such R2 bucket, and a temporary account can't have one", "Remove r2_buckets from the configuration, and the code that uses them."},
		{codeNoWorker, refused, false, "the account has no such Worker, or no workers.dev name", again},
		{codeNoNamespace, refused, false, "the account has no such KV namespace", noID},
		{codeTitleExists, refused, false, "a KV namespace of that title exists already", again},
		{10016, deploy.CodeNameInvalid, false, "the Worker's name is not accepted", "Give a name of lower-case letters, digits and dashes, at most 63 long."},
		{codeStart, deploy.CodeStartFailed, false, "the Worker does not start", "Fix the code at the place that the message names, then deploy again. What was live before is still live."},
		{10027, deploy.CodeTooLarge, false, "the Worker is too large for this account", smaller},
		{10031, refused, false, "that workers.dev name is taken", nextUser},
		{10032, refused, false, "that workers.dev name is free", nextUser},
		{10041, refused, false, "a KV binding names a namespace that the account does not have", noID},
		{10052, deploy.CodeConfigInvalid, false, "a binding has no name", "Give every binding in the configuration a name, then deploy again."},
		{10057, refused, false, "a binding is to be taken over from the version before, which does not have it", "Call deploy_temporary with fresh: true and the same source: the resources are found or made anew."},
		{10061, deploy.CodeConfigInvalid, false, "a binding names a Durable Object class that no migration has created, or a Worker that is not there", classes},
		{10064, deploy.CodeConfigInvalid, false, "a Durable Object class with data is not exported any more, or the Worker is bound to by another", classes},
		{10072, unsupported, false, "the account has no room for more cron triggers", "Remove cron triggers from the configuration, then deploy again."},
		{10074, deploy.CodeConfigInvalid, false, "a migration creates a Durable Object class that exists", classes},
		{codeMigrated, refused, true, "the Durable Object migrations changed meanwhile: the Worker has another tag than was thought", again},
		{10085, unsupported, false, "an R2 binding names a bucket, and a temporary account can't have one", "Remove r2_buckets from the configuration, and the code that uses them."},
		{codeNoService, refused, false, "the account has no such Worker", again},
		{codeNoEnvironment, refused, false, "the account has no such Worker in that environment", again},
		{10097, unsupported, false, "this account can't have Durable Objects of that kind", "Use new_sqlite_classes in the migrations instead of new_classes, then deploy again."},
		{10100, deploy.CodeConfigInvalid, false, "a cron expression can't be read", "Correct triggers.crons: five fields; days of the week are 1 (Sunday) to 7 or names. Then deploy again."},
		{10143, refused, false, "a service binding names a Worker that is not on the account", "Deploy that Worker into the same session first, then this one."},
		{10144, refused, false, "a service binding names a Worker that is not on the account", "Deploy that Worker into the same session first, then this one."},
		{10157, refused, false, "a Hyperdrive binding names a configuration that is not on the account", "Remove hyperdrive from the configuration for the temporary deployment: its configurations are made by hand."},
		{10159, unsupported, false, "a Vectorize binding names an index, and a temporary account can't have one", "Remove vectorize from the configuration, and the code that uses it."},
		{10181, refused, false, "a D1 binding names a database that the account does not have", noID},
		{10200, unsupported, false, "there is no such workflow, and a temporary account can't have one", "Remove workflows from the configuration, and the code that uses them."},
		{10208, unsupported, false, "a workflow's schedule needs a paid plan", "Remove workflows from the configuration, and the code that uses them."},
		{10209, unsupported, false, "a workflow's jurisdiction can't be changed", "Remove workflows from the configuration, and the code that uses them."},
		{10211, refused, false, "a version with a Durable Object migration has to be deployed at once", again},
		{10214, refused, true, "the Worker's latest version is not deployed", again},
		{10215, refused, true, "the Worker's secrets were changed meanwhile", again},
		{10220, refused, false, "that version's secrets were changed since", nextUser},
		{10222, refused, false, "the Worker has no such version", again},
		{codeNoQueue, refused, true, "a binding or consumer names a queue that is not on the account", again},
		{11004, refused, false, "the queue has a consumer already", "Use another queue, or deploy under the name of the Worker that consumes this one."},
		{codeQueueExists, refused, false, "a queue of that name exists already", again},
		{100127, deploy.CodeConfigInvalid, false, "a queue's consumer has settings that are not accepted", "Correct queues.consumers in the configuration at what the message names, then deploy again."},
		{100402, deploy.CodeConfigInvalid, false, "the declared Durable Object exports do not fit what the Worker has", classes},
		{100405, deploy.CodeConfigInvalid, false, "the declared Durable Object exports contradict each other", classes},
		{100406, deploy.CodeConfigInvalid, false, "a binding needs a Durable Object export that is not there yet", classes},
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
