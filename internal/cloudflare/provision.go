package cloudflare

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/cloudflare/pow"
	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// The two calls that know no account yet (section 3).
const (
	pathChallenge = "/provisioning/previews/challenge"
	pathCreate    = "/provisioning/previews"
)

const (
	termsURL   = "https://www.cloudflare.com/terms/"
	privacyURL = "https://www.cloudflare.com/privacypolicy/"
	// createGrace is how long the creating request may still run once nobody waits for
	// it: broken off, it may have made an account that then nobody knows.
	createGrace = 5 * time.Second
)

// challenge is what has to be solved.
type challenge struct {
	token string
	seed  []byte
	k, g  int
}

// Provision makes an account: it asks for a challenge, solves it and hands it in,
// with the terms accepted; whoever calls has made sure that a human did. stage may be
// nil. The creating request is never repeated, and is not sent where the journal
// refuses it. A context that ends during it lets it finish, so that no account is made
// and lost: the grant is then returned all the same, and so it is, beside the error,
// where the step can't be settled.
func (c *Client) Provision(ctx context.Context, stage func(deploy.Stage)) (*deploy.Grant, error) {
	if stage == nil {
		stage = func(deploy.Stage) {}
	}
	stage(deploy.StageChallenge)
	ch, err := c.challenge(ctx)
	if err != nil {
		return nil, err
	}
	stage(deploy.StageProof)
	proof, err := pow.Solve(ctx, ch.seed, ch.k, ch.g)
	if err != nil {
		return nil, deploy.AsError(err)
	}
	stage(deploy.StageAccount)
	if err := ctx.Err(); err != nil {
		return nil, deploy.AsError(err)
	}
	acct, err := step(ctx, c, deploy.StepCreateAccount, "temporary account", func() (*deploy.Account, string, error) {
		acct, err := c.create(ctx, ch.token, proof)
		if err != nil {
			return nil, "", err
		}
		return acct, acct.ID, nil
	})
	if acct == nil {
		return nil, err
	}
	return &deploy.Grant{Account: *acct, Difficulty: int64(ch.k) * int64(ch.g)}, err
}

func (c *Client) challenge(ctx context.Context) (*challenge, error) {
	const doing = "asking for a proof-of-work challenge"
	result, err := c.provisioning(ctx, c.reading(doing), pathChallenge, struct{}{})
	if err != nil {
		return nil, err
	}
	return parseChallenge(result, doing)
}

// parseChallenge reads a challenge and refuses one that is malformed or too hard.
func parseChallenge(result []byte, doing string) (*challenge, error) {
	var in struct {
		Token string          `json:"challengeToken"`
		Seed  string          `json:"seed"`
		K     json.RawMessage `json:"k"`
		G     json.RawMessage `json:"g"`
	}
	if json.Unmarshal(result, &in) != nil {
		return nil, missing(doing, "the challenge")
	}
	if in.Token == "" {
		return nil, missing(doing, "challengeToken")
	}
	// base64url, with or without padding
	seed, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(in.Seed, "="))
	if err != nil || len(seed) != pow.Size {
		return nil, missing(doing, fmt.Sprintf("seed (base64url of %d bytes)", pow.Size))
	}
	k, err := wholeNumber(in.K)
	if errors.Is(err, strconv.ErrRange) {
		return nil, tooHard(in.K, in.G)
	} else if err != nil {
		return nil, missing(doing, "k (a whole number)")
	}
	g, err := wholeNumber(in.G)
	if errors.Is(err, strconv.ErrRange) {
		return nil, tooHard(in.K, in.G)
	} else if err != nil {
		return nil, missing(doing, "g (a whole number)")
	}
	switch err := pow.Check(seed, k, g); {
	case errors.Is(err, pow.ErrTooHard):
		return nil, tooHard(in.K, in.G).Caused(err)
	case err != nil:
		return nil, missing(doing, "k or g (at least 1)").Caused(err)
	}
	return &challenge{in.Token, seed, k, g}, nil
}

// wholeNumber takes what JSON and Go both call an integer: no fraction, no exponent,
// no string.
func wholeNumber(raw json.RawMessage) (int, error) {
	return strconv.Atoi(string(bytes.TrimSpace(raw)))
}

func tooHard(k, g json.RawMessage) *deploy.Error {
	return deploy.Errorf(deploy.CodeChallengeHard,
		"Wait some minutes and call deploy_temporary again: the difficulty may fall. If it stays, tell the user; nothing was spent.",
		"the API asks for more proof of work than the cap of %d hashes (k=%s, g=%s)", pow.MaxWork, cut(string(k), 20), cut(string(g), 20))
}

// created is the answer to the creating request, as section 3.3 has it.
type created struct {
	Account struct {
		ID        string `json:"id"`
		Name      string `json:"name"`
		APIToken  string `json:"apiToken"`
		ExpiresAt string `json:"expiresAt"`
	} `json:"account"`
	Claim struct {
		Token     string `json:"token"`
		URL       string `json:"url"`
		ExpiresAt string `json:"expiresAt"`
	} `json:"claim"`
	EventCodeAccepted bool `json:"eventCodeAccepted"`
}

