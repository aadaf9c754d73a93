package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// liveCheck makes one real temporary account, deploys, checks, tears down and tells
// what differed from what is written down of the API (the wrangler-wire fact sheet).
type liveCheck struct {
	p      process
	client *cloudflare.Client
	edge   *cloudflare.Edge
	seen   *witness
	differ []string
	facts  int
}

// live runs the check. It is opt-in, for a person: it uses up an account, and it
// accepts the terms only if a human did.
func (c *doctorCmd) live(ctx context.Context, o *options, p process) error {
	api := stringOr(o.APIBaseURL, cloudflare.DefaultBaseURL)
	if ci, _ := p.env("CI"); ci != "" && ci != "false" && !loopbackURL(api) {
		return errors.New("doctor --live is not for CI: it makes a real account")
	}
	h, err := build(ctx, o, p)
	if err != nil {
		return err
	}
	accepted := o.AcceptTerms || loopbackURL(api)
	if !accepted {
		accepted, err = h.accepted(ctx)
	}
	if err = errors.Join(err, h.close()); err != nil {
		return err
	}
	if !accepted {
		return errors.New("nobody has accepted Cloudflare's terms here: run `mcp-server setup` first, or give --accept-terms")
	}
	l := &liveCheck{p: p, seen: &witness{next: http.DefaultTransport}}
	l.client, err = cloudflare.New(cloudflare.Config{BaseURL: o.APIBaseURL, UserAgent: "hourglass/" + version, Transport: l.seen})
	if err != nil {
		return err
	}
	l.edge, err = cloudflare.NewEdge(cloudflare.EdgeConfig{URL: o.EdgeURL})
	if err != nil {
		return errors.Join(err, l.client.Close())
	}
	err = errors.Join(l.run(ctx), l.edge.Close(), l.client.Close())
	return errors.Join(err, l.report(c.JSON))
}

func loopbackURL(u string) bool {
	return strings.HasPrefix(u, "http://127.0.0.1:") || strings.HasPrefix(u, "http://localhost:") || strings.HasPrefix(u, "http://[::1]:")
}

func (l *liveCheck) say(format string, args ...any) { fmt.Fprintf(l.p.stderr, format+"\n", args...) }

// fact compares one thing that was seen with what is written down.
func (l *liveCheck) fact(name string, ok bool, got any) {
	l.facts++
	if !ok {
		l.differ = append(l.differ, fmt.Sprintf("%s: %v", name, got))
	}
}

func (l *liveCheck) run(ctx context.Context) error {
	began := time.Now()
	grant, err := l.client.Provision(ctx, func(s deploy.Stage) { l.say("… %s", s) })
	if err != nil {
		return err
	}
	l.say("account %q after %s", grant.Account.Name, time.Since(began).Round(time.Millisecond))
	l.provisioning(grant)
	acct := &grant.Account
	const name = "hourglass-doctor"
	a := &deploy.Artifact{
		Name: name, MainModule: "index.js", CompatibilityDate: "2026-08-01",
		Modules: []deploy.Module{{Name: "index.js", Type: deploy.TypeESModule, Content: []byte(`export default { fetch: () => new Response("doctor") };`)}},
	}
	if err := a.Seal(); err != nil {
		return err
	}
	up, err := l.client.Upload(ctx, acct, deploy.Upload{Artifact: a, Message: "doctor --live"})
	if err != nil {
		return err
	}
	l.fact("the upload names a version", up.VersionID != "", up.VersionID)
	host, err := l.client.EnableRoute(ctx, acct, name)
	if err != nil {
		return err
	}
	slug := strings.ToLower(strings.ReplaceAll(acct.Name, " ", "-"))
	l.fact("the subdomain is the slug of the account's name", strings.HasSuffix(host, "."+slug+".workers.dev"), host)
	if err := l.serving(ctx, acct, host, up.VersionID); err != nil {
		return err
	}
	return l.teardown(ctx, acct, name, host)
}

// provisioning holds what the two calls answered against section 3 of the sheet.
func (l *liveCheck) provisioning(g *deploy.Grant) {
	ch, pv := l.seen.result("/provisioning/previews/challenge"), l.seen.result("/provisioning/previews")
	k, _ := ch["k"].(float64)
	gg, _ := ch["g"].(float64)
	l.fact("the challenge is k=1000 g=2000", k == 1000 && gg == 2000, fmt.Sprintf("k=%v g=%v", k, gg))
	l.fact("the seed is 32 bytes of base64url", matches(`^[A-Za-z0-9_-]{43}$`, ch["seed"]), "another form")
	account, _ := pv["account"].(map[string]any)
	claim, _ := pv["claim"].(map[string]any)
	l.fact("the account id is 32 hex digits", matches(`^[0-9a-f]{32}$`, account["id"]), "another form")
	l.fact("the API token has 53 characters", matches(`^.{53}$`, account["apiToken"]), "another length")
	l.fact("account.expiresAt has no milliseconds", matches(`^[^.]+Z$`, account["expiresAt"]), account["expiresAt"])
	l.fact("claim.expiresAt has milliseconds", matches(`^.+\.\d{3}Z$`, claim["expiresAt"]), claim["expiresAt"])
	l.fact("the claim token has 43 characters of base64url", matches(`^[A-Za-z0-9_-]{43}$`, claim["token"]), "another form")
	l.fact("the claim link leads to dash.cloudflare.com/claim-preview", matches(`^https://dash\.cloudflare\.com/claim-preview\?claimToken=`, claim["url"]), "elsewhere")
	left := g.Account.ExpiresAt.Sub(l.client.Clock())
	l.fact("the account lives 60 minutes", (left-time.Hour).Abs() < time.Minute, left.Round(time.Second))
}

