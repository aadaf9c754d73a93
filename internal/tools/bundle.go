package tools

import (
	"context"
	"slices"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

type bundleInput struct {
	sourceArgs
}

type bundleOutput struct {
	BundleID    string          `json:"bundle_id" desc:"Pass it to deploy_temporary"`
	Digest      string          `json:"digest"`
	Name        string          `json:"name"`
	Modules     []moduleRow     `json:"modules" schema:"loose" desc:"Untrusted"`
	Bytes       int64           `json:"bytes"`
	GzipBytes   int64           `json:"gzip_bytes"`
	Largest     []sizedRow      `json:"largest" schema:"loose" desc:"Untrusted"`
	Diagnostics []diagnosticRow `json:"diagnostics" desc:"Untrusted"`
	Warnings    []string        `json:"warnings,omitempty" desc:"Quotes untrusted"`
	LeftOut     leftOut         `json:"left_out,omitempty" desc:"Rows dropped, per list"`
}

type moduleRow struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Bytes int    `json:"bytes"`
}

type sizedRow struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

type diagnosticRow struct {
	Severity   string `json:"severity"`
	File       string `json:"file,omitempty"`
	Line       int    `json:"line,omitempty"`
	Column     int    `json:"column,omitempty"`
	Text       string `json:"text"`
	SourceLine string `json:"source_line,omitempty"`
	Suggestion string `json:"suggestion,omitempty"`
}

func bundleTool(svc Service) tool[bundleInput, *bundleOutput] {
	return tool[bundleInput, *bundleOutput]{
		name: "bundle", title: "Bundle a Worker",
		description: "Compile a Cloudflare Worker without deploying it, to check code or size: " +
			"TypeScript, JSX, JSON, text and wasm imports, node: and cloudflare: modules. " +
			"Give exactly one of project_dir and files. No account is used; nothing is written to the project. " +
			"Returns bundle_id for deploy_temporary, sizes, and diagnostics (file, line, column) to fix. " +
			"To go live call deploy_temporary directly: it bundles too.",
		scope: deploy.ScopeRead,
		hints: hints{readOnly: true, idempotent: true},
		run: func(ctx context.Context, c *call, in bundleInput) (*bundleOutput, error) {
			src, err := in.source()
			if err != nil {
				return nil, err
			}
			c.stages.reached(deploy.StageBundle)
			res, err := svc.Bundle(ctx, c.caller, src)
			if err != nil {
				return nil, err
			}
			return newBundleOutput(res), nil
		},
	}
}

func newBundleOutput(res *deploy.BundleResult) *bundleOutput {
	a := res.Artifact
	out := &bundleOutput{
		BundleID: res.BundleID, Digest: a.Digest, Name: a.Name, Modules: []moduleRow{}, Bytes: a.Bytes, GzipBytes: a.GzipBytes,
		Largest: []sizedRow{}, Diagnostics: diagnosticRows(a.Diagnostics), Warnings: texts(a.Warnings),
	}
	for _, m := range a.Modules {
		if m.Type != deploy.TypeSourceMap {
			out.Modules = append(out.Modules, moduleRow{Name: clip(m.Name, 120), Type: m.Type, Bytes: len(m.Content)})
		}
	}
	for _, l := range a.Largest {
		out.Largest = append(out.Largest, sizedRow{Name: clip(l.Name, 120), Bytes: l.Bytes})
	}
	if out.Diagnostics == nil {
		out.Diagnostics = []diagnosticRow{}
	}
	return out
}

func (o *bundleOutput) budget() int { return maxResult }

// shrink keeps three modules and three inputs before it drops diagnostics, which are
// what an agent acts on.
func (o *bundleOutput) shrink() bool {
	left := &o.LeftOut
	return dropRow(&o.Largest, left, "largest", 3) || dropRow(&o.Modules, left, "modules", 3) ||
		dropRow(&o.Diagnostics, left, "diagnostics", 3) || dropRow(&o.Warnings, left, "warnings", 2) ||
		dropRow(&o.Largest, left, "largest", 0) || dropRow(&o.Modules, left, "modules", 0) ||
		dropRow(&o.Diagnostics, left, "diagnostics", 1) || dropRow(&o.Warnings, left, "warnings", 0)
}

// diagnosticRows gives the rows, errors first; their texts quote foreign code.
func diagnosticRows(ds []deploy.Diagnostic) []diagnosticRow {
	var rows []diagnosticRow
	for _, d := range ds {
		rows = append(rows, diagnosticRow{
			Severity: d.Severity, File: clip(d.File, 120), Line: d.Line, Column: d.Column,
			Text: foreign(d.Text), SourceLine: clip(foreign(d.SourceLine), 120), Suggestion: clip(foreign(d.Suggestion), 200),
		})
	}
	slices.SortStableFunc(rows, func(a, b diagnosticRow) int { return rank(a) - rank(b) })
	return rows
}

func rank(d diagnosticRow) int {
	if d.Severity == "error" {
		return 0
	}
	return 1
}

// texts cuts each of a list of sentences to size.
func texts(in []string) []string {
	out := []string{} // null is no list to clients that check
	for _, s := range in {
		out = append(out, foreign(s))
	}
	return out
}

// leftOut counts the rows that were dropped from a result's lists.
type leftOut map[string]int

// dropRow drops the last row of a list that has more than keep, and counts it under name.
func dropRow[T any](rows *[]T, count *leftOut, name string, keep int) bool {
	n := len(*rows)
	if n <= keep {
		return false
	}
	*rows = (*rows)[:n-1]
	if *count == nil {
		*count = leftOut{}
	}
	(*count)[name]++
	return true
}
