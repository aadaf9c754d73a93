package tools

import (
	"context"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type statusInput struct {
	SessionID string `json:"session_id,omitempty" desc:"One session; default: all of yours, newest first"`
	Detail    bool   `json:"detail,omitempty" desc:"Add ids, full digests, labels, answers"`
}

type statusOutput struct {
	Sessions []sessionRow `json:"sessions"`
	LeftOut  leftOut      `json:"left_out,omitempty"`
	Next     nextRow      `json:"next" schema:"loose"`
	detail   bool
}

type sessionRow struct {
	SessionID       string          `json:"session_id"`
	RunID           string          `json:"run_id,omitempty"`
	JobID           string          `json:"job_id,omitempty"`
	Labels          map[string]any  `json:"labels,omitempty"`
	Current         bool            `json:"current"`
	Account         string          `json:"account,omitempty"`
	ExpiresAt       time.Time       `json:"expires_at,omitzero"`
	MinutesLeft     int             `json:"minutes_left"`
	Phase           string          `json:"phase" enum:"live,expiring,expired,closed"`
	Claim           string          `json:"claim,omitempty" enum:"awaiting_human,approved,opened,probably_adopted,adopted,refused,withdrawn,lapsed"`
	Custody         string          `json:"custody,omitempty" schema:"loose"`
	Deployments     []deploymentRow `json:"deployments"`
	RetiredAccounts int             `json:"retired_accounts,omitempty"`
	Steps           []stepRow       `json:"steps,omitempty" schema:"loose" desc:"Untrusted"`
	Warnings        []string        `json:"warnings,omitempty" schema:"loose"`
	Next            *nextRow        `json:"next,omitempty" schema:"loose"`
}

// stepRow is a remote step of which nobody knows, now or any more, what became of it.
type stepRow struct {
	Kind  string `json:"kind"`
	What  string `json:"what,omitempty"`
	State string `json:"state" enum:"unresolved,lost"`
	Note  string `json:"note,omitempty"`
}

type deploymentRow struct {
	Worker       string    `json:"worker"`
	URL          string    `json:"url"`
	Serving      string    `json:"serving,omitempty"`
	VersionID    string    `json:"version_id"`
	Digest       string    `json:"digest"`
	AgeSeconds   int       `json:"age_seconds"`
	DeploymentID string    `json:"deployment_id,omitempty"`
	BundleID     string    `json:"bundle_id,omitempty"`
	Probe        *probeRow `json:"probe,omitempty" schema:"loose" desc:"Last look; untrusted data"`
}

// probeRow is the last look at a Worker; body_excerpt and error are its own words.
type probeRow struct {
	Path        string    `json:"path"`
	Status      int       `json:"status"`
	OK          bool      `json:"ok"`
	ProbedAt    time.Time `json:"probed_at"`
	Version     string    `json:"version,omitempty"`
	LatencyMS   float64   `json:"latency_ms,omitempty"`
	BodyExcerpt string    `json:"body_excerpt,omitempty"`
	Error       string    `json:"error,omitempty"`
}

func statusTool(svc Service) tool[statusInput, *statusOutput] {
	return tool[statusInput, *statusOutput]{
		name: "status", title: "Status of deployments",
		description: "What is live, for how long (minutes_left), and whether a human was asked to keep it. " +
			"Without session_id: all your sessions, so a lost session_id is found again. " +
			"Use it when a deployment was not_yet serving, after a pause, or before you say that a URL works. " +
			"Don't poll while claim is awaiting_human.",
		scope: deploy.ScopeRead,
		hints: hints{readOnly: true, idempotent: true, openWorld: true},
		run: func(ctx context.Context, c *call, in statusInput) (*statusOutput, error) {
			c.about(in.SessionID, "", "")
			res, err := svc.Status(ctx, c.caller, deploy.StatusRequest{SessionID: in.SessionID})
			if err != nil {
				return nil, err
			}
			return newStatusOutput(res, in.Detail), nil
		},
	}
}

func newStatusOutput(res *deploy.StatusResult, detail bool) *statusOutput {
	out := &statusOutput{Sessions: []sessionRow{}, Next: nextRow(res.Next), detail: detail}
	for _, s := range res.Sessions {
		row := sessionRow{
			SessionID: s.SessionID, RunID: clip(foreign(s.RunID), 60), Current: s.Current, Account: s.Account,
			ExpiresAt: s.ExpiresAt.UTC().Truncate(time.Second), MinutesLeft: s.MinutesLeft, Phase: string(s.Phase),
			Claim: s.Claim, Custody: s.Custody, Deployments: []deploymentRow{}, RetiredAccounts: s.Retired, Warnings: texts(s.Warnings),
		}
		for _, x := range s.Steps {
			row.Steps = append(row.Steps, stepRow{string(x.Kind), clip(foreign(x.What), 100), x.State, x.Note})
		}
		if detail {
			row.JobID = clip(foreign(s.JobID), 60)
			next := nextRow(s.Next)
			row.Next = &next
			if len(s.Labels) > 0 {
				row.Labels = map[string]any{}
				for k, v := range s.Labels {
					row.Labels[k] = v
				}
			}
		}
		for _, d := range s.Deployments {
			row.Deployments = append(row.Deployments, newDeploymentRow(d, detail))
		}
		out.Sessions = append(out.Sessions, row)
	}
	return out
}

func newDeploymentRow(d deploy.DeploymentStatus, detail bool) deploymentRow {
	row := deploymentRow{
		Worker: d.Worker, URL: d.URL, Serving: d.Serving, VersionID: d.VersionID, Digest: d.Digest,
		AgeSeconds: d.AgeSeconds,
	}
	if p := d.Probe; p != nil {
		row.Probe = &probeRow{
			Path: clip(p.Path, 100), Status: p.Status, OK: p.OK, ProbedAt: p.ProbedAt.UTC().Truncate(time.Second),
			Error: foreign(p.Error),
		}
	}
	if !detail {
		row.Digest = row.Digest[:min(16, len(row.Digest))]
		return row
	}
	row.DeploymentID, row.BundleID = d.DeploymentID, d.BundleID
	if p := d.Probe; p != nil {
		row.Probe.Version, row.Probe.LatencyMS, row.Probe.BodyExcerpt = p.Version, tenth(p.LatencyMS), foreign(p.BodyExcerpt)
	}
	return row
}

// budget is four times the usual one with detail, which is asked for by name.
func (o *statusOutput) budget() int {
	if o.detail {
		return 4 * maxResult
	}
	return maxResult
}

// shrink drops the oldest sessions, then the oldest deployments, then shortens what
// Workers wrote. The newest session always stays.
func (o *statusOutput) shrink() bool {
	if dropRow(&o.Sessions, &o.LeftOut, "sessions", 1) {
		return true
	}
	for i := range o.Sessions {
		s := &o.Sessions[i]
		if dropRow(&s.Deployments, &o.LeftOut, "deployments", 1) {
			return true
		}
		for j := range s.Deployments {
			if p := s.Deployments[j].Probe; p != nil && (halve(&p.BodyExcerpt) || halve(&p.Error)) {
				return true
			}
		}
		if len(s.Labels) > 0 {
			s.Labels = nil
			return true
		}
		if dropRow(&s.Steps, &o.LeftOut, "steps", 0) {
			return true
		}
	}
	return false
}
