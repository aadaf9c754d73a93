package deploy

// CodeInfo is what a code means and what a caller does about it, for the reference in
// docs/errors.md. The error itself always carries a Next of its own, which knows more.
type CodeInfo struct {
	Code    Code
	Meaning string
	Next    string
	// Retry: the same call, unchanged, may succeed later.
	Retry bool
}

// Codes lists every code there is; a test holds it against the constants.
func Codes() []CodeInfo {
	return []CodeInfo{
		{CodeInvalidArgument, "an argument is malformed or missing", "correct the argument that the message names", false},
		{CodeUnknownArgument, "an argument that the tool does not take", "use the closest known one, which the message names", false},
		{CodeTwoSources, "more than one of project_dir, files, bundle_id", "give exactly one", false},
		{CodeNoSource, "none of project_dir, files, bundle_id", "give exactly one", false},
		{CodeNoEntry, "no entry file was found", "name it in entry, or as main in the wrangler configuration", false},
		{CodeBuildFailed, "the bundler refused the code", "correct the places in diagnostics", false},
		{CodeConfigInvalid, "the wrangler configuration can't be read or used", "correct the key that the message names", false},
		{CodeNotSupported, "a temporary account, or this server, can't do that", "leave it out; hourglass://limits has the whole list", false},
		{CodeTooLarge, "over a limit on bytes", "shrink or leave out what the message names", false},
		{CodeTooManyFiles, "over a limit on files", "leave files out", false},
		{CodePathInvalid, "a path that is absolute, has \"..\", or is otherwise no project path", "give a relative path", false},
		{CodeRootNotAllowed, "project_dir is outside the allowed roots", "use a folder below a root, or send the files themselves", false},
		{CodeNameInvalid, "a name that can't be a Worker's", "use lower-case letters, digits and dashes", false},
		{CodeBundleNotFound, "no such bundle_id of this caller", "bundle again", false},
		{CodeSessionNotFound, "no such session of this caller", "call status without session_id", false},
		{CodeSessionExpired, "the session's account is over", "deploy without session_id for a new account", false},
		{CodeSessionClosed, "the session was handed over to a human", "deploy without session_id for a new account", false},
		{CodeClaimPending, "frozen: a human has been asked to keep the account", "wait for the human; status tells", true},
		{CodeNothingToClaim, "the session has nothing live that could be kept", "deploy first", false},
		{CodeNoApproval, "there is no way to reach a human from here", "tell the user how to run the server so that they can be asked", false},
		{CodeStartFailed, "the Worker does not start", "fix the code at the place that the message names", false},
		{CodeMigrationFailed, "a D1 migration was refused; nothing was uploaded", "correct the file that the message names", false},
		{CodeSecretMissing, "a secret is required and can't be had", "ask the operator to allow and set it", false},
		{CodeAPIUnreachable, "no answer from the API", "check the network, then the same call again", true},
		{CodeAPIBadResponse, "an answer that is not the API's", "the same call once more, then tell the user", true},
		{CodeAPIRefused, "the API said no", "see the table of the API's codes below", false},
		{CodeRateLimited, "the API, or a limit of ours, said not now", "wait as long as the message says", true},
		{CodeChallengeHard, "the proof of work asks for more than is accepted", "tell the user", false},
		{CodeChallengeFailed, "the proof of work was refused", "the same call once more", true},
		{CodeAccountLost, "the API does not know the account any more, or the answer to its making was lost: then one may exist that nobody can reach, which ends by itself within the hour", "deploy with fresh: true; nothing else makes another account", false},
		{CodeTermsNeeded, "a human has not accepted Cloudflare's terms", "ask the user to run mcp-server setup", false},
		{CodeReadOnly, "the operator allows looking only", "tell the user", false},
		{CodeScopeMissing, "the credential of this client does not allow it", "tell the user which scope is missing", false},
		{CodePolicyDenied, "a rule of the operator's policy, or a human, said no", "do what the message says, or tell the user", false},
		{CodeApprovalNeeded, "a rule of the operator's policy wants a human's yes first", "tell the user where to decide, then the same call again", true},
		{CodeFrozen, "an operator stopped all deployments", "stop and tell the user", false},
		{CodeIdempotency, "an idempotency key came with other arguments", "use a new key for a new call", false},
		{CodeBusy, "another call, maybe of another process, is at work on the session", "the same call after the time that is named", true},
		{CodeCancelled, "the caller gave up", "call again if it is still wanted", true},
		{CodeTimeout, "it took longer than it may", "ask for less at once, or the same call later", true},
		{CodeStore, "the session store can't be read or written", "tell the user: the operator's log has the cause", false},
		{CodeInternal, "a mistake of ours", "tell the user to report it", false},
	}
}
