package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/peertest"
)

func TestDemo(t *testing.T) {
	peertest.Workerd(t)
	cache, err := peertest.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, home: t.TempDir(), cache: cache}
	stdout, stderr, code := w.run(w.home, "demo", "--json")
	var rep struct {
		OK    bool
		Steps []struct {
			Name string
			MS   float64
		}
		URL         string
		SecondsLeft int `json:"seconds_left"`
		Claim       string
		ExpiredOK   bool `json:"expired_ok"`
	}
	if err := json.Unmarshal([]byte(stdout), &rep); err != nil || code != 0 {
		t.Fatalf("code %d, %v\n%s\n%s", code, err, stdout, stderr)
	}
	if !rep.OK || len(rep.Steps) < 12 || rep.URL == "" || rep.SecondsLeft < 3500 || rep.Claim != "approved" || !rep.ExpiredOK {
		t.Errorf("%+v", rep)
	}
}

// TestDeployFixLoop is the product: deploy, look, change, fail, be told where, fix.
func TestDeployFixLoop(t *testing.T) {
	w := kindWorld(t)
	a := w.agent(w.serverArgs())
	first := a.deploy(map[string]any{"files": says("one"), "name": "loop"})
	if first.Account != "new" || first.Serving != "yes" || first.Phase != "live" || first.Check.Version != "confirmed" {
		t.Errorf("first: %+v", first)
	}
	if _, body := w.get(first.URL); body != "one" {
		t.Errorf("the URL answers %q", body)
	}
	second := a.deploy(map[string]any{"files": says("two"), "name": "loop", "session_id": first.SessionID})
	if second.Account != "reused" || !second.Changed || second.URL != first.URL || second.Check.BodyExcerpt != "two" ||
		second.Check.Version != "confirmed" || second.VersionID == first.VersionID {
		t.Errorf("second: %+v", second)
	}
	before := w.uploads()
	again := a.deploy(map[string]any{"files": says("two"), "name": "loop"})
	if again.Changed || again.VersionID != second.VersionID || w.uploads() != before {
		t.Errorf("unchanged: %+v", again)
	}
	broken := a.deploy(map[string]any{"files": files("src/index.ts", "type T = { a: { b: string } };\n\nconst look = (t: T) => t.a.b;\n\nexport default {\n  async fetch(): Promise<Response> {\n    return new Response(look({} as T));\n  },\n};\n"), "name": "loop"})
	if broken.Check.OK || broken.Check.Status != 500 || !strings.Contains(broken.Check.Error, "TypeError") || broken.Check.At != "src/index.ts:3:28" {
		t.Errorf("broken: %+v", broken.Check)
	}
	out := a.call("deploy_temporary", map[string]any{"files": files("index.ts", "const x: number = 1;\nthrow new Error('not at start');\nexport default {};"), "name": "loop"})
	if !out.IsError || out.Error.Code != "start_failed" || !strings.Contains(out.Error.Message, "not at start") || !strings.Contains(out.Error.Message, "index.ts:2:") {
		t.Errorf("a Worker that does not start: %s", out.Text)
	}
	if n := len(w.accounts()); n != 1 {
		t.Errorf("%d accounts were made", n)
	}
	fresh := a.deploy(map[string]any{"files": says("three"), "name": "loop", "fresh": true})
	if fresh.Account != "new" || fresh.SessionID != first.SessionID || len(w.accounts()) != 2 {
		t.Errorf("fresh: %+v", fresh)
	}
}

// TestOldVersionIsNotTakenForTheNewOne: the edge goes on serving the old version for 5 s.
func TestOldVersionIsNotTakenForTheNewOne(t *testing.T) {
	w := newWorld(t)
	a := w.agent(w.serverArgs())
	a.deploy(map[string]any{"files": says("old"), "name": "slow"})
	w.manage(http.MethodPut, "/propagation", `{"route_ms":0,"version_ms":5000}`, nil)
	began := time.Now()
	d := a.deploy(map[string]any{"files": says("new"), "name": "slow"})
	if d.Check.BodyExcerpt != "new" || d.Check.Version != "confirmed" || d.Serving != "yes" || time.Since(began) < 4*time.Second {
		t.Errorf("after %s: %+v", time.Since(began), d)
	}
	w.manage(http.MethodPut, "/propagation", `{"route_ms":1500,"version_ms":0}`, nil)
	d = a.deploy(map[string]any{"files": says("late"), "name": "late-route"})
	if d.Check.Status != 200 || d.Check.BodyExcerpt != "late" || d.Serving != "yes" {
		t.Errorf("a route that takes a while: %+v", d)
	}
}

