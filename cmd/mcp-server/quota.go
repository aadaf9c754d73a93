package main

import (
	"fmt"
	"runtime"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// quota is what callers may use up, beside accounts.
type quota struct {
	MaxDeployments       int   `help:"How many deployments one caller may make in an hour. Default: no limit." placeholder:"N"`
	MaxDeploymentsInAll  int   `help:"How many all callers together may make in an hour." placeholder:"N"`
	MaxLiveSessions      int   `help:"How many sessions of one caller may have an account in use. Default: no limit." placeholder:"N"`
	MaxLiveSessionsInAll int   `help:"How many of all callers together." placeholder:"N"`
	MaxBundles           int   `help:"How many bundles of one caller are made at once; more wait for their turn. Default: half of those in all." placeholder:"N"`
	MaxBundlesInAll      int   `help:"How many bundles are made at once. Default: twice the processor cores." placeholder:"N"`
	MaxBytes             int64 `help:"How many bytes of inline files one caller may send in an hour. Default: no limit." placeholder:"N"`
	MaxBytesInAll        int64 `help:"How many bytes all callers together may send in an hour." placeholder:"N"`
}

// limits checks the limits, and gives bundles theirs: a bundle takes a core while it is
// made, so many more at once make each slower and none faster.
func (o *options) limits() (deploy.CallLimits, error) {
	for _, v := range []struct {
		flag string
		n    int64
	}{
		{"max-accounts", int64(o.MaxAccounts)},
		{"max-accounts-in-all", int64(o.MaxAccountsInAll)},
		{"max-deployments", int64(o.MaxDeployments)},
		{"max-deployments-in-all", int64(o.MaxDeploymentsInAll)},
		{"max-live-sessions", int64(o.MaxLiveSessions)},
		{"max-live-sessions-in-all", int64(o.MaxLiveSessionsInAll)},
		{"max-bundles", int64(o.MaxBundles)},
		{"max-bundles-in-all", int64(o.MaxBundlesInAll)},
		{"max-bytes", o.MaxBytes},
		{"max-bytes-in-all", o.MaxBytesInAll},
	} {
		if v.n < 0 {
			return deploy.CallLimits{}, fmt.Errorf("--%s: at least 1, or leave it out", v.flag)
		}
	}
	out := deploy.CallLimits{
		Deployments: o.MaxDeployments, DeploymentsInAll: o.MaxDeploymentsInAll,
		LiveSessions: o.MaxLiveSessions, LiveSessionsInAll: o.MaxLiveSessionsInAll,
		Bundles: o.MaxBundles, BundlesInAll: o.MaxBundlesInAll,
		SourceBytes: o.MaxBytes, SourceBytesInAll: o.MaxBytesInAll,
	}
	if out.BundlesInAll == 0 {
		out.BundlesInAll = 2 * runtime.NumCPU()
	}
	if out.Bundles == 0 {
		out.Bundles = max(1, out.BundlesInAll/2)
	}
	return out, nil
}
