package audit

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Field documents one member of a record, and of a line of the export.
type Field struct {
	Name, Type, Meaning string
}

// Fields documents every member, in the order in which they are written.
func Fields() []Field {
	fields := []Field{
		{"index", "integer", "the record's place in the log, from 0; of the export, not of the record"},
		{"leaf_hash", "string", "base64 of SHA-256 over a zero byte and the record's bytes; of the export, not of the record"},
		{"pruned_at", "string, RFC 3339", "when the content was dropped by rule; then this is the last member"},
	}
	meanings := meanings()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[deploy.Event]()) {
		fields = describe(fields, "", f, meanings)
	}
	return fields
}

// describe adds a member, and the members of the objects in it.
func describe(to []Field, inside string, f reflect.StructField, meanings map[string]string) []Field {
	name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
	name = inside + name
	kind, inner := kindOf(f.Type)
	if opts == "" {
		kind += ", always there"
	}
	to = append(to, Field{name, kind, meanings[name]})
	if inner != nil {
		for _, g := range reflect.VisibleFields(inner) {
			to = describe(to, name+"[].", g, meanings)
		}
	}
	return to
}

func kindOf(t reflect.Type) (name string, inner reflect.Type) {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return "string, RFC 3339", nil
	case t.Kind() == reflect.String:
		return "string", nil
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.String:
		return "object of strings", nil
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "array of objects", t.Elem()
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "array of strings", nil
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "integer", nil
	}
	return t.String(), nil
}

// meanings says what each member of a record means.
func meanings() map[string]string {
	return map[string]string{
		"act_id": "joins the records of one act; random", "phase": "`decision` (before the act), `outcome` (after it) or `notice` (nobody's act)",
		"at":        "when it was recorded, UTC",
		"act":       "`create_account`, `deploy`, `request_claim`, `teardown`, or `claim`: its change of state, `from` and `to` in `data`; of a notice its kind: `expired`, `foreign_change`, `freeze`, `account_lost`, `terms_accepted`, `approval`, `login_link`, `login`, `passkey`, `access_refused`, `worker_logs`, `pruned`",
		"principal": "who called: `local`, or the verified subject of a token", "labels": "what the operator or the credential says of the caller: trusted",
		"claimed_labels": "what the model says of itself (`run_id`, `job_id`): never trusted",
		"client":         "what the MCP client calls itself: never trusted", "door": "`stdio`, `http` or `command`",
		"trace_id": "W3C trace of the call, 32 hex digits", "target": "the API that the account lives on",
		"session_id": "the session", "session_principal": "whose session it is, where that is not who acts: of an operator's teardown",
		"session_labels": "the trusted labels of the session, where they are not the caller's",
		"account_id":     "the temporary account", "account_name": "its name", "worker": "the Worker's name",
		"url": "where it answers", "bundle_id": "the artifact's handle", "digest": "SHA-256 of the artifact, in hex; of a claim, of everything that is adopted",
		"deployment_id": "the deployment", "version_id": "the API's name of what was uploaded", "claim_id": "the claim",
		"verdict": "the policy's answer: `allow`, `ask` or `deny`; in a decision", "rules": "every rule that matched",
		"rules[].rule": "its name", "rules[].verdict": "what it said; `require` decides nothing", "rules[].message": "its words", "rules[].next": "what it says to do instead",
		"rules[].require": "what it requires of the act, if it is done",
		"findings":        "what looks like a secret in what would become public", "findings[].kind": "which secret it looks like", "findings[].file": "where",
		"findings[].line": "from 1", "findings[].sample": "masked", "findings[].fingerprint": "names it for an allow list, without its value",
		"outcome": "`ok`, or the error's code (docs/errors.md); in an outcome", "detail": "a sentence", "data": "further plain facts",
		"expires_at": "when the account ends", "duration_ms": "how long the act took, in milliseconds",
	}
}

// FieldsTable is the table of Fields in Markdown.
func FieldsTable() string {
	var b strings.Builder
	b.WriteString("| member | type | meaning |\n|---|---|---|\n")
	for _, f := range Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.Name, f.Type, f.Meaning)
	}
	return b.String()
}