func TestIdempotencyKey(t *testing.T) {
	w := kindWorld(t)
	a := w.agent(w.serverArgs())
	var wg sync.WaitGroup
	got := make([]live, 6)
	for i := range got {
		wg.Go(func() {
			got[i] = a.callMeta("deploy_temporary", map[string]any{"files": says("once"), "name": "once"}, map[string]any{"idempotencyKey": "k1"}).Live
		})
	}
	wg.Wait()
	for _, g := range got {
		if g.DeploymentID == "" || g.DeploymentID != got[0].DeploymentID {
			t.Errorf("%+v", g)
		}
	}
	if len(w.accounts()) != 1 || w.uploads() != 1 {
		t.Errorf("%d accounts, %d uploads", len(w.accounts()), w.uploads())
	}
	out := a.callMeta("deploy_temporary", map[string]any{"files": says("other"), "name": "once"}, map[string]any{"idempotencyKey": "k1"})
	if !out.IsError || out.Error.Code != "idempotency_conflict" {
		t.Errorf("other arguments: %s", out.Text)
	}
}

// TestClaimAndNothingLeaks lives the whole life of a session at debug level and then
// looks for the token and the claim token in everything that left the process.
func TestClaimAndNothingLeaks(t *testing.T) {
	w := newWorld(t)
	a := w.agent(w.serverArgs("--log-level", "debug"), "CLOUDFLARE_API_TOKEN=ambient-token-that-is-not-ours", "CLOUDFLARE_API_KEY=ambient-key-that-is-not-ours")
	d := a.deploy(map[string]any{"files": says("keep me"), "name": "keeper", "run_id": "r1", "job_id": "j1"})
	a.call("status", map[string]any{"session_id": d.SessionID, "detail": true})
	a.call("deploy_temporary", map[string]any{"files": files("index.js", "export default {"), "name": "keeper"})
	claim := a.call("request_claim", map[string]any{"session_id": d.SessionID, "message": "keep it?"}).Live
	page := regexp.MustCompile(`http://localhost:\d+/claim/[A-Za-z0-9]+`).FindString(claim.TellUser)
	if claim.Claim != "awaiting_human" || page == "" {
		t.Fatalf("%+v", claim)
	}
	if out := a.call("deploy_temporary", map[string]any{"files": says("meanwhile"), "name": "keeper"}); out.Error.Code != "claim_pending" {
		t.Errorf("not frozen: %s", out.Text)
	}
	jar, _ := cookiejar.New(nil)
	link := ""
	human := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.Contains(r.URL.Path, "claim-preview") {
			link = r.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}}
	ask := func(method, address, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "same-origin")
		resp, err := human.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b := make([]byte, 1<<16)
		n, _ := resp.Body.Read(b)
		return resp.StatusCode, string(b[:n])
	}
	for range 3 { // looking decides nothing
		if _, html := ask(http.MethodGet, page, ""); !strings.Contains(html, "keeper") || !strings.Contains(html, "index.js (") || !strings.Contains(html, "revoke what you did not make") {
			t.Fatalf("the page does not name the Worker: %s", html)
		}
	}
	if code, html := ask(http.MethodPost, page, url.Values{"decision": {"approve"}}.Encode()); code != 200 {
		t.Fatalf("approve: %d %s", code, html)
	}
	ask(http.MethodGet, page+"/go", "")
	if link == "" {
		t.Fatal("the page did not lead on")
	}
	if st := a.call("status", map[string]any{"session_id": d.SessionID}).Live; st.Sessions[0].Claim != "opened" || st.Sessions[0].Phase != "closed" {
		t.Errorf("status: %+v", st)
	}
	if out := a.call("deploy_temporary", map[string]any{"files": says("after"), "session_id": d.SessionID}); out.Error.Code != "session_closed" {
		t.Errorf("after the approval: %s", out.Text)
	}
	if code, html := ask(http.MethodPost, page+"/outcome", url.Values{"outcome": {"finished"}}.Encode()); code != 200 || !strings.Contains(html, "a human says that the account is in their dashboard") {
		t.Errorf("the word of the human: %d %s", code, html)
	}
	if st := a.call("status", map[string]any{"session_id": d.SessionID}).Live; st.Sessions[0].Claim != "adopted" {
		t.Errorf("status after the word: %+v", st)
	}
	acct := w.accounts()[0]
	everything := a.stderr.String() + a.said.String()
	_ = filepath.WalkDir(filepath.Join(w.home, "state"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "key" {
			b, _ := os.ReadFile(path)
			everything += string(b)
		}
		return nil
	})
	for name, secret := range map[string]string{
		"API token": acct.APIToken, "claim token": acct.ClaimToken, "ambient token": "ambient-token-that-is-not-ours", "ambient key": "ambient-key-that-is-not-ours",
		"API token in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(acct.APIToken)), "="),
	} {
		if secret == "" || strings.Contains(everything, secret) {
			t.Errorf("the %s left the process, or is empty", name)
		}
	}
	if !strings.Contains(a.stderr.String(), "CLOUDFLARE_API_TOKEN") {
		t.Error("the server does not say that it saw and ignored the ambient credentials")
	}
	w.manage(http.MethodPost, "/accounts/"+acct.ID+"/claim", "", nil)
	w.manage(http.MethodPost, "/clock", `{"advance_seconds":3700}`, nil)
	if code, body := w.get(d.URL); code != 200 || body != "keep me" {
		t.Errorf("the claimed Worker: %d %q", code, body)
	}
}

