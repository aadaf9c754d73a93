package deploy

import (
	"context"
	"slices"
	"time"
)

// Act is something that a policy is asked about, before it is done.
type Act string

// The acts.
const (
	ActCreateAccount Act = "create_account"
	ActDeploy        Act = "deploy"
	ActRequestClaim  Act = "request_claim"
	ActTeardown      Act = "teardown"
)

// Acts lists every act.
func Acts() []Act { return []Act{ActCreateAccount, ActDeploy, ActRequestClaim, ActTeardown} }

// Verdict is the answer about one act.
type Verdict string

// The verdicts; deny beats ask beats allow.
const (
	Allow Verdict = "allow"
	Ask   Verdict = "ask" // a human decides
	Deny  Verdict = "deny"
	// Require is the verdict of a rule that leaves to others whether an act is done, and
	// demands how: its Reason's Require says what.
	Require Verdict = "require"
)

// Facts are what a rule may see of an act. They are facts about it, never the raw
// arguments of a tool. What is not known is empty.
type Facts struct {
	Principal string
	// Labels come from the credential or the operator: trusted.
	Labels map[string]string
	// ClaimedLabels are what the model says of itself (run_id, job_id): never trusted.
	ClaimedLabels map[string]string
	// Client is what the MCP client calls itself: untrusted.
	Client string
	// Door is how the call came: "stdio", "http" or "command".
	Door string
	// Target is the API that the account lives on.
	Target  string
	Session string
	Fresh   bool
	// DiscardOnFailedCheck: the caller wants the deployment taken down if its check fails.
	DiscardOnFailedCheck bool
	Worker               WorkerFacts
	Findings             []Finding
	// Usage is the principal's and everybody's, of the last hour.
	Usage Usage
	Now   time.Time
}

// WorkerFacts describe an artifact.
type WorkerFacts struct {
	Name       string
	Digest     string
	Bytes      int64 // raw, all modules
	GzipBytes  int64
	AssetCount int
	AssetBytes int64
	Modules    []string
	// Bindings are "type name" pairs by their two members; values are never shown.
	Bindings          []BindingFact
	CompatibilityDate string
	Flags             []string
	Crons             []string
	// Hosts are the host names that stand in URLs of its code; UnknownHost among them
	// stands for those that can't be told.
	Hosts []string
	// Packages are the npm packages in it, with versions where they are known.
	Packages []PackageFact
}

// BindingFact is one binding without its value.
type BindingFact struct{ Name, Type string }

// PackageFact is one npm package in an artifact.
type PackageFact struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// Reason is what one rule said.
type Reason struct {
	Rule    string  `json:"rule"`
	Verdict Verdict `json:"verdict"`
	// Message and Next are the rule's words for the caller.
	Message string `json:"message,omitempty"`
	Next    string `json:"next,omitempty"`
	// Require is what the rule demands of the act, if it is done.
	Require []string `json:"require,omitempty"`
}

// RequireDiscard is the one thing that a rule can demand, of ActDeploy: that what is
// deployed is taken down again when its check fails.
const RequireDiscard = "discard_on_failed_check"

// Requirements lists everything that a rule can demand of an act.
func Requirements(act Act) []string {
	if act == ActDeploy {
		return []string{RequireDiscard}
	}
	return nil
}

// requiring are the reasons that demand what.
func requiring(reasons []Reason, what string) (out []Reason) {
	for _, r := range reasons {
		if slices.Contains(r.Require, what) {
			out = append(out, r)
		}
	}
	return out
}

// Decision is a policy's answer about one act: the strongest verdict, and all rules
// that matched.
type Decision struct {
	Verdict Verdict
	Reasons []Reason
}

// Policy decides about acts. It is asked once for an act, by the Service, before it.
// It never fails: a rule that can't be evaluated denies. It is safe for concurrent use.
type Policy interface {
	Decide(ctx context.Context, act Act, f Facts) Decision
}

// Finding is something in an artifact that looks like a secret.
type Finding struct {
	Kind string `json:"kind"`
	File string `json:"file"`
	Line int    `json:"line"`
	// Sample is masked: enough to recognise, too little to use.
	Sample string `json:"sample"`
	// Fingerprint names the finding for an allow list, without telling the value.
	Fingerprint string `json:"fingerprint"`
}

// Scanner looks for secrets in everything of an artifact that would become public:
// modules, static files, plain variables. It is safe for concurrent use, stops when
// ctx ends, and leaves out what the operator allows by fingerprint.
type Scanner interface {
	Scan(ctx context.Context, a *Artifact) ([]Finding, error)
}
