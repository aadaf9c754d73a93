package deploy

import (
	"fmt"
	"strings"
)

// LimitsDate is when the table of limits was last held against its sources.
const LimitsDate = "2026-11-24"

// The limits of a temporary account that are checked before anything is spent. Limits
// shows them with their sources.
const (
	maxGzipBytes   = 3 << 20
	warnGzipBytes  = 1 << 20
	maxAssets      = 1000
	maxAssetBytes  = 5 << 20
	maxNameLength  = 63 // a DNS label: name.subdomain.workers.dev
	maxDatabases   = 1
	maxQueues      = 10
	maxCrons       = 5
	maxHyperdrives = 2
)

// Limit is one thing that a temporary account has only so much of, or not at all.
type Limit struct {
	What  string
	Limit string
	// Source tells how it is known: "documented" by Cloudflare for temporary accounts, the
	// "free plan"'s, whose rules temporary accounts follow, or "reported" by others.
	Source string
	// Checked tells when this server says no: "before" anything is spent, or not at all
	// by itself ("by the API").
	Checked string
}

// Limits is what is known of temporary accounts (wrangler-wire fact sheet, sections 17
// and 21).
func Limits() []Limit {
	const documented, free, reported = "documented", "free plan", "reported"
	const before, api = "before", "by the API"
	return []Limit{
		{"Lifetime", "60 minutes from its making; a redeploy does not lengthen it; unclaimed, everything is deleted", documented, before},
		{"Making accounts", "limited to a rate that is not published (HTTP 429)", documented, api},
		{"Worker, gzipped", fmt.Sprintf("%s; from %s on there is a warning, as a temporary account was seen to refuse more", mib(maxGzipBytes), mib(warnGzipBytes)), free + "; " + reported, before},
		{"Addresses", "workers.dev only: no zones, routes or custom domains", documented, before},
		{"Worker's name", fmt.Sprintf("%d characters: lower-case letters, digits, dashes", maxNameLength), "DNS", before},
		{"Static files", fmt.Sprintf("%d files of at most %s each", maxAssets, mib(maxAssetBytes)), documented, before},
		{"KV", "namespaces and keys as needed", documented, api},
		{"D1", fmt.Sprintf("%d database of 100 MB", maxDatabases), documented, before + " (the count)"},
		{"Durable Objects", "SQLite-backed classes only (new_sqlite_classes)", free, before},
		{"Queues", fmt.Sprint(maxQueues), documented, before},
		{"Cron triggers", fmt.Sprintf("%d an account", maxCrons), free, before},
		{"Hyperdrive", fmt.Sprintf("%d configurations, 10 connections", maxHyperdrives), documented, before},
		{"R2, Containers", "none, but on accounts of an event", reported, before},
		{"AI, Vectorize, Workflows, Browser, Images, Pipelines, Pages, Secrets Store, mTLS, email, rate limits, Analytics Engine", "not among what is documented; refused", documented, before},
		{"CPU limits, Logpush", "of paid plans: left out with a warning", free, before},
		{"Build commands", "never run: build first, deploy the output", "this server", before},
	}
}

// LimitsPage is the table as a page, for people and for models.
func LimitsPage() string {
	var b strings.Builder
	b.WriteString("# Limits of a temporary account\n\nAs known on " + LimitsDate +
		". \"Checked: before\" means that this server refuses it before an account is spent.\n\n| what | limit | known from | checked |\n|---|---|---|---|\n")
	for _, l := range Limits() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", l.What, l.Limit, l.Source, l.Checked)
	}
	return b.String()
}
