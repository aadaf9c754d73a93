package cloudflare_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
	"github.com/hourglass-mcp/hourglass/internal/sandbox"
	"github.com/hourglass-mcp/hourglass/internal/sandbox/workerd"
)

// startSandbox starts our own small Cloudflare, on the real runtime, a little unkind. Where that can't
// be had the test is skipped; in CI that is a failure.
func startSandbox(t *testing.T) sandbox.URLs {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cfg := workerd.FindConfig{CacheDir: filepath.Join(cache, "hourglass")}
	if _, err := workerd.Find(t.Context(), cfg); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no workerd in CI: %v", err)
		}
		t.Skipf("the runtime can't be had: %v", err)
	}
	s, err := sandbox.New(sandbox.Config{
		ChallengeK: 20, ChallengeG: 30, CheckSegments: -1, Faults: "mild",
		Workerd: func(ctx context.Context) (workerd.Binary, error) { return workerd.Find(ctx, cfg) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.URLs()
}

func code(js string) *deploy.Artifact {
	a := hello()
	a.Modules[0].Content = []byte(js)
	return a
}

const thrower = `export default { async fetch(request) {
	console.log("asked for", new URL(request.url).pathname);
	if (new URL(request.url).pathname === "/boom") throw new TypeError("no such thing");
	return new Response("first " + request.headers.get("host"));
} };`

// The client against the sandbox, which shares no code with it but the proof of work:
// the whole life of an account.
func TestAgainstTheSandbox(t *testing.T) {
	urls := startSandbox(t)
	c, err := cloudflare.New(cloudflare.Config{BaseURL: urls.API})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	e := newEdge(t, cloudflare.EdgeConfig{URL: urls.Edge})
	if now, err := c.AskClock(t.Context()); err != nil || time.Since(now).Abs() > 3*time.Second {
		t.Errorf("the API's clock says %v, %v", now, err)
	}
	grant, err := c.Provision(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	acct := &grant.Account
	if left := acct.ExpiresAt.Sub(c.Clock()); left < 59*time.Minute || left > 61*time.Minute || grant.Difficulty != 600 {
		t.Errorf("%v left, difficulty %d", left, grant.Difficulty)
	}

	first := put(t, c, acct, code(thrower))
	host, err := c.EnableRoute(t.Context(), acct, worker)
	if err != nil {
		t.Fatal(err)
	}
	if res := fetch(t, e, host, "/", nil); res.Status != 200 || string(res.Body) != "first "+host {
		t.Errorf("it answers %d %q", res.Status, res.Body)
	}
	local, err := e.URL(t.Context(), host)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := get(t, http.MethodGet, local+"/"); status != 200 || body != "first "+host {
		t.Errorf("over the forwarder it answers %d %q", status, body)
	}
	watch(t, c, e, acct, host, first.VersionID)

	t.Run("redeploy", func(t *testing.T) {
		second := put(t, c, acct, code(`export default { fetch: () => new Response("second") }`))
		if second.VersionID == first.VersionID {
			t.Error("the version is the same")
		}
		if res := fetch(t, e, host, "/", nil); string(res.Body) != "second" {
			t.Errorf("it answers %d %q", res.Status, res.Body)
		}
	})
	t.Run("does not start", func(t *testing.T) {
		_, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: code("\n\nthrow new Error('at start');\nexport default {}")})
		wantError(t, err, deploy.CodeStartFailed, "at start")
		if res := fetch(t, e, host, "/", nil); string(res.Body) != "second" {
			t.Errorf("it answers %d %q: a Worker that does not start replaced one that serves", res.Status, res.Body)
		}
	})
	t.Run("assets only", func(t *testing.T) { assetsOnly(t, c, e, acct) })
	t.Run("after the hour", func(t *testing.T) {
		manage(t, urls.Manage+"/clock", `{"advance_seconds":3700}`)
		_, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: code(thrower)})
		wantError(t, err, deploy.CodeAccountLost, "")
		if c.Clock().Before(acct.ExpiresAt) {
			t.Errorf("the clock says %v, after %v", c.Clock(), acct.ExpiresAt)
		}
		if res := fetch(t, e, host, "/", nil); res.Status != http.StatusGone {
			t.Errorf("it answers %d", res.Status)
		}
	})
	if unknown := manageGet(t, urls.Manage+"/unknown"); strings.Contains(unknown, "/") {
		t.Errorf("the sandbox was asked for what it has not: %s", unknown)
	}
}