func matches(pattern string, v any) bool {
	s, ok := v.(string)
	return ok && regexp.MustCompile(pattern).MatchString(s)
}

// serving waits for the route and for a tail event of a probe of ours.
func (l *liveCheck) serving(ctx context.Context, acct *deploy.Account, host, version string) error {
	tail, err := l.client.Tail(ctx, acct, strings.Split(host, ".")[0])
	if err != nil {
		return err
	}
	defer tail.Close() //nolint:errcheck // the account is thrown away
	began := time.Now()
	probe := ""
	for {
		probe = deploy.NewID("p")
		resp, err := l.edge.Fetch(ctx, host, "/", http.Header{deploy.ProbeHeader: {probe}})
		if err == nil && resp.Status == http.StatusOK && string(resp.Body) == "doctor" {
			break
		}
		if time.Since(began) > time.Minute {
			return fmt.Errorf("the route did not answer within a minute (%w)", err)
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	took := time.Since(began).Round(100 * time.Millisecond)
	l.say("live at https://%s after %s", host, took)
	l.fact("a new route serves after 12 to 15 s", took >= 10*time.Second && took <= 20*time.Second, took)
	limited, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	for {
		ev, err := tail.Next(limited)
		if err != nil {
			l.fact("the tail tells of our probe", false, "it did not within 10 s")
			return ctx.Err()
		}
		if ev.ProbeID == probe {
			l.fact("the tail names the version", ev.VersionID == version, fmt.Sprintf("%q, uploaded %q", ev.VersionID, version))
			return nil
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (l *liveCheck) teardown(ctx context.Context, acct *deploy.Account, name, host string) error {
	if err := l.client.DeleteWorker(ctx, acct, name); err != nil {
		return err
	}
	l.say("the Worker is taken down; the account ends by itself at %s, unclaimed", acct.ExpiresAt.UTC().Format(time.RFC3339))
	began := time.Now()
	for time.Since(began) < 30*time.Second {
		resp, err := l.edge.Fetch(ctx, host, "/", nil)
		if err != nil || resp.Status == http.StatusNotFound {
			return nil
		}
		if err := pause(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
	l.fact("a deleted Worker stops serving within 30 s", false, "it still serves")
	return nil
}

func (l *liveCheck) report(asJSON bool) error {
	if asJSON {
		return printJSON(l.p, map[string]any{"facts": l.facts, "differ": l.differ})
	}
	fmt.Fprintf(l.p.stdout, "%d facts looked at, %d differ from the sheet\n", l.facts, len(l.differ))
	for _, d := range l.differ {
		fmt.Fprintln(l.p.stdout, "differs:", d)
	}
	return nil
}

// witness keeps the JSON results of the provisioning calls, to compare their forms.
// Their values are never printed.
type witness struct {
	next    http.RoundTripper
	mu      sync.Mutex
	results map[string]map[string]any
}

// RoundTrip implements http.RoundTripper.
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil || !strings.Contains(r.URL.Path, "/provisioning/") {
		return resp, err
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	var in struct {
		Result map[string]any `json:"result"`
	}
	if json.Unmarshal(b, &in) == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.results == nil {
			w.results = map[string]map[string]any{}
		}
		w.results[r.URL.Path[strings.Index(r.URL.Path, "/provisioning/"):]] = in.Result
	}
	return resp, nil
}

func (w *witness) result(path string) map[string]any {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.results[path]
}

// ownHosts gives a Worker's own address for a command that ends at once: a forwarder
// of ours would end with it.
type ownHosts struct {
	deploy.Edge
	edgeURL string
}

// URL gives https://host, or where another edge answers on this machine, the same name
// under localhost, which curl and browsers resolve to it.
func (e ownHosts) URL(_ context.Context, host string) (string, error) {
	if e.edgeURL == "" {
		return "https://" + host, nil
	}
	name, isDev := strings.CutSuffix(host, ".workers.dev")
	i := strings.LastIndexByte(e.edgeURL, ':')
	if !isDev || !loopbackURL(e.edgeURL) || i < 0 {
		return "https://" + host, nil
	}
	return "http://" + name + ".localhost" + strings.TrimRight(e.edgeURL[i:], "/"), nil
}
