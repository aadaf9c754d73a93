package tools_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func at() time.Time { return time.Date(2026, 11, 24, 10, 42, 7, 123456789, time.UTC) }

const pageURL = "http://localhost:40123/claim/ABCDEFGHIJKLMNOPQRSTUVWXYZ234567ABCDEFGHIJKLMNOPQRST"

func sampleBundle() *deploy.BundleResult {
	a := &deploy.Artifact{
		Name: "hello-world", MainModule: "index.js", Bytes: 18211, GzipBytes: 5120,
		Modules: []deploy.Module{
			{Name: "index.js", Type: deploy.TypeESModule, Content: make([]byte, 18000)},
			{Name: "./hello.wasm", Type: deploy.TypeWasm, Content: make([]byte, 211)},
			{Name: "index.js.map", Type: deploy.TypeSourceMap, Content: make([]byte, 999)},
		},
		Largest: []deploy.Sized{{Name: "node_modules/hono/dist/index.js", Bytes: 12000}, {Name: "src/index.ts", Bytes: 5000}},
		Diagnostics: []deploy.Diagnostic{{
			Severity: "warning", File: "src/index.ts", Line: 12, Column: 7, Text: "Comparison using the \"===\" operator here is always false",
			SourceLine: "  if (typeof x === \"undefind\") {", Suggestion: "\"undefined\"",
		}},
		Warnings: []string{"No compatibility_date was given; 2026-11-17 is used."},
		Digest:   "3f7a9d0c51e2b84466aa01f3c9d8e7b2a1405c6d7e8f90123456789abcdef012",
	}
	return &deploy.BundleResult{BundleID: a.BundleID(), Artifact: a}
}

func sampleCheck() *deploy.Check {
	return &deploy.Check{
		Path: "/api/items?limit=10", Status: 500, LatencyMS: 12.3456, Version: deploy.VersionConfirmed,
		BodyExcerpt: "{\"error\":\"internal\",\"request\":\"9f1c2d3e\",\"hint\":\"" + strings.Repeat("look at the log of the worker ", 12) + "\"}",
		Evidence:    "the tail names this version for our probe",
		Error:       "TypeError: Cannot read properties of undefined (reading 'items')",
		At:          "src/routes/items.ts:42:17", ProbedAt: at(),
	}
}

// sampleDeploy has every field of a result set, at usual lengths.
func sampleDeploy() *deploy.DeployResult {
	return &deploy.DeployResult{
		Phase: deploy.PhaseExpiring, Serving: deploy.ServingYes, Changed: true,
		URL: "https://hello-world.bright-morning-4821.workers.dev", Worker: "hello-world",
		SessionID: "s_ab3kq7mz2xw5yt4rn6pv8cj9dh", DeploymentID: "d_qx2wn4ev6rb8tm1yu3io5pa7sd",
		VersionID: "0b6f5a2e-9d1c-4e3b-8a7f-2c5d6e7f8a9b", BundleID: "b_3f7a9d0c51e2b84466aa01f3c9d8e7b2",
		Account: deploy.AccountReused, ExpiresAt: at().Add(8 * time.Minute), MinutesLeft: 8, Check: sampleCheck(),
		Warnings: []string{
			"No compatibility_date was given; 2026-11-17 is used.",
			"The account ends in 8 minutes and everything on it with it. If the user wants to keep it, call request_claim now.",
		},
		Next: deploy.NextStep{
			Do:   "It is live but fails: fix the code (see check.error and check.at) and deploy again into the same session.",
			Tool: "deploy_temporary", Args: map[string]any{"session_id": "s_ab3kq7mz2xw5yt4rn6pv8cj9dh"},
		},
		Stages: []deploy.StageTime{
			{Name: deploy.StageBundle, MS: 8.1234},
			{Name: deploy.StagePreflight, MS: 0.4},
			{Name: deploy.StageUpload, MS: 310.7},
			{Name: deploy.StageCheck, MS: 52.9},
		},
	}
}

func sampleStatus(sessions, workers int) *deploy.StatusResult {
	res := &deploy.StatusResult{Next: deploy.NextStep{
		Do:   "It is live. Deploy changes into the same session; call request_claim only if the user wants to keep it.",
		Tool: "deploy_temporary", Args: map[string]any{"session_id": "s_ab3kq7mz2xw5yt4rn6pv8cj9dh"},
	}}
	for i := range sessions {
		s := deploy.SessionStatus{
			SessionID: fmt.Sprintf("s_ab3kq7mz2xw5yt4rn6pv8cj%02d", i), RunID: "run-2026-11-24-7731", JobID: "job-12",
			Labels: map[string]string{"team": "web", "repo": "shop"}, Current: i == 0, Account: "Temporary Account bright-morning-4821",
			ExpiresAt: at().Add(40 * time.Minute), MinutesLeft: 40, Phase: deploy.PhaseLive, Claim: string(deploy.ClaimAwaiting), Retired: 1,
			Next: res.Next,
		}
		if i == 0 {
			s.Steps = []deploy.StepStatus{{Kind: deploy.StepApplyMigration, What: "notes 0001_init.sql", State: "lost", Note: "Whether it took effect is not known."}}
			s.Warnings = []string{"The account ends in 9 minutes and everything on it with it."}
		}
		for j := range workers {
			s.Deployments = append(s.Deployments, deploy.DeploymentStatus{
				DeploymentID: "d_qx2wn4ev6rb8tm1yu3io5pa7sd", Worker: fmt.Sprintf("hello-world-%d", j),
				URL: fmt.Sprintf("https://hello-world-%d.bright-morning-4821.workers.dev", j), VersionID: "0b6f5a2e-9d1c-4e3b-8a7f-2c5d6e7f8a9b",
				BundleID: "b_3f7a9d0c51e2b84466aa01f3c9d8e7b2", Digest: sampleBundle().Artifact.Digest, AgeSeconds: 1200,
				Serving: deploy.ServingYes, Probe: sampleCheck(),
			})
		}
		res.Sessions = append(res.Sessions, s)
	}
	return res
}

func sampleClaim() *deploy.ClaimResult {
	return &deploy.ClaimResult{
		Claim: deploy.ClaimAwaiting, SessionID: "s_ab3kq7mz2xw5yt4rn6pv8cj9dh", ExpiresAt: at().Add(40 * time.Minute), MinutesLeft: 40,
		PageURL: pageURL, Custody: "attended", Next: deploy.NextStep{Do: "Relay tell_user to the user, then stop. Do not poll and do not deploy to this session meanwhile."},
	}
}

// buildFailed is an error with n diagnostics.
func buildFailed(n int) error {
	e := &deploy.Error{Code: deploy.CodeBuildFailed, Message: fmt.Sprintf("the code does not build: %d errors", n), Next: "Fix the errors in diagnostics and call again."}
	for i := range n {
		e.Diagnostics = append(e.Diagnostics, deploy.Diagnostic{
			Severity: "error", File: fmt.Sprintf("src/module%d.ts", i), Line: 10 + i, Column: 9, Text: `Could not resolve "./missing-module"`,
			SourceLine: `import { helper } from "./missing-module";`, Suggestion: `Did you mean "./missing-modules"?`,
		})
	}
	return e
}