func put(t *testing.T, c *cloudflare.Client, acct *deploy.Account, a *deploy.Artifact) *deploy.Uploaded {
	t.Helper()
	up, err := c.Upload(t.Context(), acct, deploy.Upload{Artifact: a, Message: "test", Tag: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if up.VersionID == "" {
		t.Error("no version")
	}
	return up
}

// fetch asks until the answer is not that of a route that is on its way.
func fetch(t *testing.T, e *cloudflare.Edge, host, path string, header http.Header) *deploy.Response {
	t.Helper()
	for range 100 {
		res, err := e.Fetch(t.Context(), host, path, header)
		if err != nil {
			t.Fatal(err)
		}
		if res.Status != http.StatusNotFound {
			return res
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s%s stays 404", host, path)
	return nil
}

// watch reads the tail: one event for a visitor, one for a probe that throws.
func watch(t *testing.T, c *cloudflare.Client, e *cloudflare.Edge, acct *deploy.Account, host, version string) {
	t.Helper()
	tail, err := c.Tail(t.Context(), acct, worker)
	if err != nil {
		t.Fatal(err)
	}
	defer tail.Close() //nolint:errcheck // it is over
	for i, path := range []string{"/fine", "/boom"} {
		probe := fmt.Sprintf("p_%d", i)
		res := fetch(t, e, host, path, http.Header{deploy.ProbeHeader: {probe}})
		ev := eventOf(t, tail, probe)
		if ev.VersionID != version || len(ev.Logs) != 1 || ev.Logs[0] != "asked for "+path {
			t.Errorf("%s: event %+v, want version %s", path, ev, version)
		}
		if path == "/fine" {
			if ev.Outcome != "ok" || len(ev.Exceptions) != 0 || ev.Status != 200 {
				t.Errorf("event %+v", ev)
			}
			continue
		}
		if res.Status != 500 || ev.Outcome != "exception" || len(ev.Exceptions) != 1 {
			t.Fatalf("status %d, event %+v", res.Status, ev)
		}
		x := ev.Exceptions[0]
		if x.Name != "TypeError" || x.Message != "no such thing" || !strings.Contains(x.Stack, "index.js:3:") {
			t.Errorf("exception %+v", x)
		}
	}
}

// eventOf gives the event of a probe. What was asked before the tail was open may
// still come, too.
func eventOf(t *testing.T, tail deploy.Tail, probe string) deploy.TraceEvent {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		ev, err := tail.Next(ctx)
		if err != nil {
			t.Fatalf("no event of %s: %v", probe, err)
		}
		if ev.ProbeID == probe {
			return ev
		}
	}
}

func assetsOnly(t *testing.T, c *cloudflare.Client, e *cloudflare.Edge, acct *deploy.Account) {
	t.Helper()
	a := site()
	a.Name = "site"
	if up := put(t, c, acct, a); up.AssetsSent != 5 || up.AssetsKept != 0 {
		t.Errorf("uploaded %+v", up)
	}
	host, err := c.EnableRoute(t.Context(), acct, "site")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ body, kind string }{
		"/":               {"<h1>hi</h1>", "text/html; charset=utf-8"},
		"/a.css":          {"a{}", "text/css; charset=utf-8"},
		"/sp%20ace/ü.bin": {"\x00\x01", "application/octet-stream"},
		"/nowhere":        {"<h1>hi</h1>", "text/html; charset=utf-8"}, // single-page-application
	} {
		res := fetch(t, e, host, path, nil)
		if string(res.Body) != want.body || res.Header.Get("Content-Type") != want.kind {
			t.Errorf("%s: %d %q %v, want %q", path, res.Status, res.Body, res.Header, want)
		}
	}
	a.Assets.Files[2].Content = []byte("a{color:red}")
	if up := put(t, c, acct, a); up.AssetsSent != 1 || up.AssetsKept != 4 {
		t.Errorf("uploaded again %+v", up)
	}
	if res := fetch(t, e, host, "/a.css", nil); string(res.Body) != "a{color:red}" {
		t.Errorf("it answers %q", res.Body)
	}
}

func manage(t *testing.T, url, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is written
	if text, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, res.StatusCode, text)
	}
}

func manageGet(t *testing.T, url string) string {
	t.Helper()
	_, _, body := get(t, http.MethodGet, url)
	if !json.Valid([]byte(body)) {
		t.Errorf("%s answers %q", url, body)
	}
	return body
}