// TestExpiry: past the hour nothing is served, and the next deployment goes to a new
// account without being told.
func TestExpiry(t *testing.T) {
	w := newWorld(t)
	a := w.agent(w.serverArgs())
	d := a.deploy(map[string]any{"files": says("mortal"), "name": "mortal"})
	w.manage(http.MethodPost, "/clock", `{"advance_seconds":3100}`, nil)
	if st := a.call("status", nil).Live; st.Sessions[0].Phase != "expiring" {
		t.Errorf("status: %+v", st.Sessions)
	}
	w.manage(http.MethodPost, "/clock", `{"advance_seconds":600}`, nil)
	if st := a.call("status", nil).Live; st.Sessions[0].Phase != "expired" {
		t.Errorf("status: %+v", st.Sessions)
	}
	if code, _ := w.get(d.URL); code != http.StatusGone {
		t.Errorf("it answers %d", code)
	}
	if out := a.call("deploy_temporary", map[string]any{"files": says("x"), "session_id": d.SessionID}); out.Error.Code != "session_expired" {
		t.Errorf("into an expired session: %s", out.Text)
	}
	if out := a.call("request_claim", map[string]any{"session_id": d.SessionID}); out.Error.Code != "session_expired" {
		t.Errorf("claim of an expired session: %s", out.Text)
	}
	next := a.deploy(map[string]any{"bundle_id": d.BundleID})
	if next.Account != "new" || next.SessionID == d.SessionID || next.Check.BodyExcerpt != "mortal" {
		t.Errorf("again: %+v", next)
	}
}

// TestASecondServerFindsTheSession: the handle outlives the process.
func TestASecondServerFindsTheSession(t *testing.T) {
	w := newWorld(t)
	first := w.agent(w.serverArgs())
	d := first.deploy(map[string]any{"files": says("one"), "name": "survivor"})
	_ = first.client.Close()
	second := w.agent(w.serverArgs())
	st := second.call("status", nil).Live
	if len(st.Sessions) != 1 || st.Sessions[0].SessionID != d.SessionID {
		t.Fatalf("status: %+v", st)
	}
	again := second.deploy(map[string]any{"files": says("two"), "name": "survivor", "session_id": d.SessionID})
	if again.Account != "reused" || again.Check.BodyExcerpt != "two" || len(w.accounts()) != 1 {
		t.Errorf("%+v", again)
	}
}