func (c *Client) create(ctx context.Context, token string, proof []byte) (*deploy.Account, error) {
	const doing = "making a temporary account"
	type solution struct {
		Checkpoints string `json:"checkpoints"`
	}
	body := struct {
		Terms     string   `json:"termsOfService"`
		Privacy   string   `json:"privacyPolicy"`
		Accept    string   `json:"acceptTermsOfService"`
		Token     string   `json:"challengeToken"`
		Solution  solution `json:"solution"`
		EventCode string   `json:"eventCode,omitempty"`
	}{termsURL, privacyURL, "yes", token, solution{base64.StdEncoding.EncodeToString(proof)}, c.cfg.EventCode}
	ctx, done := withGrace(ctx, createGrace)
	defer done()
	result, err := c.provisioning(ctx, try{doing: doing, timeout: c.cfg.Timeout}, pathCreate, body)
	if err != nil {
		return nil, err
	}
	var in created
	decodeErr := json.Unmarshal(result, &in)
	// Whatever else is wrong with the answer, its secrets are secrets from here on.
	c.learn(in.Account.APIToken, in.Claim.Token, in.Claim.URL)
	if decodeErr != nil {
		return nil, missing(doing, "account or claim")
	}
	return c.account(&in, doing)
}

// learn registers secrets: each as it is, and a link's claim token by itself too.
func (c *Client) learn(secrets ...string) {
	for _, s := range secrets {
		if s == "" {
			continue
		}
		for _, secret := range deploy.SecretsIn(s) {
			c.cfg.Secret(secret)
		}
	}
}

// account checks the answer. An account with half of its fields is refused: it
// could be neither used nor claimed.
func (c *Client) account(in *created, doing string) (*deploy.Account, error) {
	expires, err := time.Parse(time.RFC3339, in.Account.ExpiresAt)
	if err != nil {
		return nil, missing(doing, "account.expiresAt")
	}
	claimExpires, err := time.Parse(time.RFC3339, in.Claim.ExpiresAt)
	if err != nil {
		return nil, missing(doing, "claim.expiresAt")
	}
	switch {
	case !isIdentifier(in.Account.ID):
		return nil, missing(doing, "account.id")
	case in.Account.Name == "":
		return nil, missing(doing, "account.name")
	case !bearer(in.Account.APIToken):
		return nil, missing(doing, "account.apiToken")
	case !c.claimLink(in.Claim.URL):
		return nil, missing(doing, "claim.url")
	case c.cfg.EventCode != "" && !in.EventCodeAccepted:
		return nil, deploy.Errorf(deploy.CodeAPIRefused, nextUser, "%s failed: the API did not accept the event code", doing)
	}
	return &deploy.Account{
		ID: in.Account.ID, Name: cut(clean(in.Account.Name), 200), Target: c.Target(),
		Token: deploy.Secret(in.Account.APIToken), ClaimURL: deploy.Secret(in.Claim.URL),
		CreatedAt: c.Clock(), ExpiresAt: expires.UTC(), ClaimExpiresAt: claimExpires.UTC(),
	}, nil
}

// bearer tells whether a token can stand in a header.
func bearer(token string) bool {
	if token == "" || len(token) > 4096 {
		return false
	}
	return !strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// claimLink tells whether a human's browser may be sent there.
func (c *Client) claimLink(s string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && c.loopback && isLoopback(u.Hostname())
}

// provisioning makes one of the two calls.
func (c *Client) provisioning(ctx context.Context, t try, path string, body any) (json.RawMessage, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, internal(err)
	}
	do := func(ctx context.Context) (*answer, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, bytes.NewReader(raw))
		if err != nil {
			return nil, internal(err)
		}
		// net/http repeats a POST by itself only when a kept connection turned out dead
		// before a byte of it was written, so what is repeated was never heard.
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json")
		req.Header.Set("User-Agent", c.cfg.UserAgent)
		res, err := c.http.Do(req)
		if err != nil {
			return nil, err //nolint:wrapcheck // it is worded by who knows the call
		}
		return readAnswer(res)
	}
	return c.repeating(ctx, t, func() (json.RawMessage, *failure) { return c.once(ctx, t, do, c.judgeProvisioning) })
}

// judgeProvisioning goes by HTTP status and result: the success flag is not asked for,
// as wrangler does not, but a false one counts.
func (c *Client) judgeProvisioning(a *answer, doing string) (json.RawMessage, *failure) {
	env, err := parseEnvelope(a.body)
	if err != nil || a.status >= 300 || env.Success != nil && !*env.Success {
		return nil, c.notProvisioned(c.refused(a, env, err, doing), a, doing)
	}
	if len(env.Result) == 0 {
		return nil, &failure{err: missing(doing, "result"), lost: true}
	}
	return env.Result, nil
}

// notProvisioned words refusals that mean something else here than with a token.
func (c *Client) notProvisioned(f *failure, a *answer, doing string) *failure {
	switch {
	case eventCode(f.code) && c.cfg.EventCode == "",
		f.err.Code == deploy.CodeAccountLost: // there is no account yet that could be lost
		env, _ := parseEnvelope(a.body)
		f.err = deploy.Errorf(deploy.CodeAPIRefused, nextUser, "%s failed: the API refused it (HTTP %d)%s", doing, a.status, said(env))
	case f.err.Code == deploy.CodeAPIBadResponse && a.status < 500 && a.status >= 400 && f.code == 0:
		f.err = deploy.Errorf(deploy.CodeAPIRefused, nextUser, "%s failed: HTTP %d%s, and no word from the API why", doing, a.status, kind(a))
	}
	return f
}

// withGrace gives a context that outlives its parent by d.
func withGrace(parent context.Context, d time.Duration) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	timer := time.AfterFunc(1<<62, cancel)
	stop := context.AfterFunc(parent, func() { timer.Reset(d) })
	return ctx, func() {
		stop()
		timer.Stop()
		cancel()
	}
}
