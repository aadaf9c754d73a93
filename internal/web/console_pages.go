package web

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// sessionRow is one session of the overview.
type sessionRow struct {
	ID, Principal, Owner, Client string
	Labels                       []fact
	Phase                        string
	Until                        string // RFC 3339, for the countdown; empty: it is over
	Left                         string
	Workers                      []worker
	Claim, ClaimID               string
	Live                         bool
}

func newSessionRow(v *deploy.SessionView, now time.Time) sessionRow {
	row := sessionRow{
		ID: v.Session.ID, Principal: label(v.Session.Principal), Owner: label(v.Session.Owner()), Client: label(v.Session.Client),
		Phase: string(v.Phase), Left: minutes(v.Left), Claim: string(v.ClaimState), Live: v.Left > 0,
	}
	if v.Claim != nil {
		row.ClaimID = v.Claim.ID
	}
	if v.Left > 0 {
		row.Until = now.Add(v.Left).UTC().Format(time.RFC3339)
	}
	for _, k := range slices.Sorted(maps.Keys(v.Session.Labels)) {
		row.Labels = append(row.Labels, fact{Name: label(k), Value: label(v.Session.Labels[k])})
	}
	for name, value := range map[string]string{"run": v.Session.RunID, "job": v.Session.JobID} {
		if value != "" {
			row.Labels = append(row.Labels, fact{Name: name, Value: label(value), Claimed: true})
		}
	}
	slices.SortStableFunc(row.Labels, func(a, b fact) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range v.Deployments {
		row.Workers = append(row.Workers, worker{
			Name: label(d.Worker), URL: label(d.URL), Digest: d.Digest, Version: label(d.VersionID), Serving: d.Serving,
			Deployed: d.CreatedAt.UTC().Format("15:04 UTC"), Link: goodLink(d.URL),
		})
	}
	return row
}

// approvalRow is one act that waits for a human.
type approvalRow struct {
	ID, Act, Principal, Worker, Digest, Session string
	Labels                                      []fact
	Reasons                                     []string
	Until, Left                                 string
	Passkey                                     bool
}

func newApprovalRow(a *deploy.Approval, now time.Time) approvalRow {
	row := approvalRow{
		ID: a.ID, Act: string(a.Act), Principal: label(a.Principal), Worker: label(a.Worker), Digest: a.Digest, Session: a.SessionID,
		Until: a.ExpiresAt.UTC().Format(time.RFC3339), Left: minutes(a.ExpiresAt.Sub(now)),
	}
	for _, k := range slices.Sorted(maps.Keys(a.Labels)) {
		row.Labels = append(row.Labels, fact{Name: label(k), Value: label(a.Labels[k])})
	}
	for _, reason := range a.Reasons {
		if reason.Verdict == deploy.Ask {
			row.Reasons = append(row.Reasons, label(reason.Rule+": "+reason.Message))
		}
	}
	return row
}

// overviewBody is what the first page shows.
type overviewBody struct {
	Frozen    *deploy.Freeze
	Live      []sessionRow
	Waiting   []sessionRow // those whose claim waits
	Approvals []approvalRow
	Decided   []sessionRow // claims that were decided, newest first
	Operate   bool
	All       bool
}

const maxShown = 200

// look gathers the overview. Who does not operate sees what waits and was decided.
func (c *Console) look(r *http.Request) (*overviewBody, error) {
	ctx, in, now := r.Context(), loginOf(r), c.cfg.Now()
	b := &overviewBody{Operate: in.session.User.May(deploy.ScopeOperate)}
	var err error
	if b.Frozen, err = c.service.Frozen(ctx); err != nil {
		return nil, err
	}
	// What is live first: sessions that came to nothing must not hide what waits.
	all, err := c.service.Overview(ctx, deploy.SessionFilter{Limit: maxShown, Live: true})
	if err != nil {
		return nil, err
	}
	newest, err := c.service.Overview(ctx, deploy.SessionFilter{Limit: maxShown})
	if err != nil {
		return nil, err
	}
	for i := range newest {
		if !slices.ContainsFunc(all, func(v deploy.SessionView) bool { return v.Session.ID == newest[i].Session.ID }) {
			all = append(all, newest[i])
		}
	}
	for i := range all {
		row := newSessionRow(&all[i], now)
		switch {
		case all[i].ClaimState == deploy.ClaimAwaiting:
			b.Waiting = append(b.Waiting, row)
		case all[i].ClaimState != "":
			b.Decided = append(b.Decided, row)
		}
		if b.Operate && row.Live {
			b.Live = append(b.Live, row)
		}
	}
	waiting, err := c.service.WaitingApprovals(ctx)
	if err != nil {
		return nil, err
	}
	for i := range waiting {
		b.Approvals = append(b.Approvals, newApprovalRow(&waiting[i], now))
	}
	return b, nil
}

func (c *Console) overview(w http.ResponseWriter, r *http.Request) {
	b, err := c.look(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.show(w, r, http.StatusOK, "overview", layout{Title: "Console", Body: b})
}

// session is one session, live or not.
func (c *Console) session(w http.ResponseWriter, r *http.Request) {
	found, err := c.service.Overview(r.Context(), deploy.SessionFilter{ID: r.PathValue("id"), Limit: 1})
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if len(found) == 0 {
		c.problem(w, r, http.StatusNotFound, "Nothing here", "There is no such session.")
		return
	}
	b := sessionBody{sessionRow: newSessionRow(&found[0], c.cfg.Now())}
	logs, err := c.service.WorkerLogs(r.Context(), found[0].Session.ID)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	b.said(logs, c.cfg.Redactor)
	c.show(w, r, http.StatusOK, "session", layout{Title: "Session " + found[0].Session.ID, Body: b})
}

// claimBody is the page of one claim.
type claimBody struct {
	*page
	ID, DecidedBy, Channel string
	Passkey                bool
}

func (c *Console) claim(w http.ResponseWriter, r *http.Request) {
	c.showClaim(w, r, http.StatusOK, false)
}

func (c *Console) showClaim(w http.ResponseWriter, r *http.Request, status int, late bool) {
	id := r.PathValue("id")
	view, err := c.service.ClaimViewByID(r.Context(), id)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	b := claimBody{
		page: newPage(view, ""), ID: id, DecidedBy: label(view.Claim.DecidedBy), Channel: view.Claim.Channel,
		Passkey: c.cfg.Passkeys,
	}
	b.Late = late
	b.CanSay = approved(view) && loginOf(r).session.User.May(deploy.ScopeApprove)
	l := layout{Title: b.Title, Body: b}
	if view.State == deploy.ClaimAwaiting && loginOf(r).session.User.May(deploy.ScopeApprove) {
		c.browser(w, r) // before the decision: of a button that is pressed twice, the first answer is lost
	}
	if view.State.Given() {
		_, err := c.service.ClaimLinkByID(r.Context(), id, c.browserOf(r))
		b.Mine = err == nil && loginOf(r).session.User.May(deploy.ScopeApprove)
		l.Body = b
		if b.Mine && r.URL.Query().Has("decided") {
			l.Refresh = c.ClaimURL(id) + "/go"
		}
	}
	if status == http.StatusOK && view.State == deploy.ClaimLapsed {
		status = http.StatusGone
	}
	c.show(w, r, status, "claim", l)
}

// approval is the page of one act that waits.
func (c *Console) approval(w http.ResponseWriter, r *http.Request) {
	a, err := c.waiting(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if a == nil {
		c.problem(w, r, http.StatusNotFound, "Nothing waits here", "It was decided, is over, or never was.")
		return
	}
	row := newApprovalRow(a, c.cfg.Now())
	row.Passkey = c.cfg.Passkeys
	c.show(w, r, http.StatusOK, "approval", layout{Title: "May the agent do this?", Body: row})
}

func (c *Console) waiting(r *http.Request) (*deploy.Approval, error) {
	all, err := c.service.WaitingApprovals(r.Context())
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(all, func(a deploy.Approval) bool { return a.ID == r.PathValue("id") }); i >= 0 {
		return &all[i], nil
	}
	return nil, nil //nolint:nilnil // nothing waits under that name
}

// recordBody is the record and what it is narrowed to.
type recordBody struct {
	Filter RecordFilter
	Rows   []recordRow
	Most   int
}

type recordRow struct {
	Index                                                                         int64
	At, Phase, Act, Who, Session, Worker, Digest, Verdict, Outcome, Detail, Facts string
	Pruned                                                                        bool
}

func (c *Console) record(w http.ResponseWriter, r *http.Request) {
	if c.records == nil {
		c.problem(w, r, http.StatusNotFound, "Nothing here", "This server keeps no record.")
		return
	}
	q := func(name string) string { return c.cfg.Redactor.Redact(r.URL.Query().Get(name)) } // the form shows it again
	f := RecordFilter{
		Principal: q("principal"), Session: q("session"), Act: q("act"), Outcome: q("outcome"), Worker: q("worker"), Digest: q("digest"),
		Limit: maxShown,
	}
	all, err := c.records.Records(r.Context(), f)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	b := recordBody{Filter: f, Most: maxShown}
	for i := range all {
		b.Rows = append(b.Rows, newRecordRow(&all[i]))
	}
	c.show(w, r, http.StatusOK, "record", layout{Title: "The record", Body: b})
}

func newRecordRow(rec *Recorded) recordRow {
	if rec.Pruned {
		return recordRow{Index: rec.Index, Pruned: true}
	}
	e := &rec.Event
	row := recordRow{
		Index: rec.Index, At: e.At.UTC().Format("2006-01-02 15:04:05"), Phase: string(e.Phase), Act: label(e.Act), Who: label(e.Principal),
		Session: label(e.SessionID), Worker: label(e.Worker), Digest: label(e.Digest), Verdict: string(e.Verdict), Outcome: label(e.Outcome), Detail: label(e.Detail),
	}
	for _, k := range slices.Sorted(maps.Keys(e.Data)) {
		row.Facts += fmt.Sprintf("%s=%s ", label(k), label(e.Data[k]))
	}
	return row
}

// fingerprint tells whether what a human sees has changed.
func (b *overviewBody) fingerprint() string {
	var s strings.Builder
	fmt.Fprint(&s, b.Frozen != nil)
	for _, list := range [][]sessionRow{b.Live, b.Waiting, b.Decided} {
		for _, row := range list {
			fmt.Fprint(&s, row.ID, row.Phase, row.Claim, len(row.Workers), "|")
			for _, w := range row.Workers {
				fmt.Fprint(&s, w.Name, w.Digest, w.Serving, "|")
			}
		}
	}
	for _, a := range b.Approvals {
		fmt.Fprint(&s, a.ID, "|")
	}
	return hex.EncodeToString([]byte(hash(s.String())))[:16]
}