// TestRefusalsSpendNothing: each bad input gets a named error, and no account is made.
func TestRefusalsSpendNothing(t *testing.T) {
	w := newWorld(t)
	root := w.write("good/index.js", "export default {};", "empty/readme.txt", "nothing here")
	outside := w.write("index.js", "export default {};")
	if err := os.Symlink(outside, filepath.Join(root, "way-out")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "index.js"), filepath.Join(root, "good", "linked.js")); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(root, "big")
	if err := os.MkdirAll(big, 0o750); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Create(filepath.Join(big, "index.js")); err != nil || f.Truncate(200<<20) != nil || f.Close() != nil {
		t.Fatal(err)
	}
	many := []map[string]any{}
	for i := range 10_000 {
		many = append(many, map[string]any{"path": fmt.Sprintf("f%d.js", i), "content": "export {}"})
	}
	a := w.agent(w.serverArgs("--root", root))
	for name, c := range map[string]struct {
		args map[string]any
		code string
		want string
	}{
		"nothing":             {map[string]any{}, "no_source", "files"},
		"two sources":         {map[string]any{"files": says("x"), "project_dir": root}, "two_sources", "project_dir"},
		"source and bundle":   {map[string]any{"files": says("x"), "bundle_id": "b_1"}, "two_sources", "bundle_id"},
		"no entry":            {map[string]any{"project_dir": filepath.Join(root, "empty")}, "no_entry", ""},
		"syntax":              {map[string]any{"files": files("src/index.ts", "export default {\n  fetch( {")}, "build_failed", "src/index.ts"},
		"many files":          {map[string]any{"files": many}, "too_many_files", ""},
		"large file":          {map[string]any{"project_dir": big}, "too_large", ""},
		"dot dot":             {map[string]any{"files": files("../x.js", "export default {}")}, "path_invalid", "../x.js"},
		"absolute":            {map[string]any{"files": files("/x.js", "export default {}")}, "path_invalid", "/x.js"},
		"out of the root":     {map[string]any{"project_dir": outside}, "root_not_allowed", "--root"},
		"by a link":           {map[string]any{"project_dir": filepath.Join(root, "way-out")}, "root_not_allowed", ""},
		"a link inside":       {map[string]any{"project_dir": filepath.Join(root, "good"), "entry": "linked.js"}, "", "linked.js"},
		"a name":              {map[string]any{"files": says("x"), "name": "Not_A_Name!"}, "name_invalid", "Not_A_Name!"},
		"a long name":         {map[string]any{"files": says("x"), "name": strings.Repeat("a", 64)}, "name_invalid", ""},
		"an unknown session":  {map[string]any{"files": says("x"), "session_id": "s_nobody"}, "session_not_found", "s_nobody"},
		"an unknown bundle":   {map[string]any{"bundle_id": "b_nothing"}, "bundle_not_found", ""},
		"an unknown argument": {map[string]any{"files": says("x"), "projectdir": "."}, "unknown_argument", "project_dir"},
		"a bad expectation":   {map[string]any{"files": says("x"), "expect": map[string]any{"path": "x"}}, "invalid_argument", "expect.path"},
		"a start error":       {map[string]any{"files": files("index.js", "throw new Error('early'); export default {};")}, "start_failed", "early"},
	} {
		t.Run(name, func(t *testing.T) {
			out := a.call("deploy_temporary", c.args)
			if !out.IsError || c.code != "" && out.Error.Code != c.code || !strings.Contains(out.Text, c.want) || out.Error.Next == "" {
				t.Errorf("%s", out.Text)
			}
			if strings.Contains(out.Text, "goroutine") || len(out.Text) > 4000 {
				t.Errorf("not for an agent: %s", out.Text)
			}
		})
	}
	if n := len(w.accounts()); n != 0 {
		t.Errorf("%d accounts were spent", n)
	}
	if d := a.deploy(map[string]any{"project_dir": filepath.Join(root, "good"), "entry": "index.js"}); d.Account != "new" {
		t.Errorf("after all that: %+v", d)
	}
}

