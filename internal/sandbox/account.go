package sandbox

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// lifetime of a temporary account (wrangler-wire fact sheet, section 21).
const lifetime = time.Hour

// account is a temporary account and everything on it.
type account struct {
	s          *Sandbox
	id         string
	name       string
	subdomain  string
	token      string
	tokenID    string
	claimToken string
	createdAt  time.Time
	expiresAt  time.Time

	// Under Sandbox.mu.
	claimed bool
	ended   bool
	locked  bool // its token works no more

	// deploying serialises everything that changes what runs.
	deploying sync.Mutex

	mu      sync.Mutex
	scripts map[string]*script
	blobs   map[string]blob // assets by hash
	runtime runtime
	// Resources; their contents are in stores and queues.
	namespaces []*namespace
	databases  []*database
	queueList  []*queue
	events     bool // somebody may have to be sent events

	stores stores
	queues queueProcess
}

// expired tells whether the hour is over; of a claimed account it never is. The
// caller holds Sandbox.mu.
func (a *account) expired(now time.Time) bool { return !a.claimed && !now.Before(a.expiresAt) }

// over is expired for callers that hold nothing.
func (a *account) over() bool {
	now := a.s.clock.Now()
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	return a.expired(now)
}

// end ends everything that runs for the account.
func (a *account) end() {
	a.deploying.Lock()
	defer a.deploying.Unlock()
	a.mu.Lock()
	a.runtime.closed = true
	var tails []*tail
	for _, sc := range a.scripts {
		for _, t := range sc.tails {
			tails = append(tails, t)
		}
	}
	a.mu.Unlock()
	for _, t := range tails {
		t.close()
	}
	a.stopRuntime()
	a.closeStores()
}

// words make up the names of accounts, as live names are two words.
func words() (first, second []string) {
	return strings.Fields("Amber Ancient Bold Brisk Bronze Calm Coral Crimson Dapper Distant Eager Early Fleet Gentle Golden Grand Hidden Humble Ivory Jolly Keen Kind Lively Lucid Mellow Misty Nimble Noble Olive Patient Quiet Rapid Rustic Silent Silver Snowy Solar Steady Swift Tidal Tranquil Velvet Vivid Warm Wild Windy Young Zesty"),
		strings.Fields("Anchor Baker Beacon Brook Builder Canyon Captain Carver Cedar Comet Cooper Creek Dancer Delta Drummer Falcon Farmer Fiddler Forest Garden Glacier Harbor Heron Island Jester Keeper Lantern Lark Maker Meadow Miller Mountain Otter Painter Piper Pilot Planet Poet Ranger River Sailor Scribe Singer Spruce Summit Tailor Valley Weaver Willow Writer")
}

func pick(list []string) string {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(list))))
	if err != nil {
		panic("sandbox: no randomness: " + err.Error()) // crypto/rand never fails on a running system
	}
	return list[n.Int64()]
}

// randomHex gives 2n hex digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// randomText gives n characters of base64url.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

// newAccount makes an account; the caller holds Sandbox.mu.
func (s *Sandbox) newAccount() *account {
	now := s.clock.Now().UTC()
	a := &account{
		s: s, id: randomHex(16), token: randomText(53), tokenID: randomHex(16), claimToken: randomText(43),
		createdAt: now, expiresAt: now.Add(lifetime), scripts: map[string]*script{}, blobs: map[string]blob{},
	}
	first, second := words()
	for a.subdomain == "" || s.bySub[a.subdomain] != nil {
		a.name = pick(first) + " " + pick(second)
		a.subdomain = strings.ToLower(strings.ReplaceAll(a.name, " ", "-"))
		if s.bySub[a.subdomain] != nil && len(s.bySub) > 500 {
			a.subdomain += "-" + randomHex(2)
		}
	}
	s.accounts[a.id], s.byToken[a.token], s.byClaim[a.claimToken], s.bySub[a.subdomain] = a, a, a, a
	return a
}

func (a *account) view() map[string]any {
	return map[string]any{"id": a.id, "name": a.name, "type": "standard", "created_on": stamp(a.createdAt), "settings": map[string]any{}}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func getUser(c *call) (answer, error) {
	return answer{result: map[string]any{"id": c.acct.tokenID, "email": "", "username": "temporary"}}, nil
}

func getAccounts(c *call) (answer, error) {
	return answer{result: []any{c.acct.view()}, info: &info{1, 20, 1, 1, 1}}, nil
}

func getMemberships(c *call) (answer, error) {
	return answer{result: []any{map[string]any{"id": c.acct.tokenID, "account": c.acct.view(), "roles": []string{}}}, info: &info{1, 20, 1, 1, 1}}, nil
}

func getAccount(c *call) (answer, error) { return answer{result: c.acct.view()}, nil }

func getSubdomain(c *call) (answer, error) {
	return answer{result: map[string]any{"subdomain": c.acct.subdomain}}, nil
}

// claimAccount makes the account a human's: it lives on, and its temporary token
// works no more.
func (s *Sandbox) claimAccount(a *account) *apiError {
	now := s.clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case a.expired(now):
		return refuse(http.StatusGone, 10000, "the account's hour is over")
	case a.claimed:
		return refuse(http.StatusConflict, 10000, "the account was claimed already")
	}
	a.claimed = true
	return nil
}
