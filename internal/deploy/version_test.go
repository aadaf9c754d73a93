package deploy_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The old version goes on serving for 5 s: it is never taken for the new one.
func TestTheOldVersionIsNotTakenForTheNewOne(t *testing.T) {
	expect := func(text string) *deploy.Expect { return &deploy.Expect{BodyContains: text} }
	for name, c := range map[string]struct {
		tail, versions bool
		expect         *deploy.Expect
		body           string // what the check shows
		confirmed      bool
		waits          bool // until the new version serves
	}{
		"the tail names versions":                    {tail: true, versions: true, body: "two", confirmed: true, waits: true},
		"the tail names none, nothing expected":      {tail: true, body: "one"},
		"no tail, nothing expected":                  {body: "one"},
		"no tail, an expectation the old missed":     {expect: expect("two"), body: "two", confirmed: true, waits: true},
		"no tail, an expectation both meet":          {expect: &deploy.Expect{Status: 200}, body: "one"},
		"a tail, an expectation both meet":           {tail: true, versions: true, expect: &deploy.Expect{Status: 200}, body: "two", confirmed: true, waits: true},
		"a nameless tail, the old one missed":        {tail: true, expect: expect("two"), body: "two", confirmed: true, waits: true},
		"no tail, an expectation neither ever meets": {expect: expect("three"), body: "two"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.tail, w.tailVersions = c.tail, c.versions
				s := w.service()
				must(t, s, worker("200 one"))
				w.lag = 5 * time.Second
				began := time.Now()
				req := worker("200 two")
				req.Expect = c.expect
				res := must(t, s, req)
				took := time.Since(began)
				if res.Check.BodyExcerpt != c.body {
					t.Errorf("the check shows %q, want %q", res.Check.BodyExcerpt, c.body)
				}
				if got := res.Check.Version == deploy.VersionConfirmed; got != c.confirmed {
					t.Errorf("confirmed %v (%s), want %v", got, res.Check.Evidence, c.confirmed)
				}
				if (res.Check.Evidence != "") != c.confirmed {
					t.Errorf("evidence %q", res.Check.Evidence)
				}
				if c.waits && (took < 5*time.Second || took > 8*time.Second) {
					t.Errorf("it took %v; the new version serves after 5 s", took)
				}
			})
		})
	}
}

// A version that never comes within the wait is told as such, and the old one's good
// answer is not counted as its own.
func TestAVersionThatDoesNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.lag = time.Hour
		began := time.Now()
		res := must(t, s, worker("200 two"))
		if took := time.Since(began); took < 24*time.Second || took > 35*time.Second {
			t.Errorf("it waited %v", took)
		}
		c := res.Check
		if res.Serving != deploy.ServingNotYet || c.OK || c.Version != deploy.VersionUnconfirmed || !strings.Contains(c.Error, "version before") {
			t.Errorf("serving %s, check %+v", res.Serving, c)
		}
		if res.Next.Tool != "status" {
			t.Errorf("next: %+v", res.Next)
		}
		// Asked again once it serves, nothing is uploaded and it is confirmed.
		w.lag = 0
		w.set(func() {
			for _, a := range w.accounts {
				a.workers["hello"].versions[1].from = time.Now()
			}
		})
		again := must(t, s, worker("200 two"))
		if again.Changed || again.Check.Version != deploy.VersionConfirmed || again.Check.BodyExcerpt != "two" || w.uploads != 2 {
			t.Errorf("again: %+v %+v", again, again.Check)
		}
	})
}

// What served before the last unconfirmed version may be older still: that it missed
// the expectation says nothing of the one in between.
func TestAnUnconfirmedPredecessorProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tail = false
		s := w.service()
		must(t, s, worker("200 one"))
		w.lag = 4 * time.Second
		must(t, s, worker("200 two b")) // not confirmed: it comes 4 s later
		w.lag = time.Hour
		req := worker("200 three b")
		req.Expect = &deploy.Expect{BodyContains: "b"}
		res := must(t, s, req)
		if res.Check.Version == deploy.VersionConfirmed {
			t.Errorf("%q was taken for the third version: %s", res.Check.BodyExcerpt, res.Check.Evidence)
		}
	})
}

func TestARouteThatTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.routeDelay = 14 * time.Second
		s := w.service()
		began := time.Now()
		res := must(t, s, worker("200 hello"))
		if took := time.Since(began); took < 14*time.Second || took > 16*time.Second {
			t.Errorf("it took %v", took)
		}
		if res.Serving != deploy.ServingYes || !res.Check.OK {
			t.Errorf("%s, %+v", res.Serving, res.Check)
		}
		w = newWorld(t)
		w.routeDelay = time.Minute
		res = must(t, w.service(), worker("200 hello"))
		if res.Serving != deploy.ServingNotYet || res.Check.OK || res.Check.Status != http.StatusNotFound || res.Next.Tool != "status" {
			t.Errorf("%s, %+v", res.Serving, res.Check)
		}
	})
}

// A Worker that itself answers 404 is told from a missing route by the tail.
func TestAWorkersOwn404(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		began := time.Now()
		res := must(t, s, worker("path /api"))
		if time.Since(began) > 5*time.Second || res.Serving != deploy.ServingYes || res.Check.Status != 404 || res.Check.OK {
			t.Errorf("after %v: %s, %+v", time.Since(began), res.Serving, res.Check)
		}
		req := worker("path /api")
		req.Expect = &deploy.Expect{Path: "/api", Status: 200, BodyContains: "/api"}
		if res = must(t, s, req); !res.Check.OK || res.Check.Path != "/api" {
			t.Errorf("check %+v", res.Check)
		}
	})
}

func TestExceptionsReachTheAgentWithTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tailDelay = 300 * time.Millisecond
		s := w.service()
		// Line 2, column 9 of the module stems from src/app.ts, line 11, column 3.
		m := newMap("src/app.ts", "node_modules/lib/x.js")
		m.add(1, 0, 0, 0, 0)
		m.add(2, 4, 0, 10, 2)
		req := deploy.DeployRequest{Source: deploy.Source{Files: []deploy.File{
			{Path: "index.js", Content: []byte("throw kaput")}, {Path: "index.js.map", Content: m.json()},
		}}}
		res := must(t, s, req)
		c := res.Check
		if c.Status != 500 || c.OK || c.Error != "Error: kaput" || c.At != "src/app.ts:11:3" || res.Serving != deploy.ServingYes {
			t.Errorf("serving %s, check %+v", res.Serving, c)
		}
		if c.Version != deploy.VersionConfirmed || res.Next.Tool != "deploy_temporary" || res.Next.Args["session_id"] != res.SessionID {
			t.Errorf("check %+v, next %+v", c, res.Next)
		}
		if fixed := must(t, s, worker("200 fixed")); !fixed.Check.OK || fixed.Check.Error != "" {
			t.Errorf("fixed: %+v", fixed.Check)
		}
	})
}

func TestFailuresWithoutAnException(t *testing.T) {
	for code, c := range map[string]struct {
		tail  bool
		wants string
	}{
		"exit 503": {true, "exceededCpu"},
		"exit 502": {false, "HTTP 502"},
		"throw x":  {false, "HTTP 500"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.tail = c.tail
			res := must(t, w.service(), worker(code))
			if !strings.Contains(res.Check.Error, c.wants) || res.Check.OK {
				t.Errorf("%s: %+v", code, res.Check)
			}
		})
	}
}

func TestAnEdgeThatCantBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.onFetch = func(int) error { return errors.New("dial tcp: secret detail") }
		res := must(t, w.service(), worker("200 hello"))
		if res.Serving != deploy.ServingNotYet || res.Check.Error == "" || strings.Contains(res.Check.Error, "secret detail") {
			t.Errorf("%s, %+v", res.Serving, res.Check)
		}
		w = newWorld(t)
		w.onFetch = func(n int) error {
			if n < 5 {
				return errors.New("not yet")
			}
			return nil
		}
		if res = must(t, w.service(), worker("200 hello")); res.Serving != deploy.ServingYes || !res.Check.OK {
			t.Errorf("%s, %+v", res.Serving, res.Check)
		}
	})
}

func TestBodyExcerpts(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		good func(string) bool
	}{
		"long":              {strings.Repeat("é", 1000), func(s string) bool { return len(s) <= 400+len("…") && strings.HasSuffix(s, "é…") }},
		"binary":            {"a\x00b", func(s string) bool { return s == "(3 bytes of text/plain)" }},
		"not UTF-8":         {"a\xffb and more", func(s string) bool { return s == "(12 bytes of text/plain)" }},
		"cut inside a rune": {"héllo\xc3", func(s string) bool { return strings.HasPrefix(s, "héllo") && !strings.Contains(s, "\xc3\xef") }},
		"empty":             {"", func(s string) bool { return s == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				res := must(t, newWorld(t).service(), worker("200 "+c.body))
				if got := res.Check.BodyExcerpt; !c.good(got) {
					t.Errorf("excerpt %q", got)
				}
			})
		})
	}
}

// A secret that lies across the place where an excerpt is cut leaves no half.
func TestNoHalfSecretInAnExcerpt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		const secret = "cf-secret-0123456789-abcdefghij"
		s.Redactor().Add(secret)
		res := must(t, s, worker("200 "+strings.Repeat(".", 390)+secret))
		if strings.Contains(res.Check.BodyExcerpt, secret[:8]) {
			t.Errorf("excerpt %q", res.Check.BodyExcerpt)
		}
		res = must(t, s, worker("throw "+strings.Repeat(".", 385)+secret))
		if strings.Contains(res.Check.Error, secret[:8]) {
			t.Errorf("error %q", res.Check.Error)
		}
	})
}

// Visitors can send the probe header; what they make up is neither taken for evidence
// nor does it crowd out ours.
func TestVisitorsForgeNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.service()
		must(t, s, worker("200 one"))
		w.lag = time.Second
		w.onFetch = func(int) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			for i := range 300 {
				w.tails[len(w.tails)-1].events <- deploy.TraceEvent{ProbeID: strings.Repeat("p", i), VersionID: "version-2"}
			}
			return nil
		}
		res := must(t, s, worker("200 two"))
		if res.Check.BodyExcerpt != "two" || res.Check.Version != deploy.VersionConfirmed {
			t.Errorf("check %+v", res.Check)
		}
	})
}

// A tail that ends in the middle is evidence lost, nothing more.
func TestATailThatBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.tailVersions = false
		s := w.service()
		must(t, s, worker("200 one"))
		w.onFetch = func(int) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			if last := w.tails[len(w.tails)-1]; last.host != "" {
				last.host = ""
				close(last.events)
			}
			return nil
		}
		if res := must(t, s, worker("200 two")); res.Serving != deploy.ServingYes || res.Check.Version != deploy.VersionUnconfirmed {
			t.Errorf("%+v", res.Check)
		}
	})
}