// TestBadAPIs: an API that is not there, one that answers HTML, one that asks too much.
func TestBadAPIs(t *testing.T) {
	w := newWorld(t)
	html := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = rw.Write([]byte("<html>a captive portal</html>"))
	}))
	defer html.Close()
	w.manage(http.MethodPut, "/challenge", `{"k":65000,"g":1000}`, nil)
	for name, c := range map[string]struct{ api, code string }{
		"not there": {"http://127.0.0.1:1/client/v4", "api_unreachable"},
		"HTML":      {html.URL + "/client/v4", "api_bad_response"},
		"too hard":  {w.API, "challenge_too_hard"},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.agent([]string{"stdio", "--api-base-url", c.api, "--state-dir", t.TempDir()})
			out := a.call("deploy_temporary", map[string]any{"files": says("x")})
			if out.Error.Code != c.code || out.Error.Next == "" {
				t.Errorf("%s", out.Text)
			}
		})
	}
	if len(w.accounts()) != 0 {
		t.Error("an account was made")
	}
}

// TestReadOnlyAndTerms: what the operator or the user has not allowed is refused.
func TestReadOnlyAndTerms(t *testing.T) {
	w := newWorld(t)
	a := w.agent(w.serverArgs("--read-only"))
	if out := a.call("deploy_temporary", map[string]any{"files": says("x")}); out.Error.Code != "read_only" {
		t.Errorf("%s", out.Text)
	}
	if out := a.call("bundle", map[string]any{"files": says("x")}); out.IsError {
		t.Errorf("bundle must go on: %s", out.Text)
	}
	b := w.agent([]string{"stdio", "--api-base-url", "https://api.invalid/client/v4", "--state-dir", t.TempDir()})
	out := b.call("deploy_temporary", map[string]any{"files": says("x")})
	if out.Error.Code != "terms_not_accepted" || !strings.Contains(out.Error.Next, "setup") {
		t.Errorf("%s", out.Text)
	}
}

func TestDeployCommand(t *testing.T) {
	w := newWorld(t)
	dir := w.write("src/index.ts", `export default { fetch: (r: Request) => new Response("cli " + new URL(r.url).pathname, { status: new URL(r.url).pathname === "/bad" ? 418 : 200 }) };`)
	common := []string{"--api-base-url", w.API, "--edge-url", w.Edge, "--state-dir", filepath.Join(w.home, "state")}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"live":              {[]string{"deploy", dir, "--json", "--name", "cli"}, 0, `"serving":"yes"`},
		"expectation":       {[]string{"deploy", dir, "--json", "--name", "cli", "--expect-path", "/bad", "--expect-status", "200"}, 3, `"ok":false`},
		"refused":           {[]string{"deploy", w.write("readme.txt", "x"), "--json"}, 2, `"code":"no_entry"`},
		"bad flag":          {[]string{"deploy", dir, "--nope"}, 2, ""},
		"embedded sandbox":  {[]string{"deploy", dir, "--platform", "sandbox", "--api-base-url", ""}, 2, ""},
		"status":            {[]string{"status", "--json"}, 0, `"sessions"`},
		"an unknown status": {[]string{"status", "--json", "--session", "s_x"}, 2, `"session_not_found"`},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := w.run(w.home, append(append([]string{}, common...), c.args...)...)
			if code != c.code || !strings.Contains(stdout, c.want) {
				t.Errorf("code %d, want %d\n%s\n%s", code, c.code, stdout, stderr)
			}
			if c.want != "" && !json.Valid([]byte(stdout)) {
				t.Errorf("not one JSON object: %s", stdout)
			}
		})
	}
	_, stderr, code := w.run(w.home, "deploy", dir, "--api-base-url", "http://127.0.0.1:1/client/v4", "--state-dir", t.TempDir())
	if code != 1 || !strings.Contains(stderr, "api_unreachable") {
		t.Errorf("an API that is not there: %d %s", code, stderr)
	}
}

// TestStdoutCarriesTheProtocolAlone, also when what comes in is not the protocol.
func TestStdoutCarriesTheProtocolAlone(t *testing.T) {
	w := newWorld(t)
	cmd := exec.Command(program, w.serverArgs("--log-level", "debug")...) //nolint:gosec // our own program
	cmd.Env, cmd.Dir = w.cleanEnv("CLOUDFLARE_API_TOKEN=x"), w.home
	huge := `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"bundle","arguments":{"entry":"` + strings.Repeat("x", 17<<20) + `"}}}`
	cmd.Stdin = strings.NewReader(strings.Join([]string{
		`not json`,
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		huge,
		`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`, "",
	}, "\n"))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		var m struct {
			JSONRPC string `json:"jsonrpc"`
			ID      any
			Error   *struct{ Message string }
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != "2.0" {
			t.Errorf("not the protocol: %.200q", line)
		}
		ids[fmt.Sprint(m.ID)] = m.Error != nil
	}
	if failed, ok := ids["2"]; !ok || failed {
		t.Error("tools/list was not answered after an oversized line")
	}
	if failed, ok := ids["7"]; (!ok || !failed) && !ids["<nil>"] {
		t.Errorf("the oversized line was not refused: %v", ids)
	}
}

// TestDoctor: what is missing is told; --live goes the whole way, and never in CI on a
// real API.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	state := filepath.Join(w.home, "state")
	stdout, stderr, code := w.run(w.home, "doctor", "--json", "--api-base-url", w.API, "--state-dir", state)
	var rep struct {
		OK       bool
		Findings []struct{ What, Level, Detail string }
	}
	if err := json.Unmarshal([]byte(stdout), &rep); err != nil || code != 0 || !rep.OK || len(rep.Findings) < 6 {
		t.Errorf("doctor: %d %v\n%s\n%s", code, err, stdout, stderr)
	}
	if _, _, code := w.run(w.home, "doctor", "--api-base-url", "http://127.0.0.1:1/client/v4", "--state-dir", state); code != 1 {
		t.Errorf("doctor without an API: %d", code)
	}
	stdout, stderr, code = w.run(w.home, "doctor", "--live", "--json", "--api-base-url", w.API, "--edge-url", w.Edge, "--state-dir", state)
	var live struct {
		Facts  int
		Differ []string
	}
	if err := json.Unmarshal([]byte(stdout), &live); err != nil || code != 0 || live.Facts < 12 {
		t.Fatalf("doctor --live: %d %v\n%s\n%s", code, err, stdout, stderr)
	}
	for _, d := range live.Differ { // the sandbox differs in these by design
		if !strings.HasPrefix(d, "the claim link") && !strings.HasPrefix(d, "a new route") && !strings.HasPrefix(d, "the challenge") {
			t.Errorf("the sandbox differs from the sheet: %s", d)
		}
	}
	if acct := w.accounts()[0]; strings.Contains(stdout+stderr, acct.APIToken) || strings.Contains(stdout+stderr, acct.ClaimToken) {
		t.Error("a secret was printed")
	}
	cmd := exec.Command(program, "doctor", "--live", "--accept-terms", "--api-base-url", "https://api.invalid/client/v4", "--state-dir", state) //nolint:gosec // our own program
	cmd.Env = w.cleanEnv("CI=true")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "not for CI") {
		t.Errorf("in CI: %v %s", err, out)
	}
}

// TestSetupWantsAHuman: an agent can't accept the terms for the user.
func TestSetupWantsAHuman(t *testing.T) {
	w := &world{t: t, home: t.TempDir(), cache: t.TempDir()}
	if _, stderr, code := w.run(w.home, "setup"); code != 1 || !strings.Contains(stderr, "terminal") {
		t.Errorf("setup without a terminal: %d %s", code, stderr)
	}
}
