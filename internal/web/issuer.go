package web

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// Kind is what sort of issuer makes a token.
type Kind string

// The kinds of issuers.
const (
	// KindOAuth makes access tokens for people and programs; scopes are in the token.
	KindOAuth Kind = "oauth"
	// KindGitHub and KindGitLab make identities for CI jobs; scopes are the operator's.
	KindGitHub Kind = "github-actions"
	KindGitLab Kind = "gitlab-ci"
)

// IssuerConfig is one issuer whose tokens are accepted.
type IssuerConfig struct {
	// Name is the first part of the principals that it vouches for, e.g. "corp".
	Name string `json:"name"`
	// Issuer is its identifier, the iss of its tokens: an https address.
	Issuer string `json:"issuer"`
	// Kind says how its tokens are read. Default oauth.
	Kind Kind `json:"kind"`
	// Audience is what aud must hold. Default: this server's resource, its address with
	// the path of MCP. A CI asks for a token with the audience that it is told.
	Audience string `json:"audience"`
	// Types are the accepted typ headers. Default: at+jwt for oauth (RFC 9068), JWT for a CI.
	Types []string `json:"types"`
	// Scopes are what its tokens allow: for a CI all of them, for oauth the most that a
	// token may bring. Default for a CI: deploy.
	Scopes []deploy.Scope `json:"scopes"`
	// ScopePrefix stands before our scopes in its tokens, e.g. "hourglass:".
	ScopePrefix string `json:"scope_prefix"`
	// Require are claims that a token must have, each with one of the values. A CI that
	// serves everybody must be bound to an owner or a repository in this way.
	Require map[string]OneOf `json:"require"`
	// Labels names claims that become trusted labels: label to claim. A CI's are known.
	Labels map[string]string `json:"labels"`
}

// OneOf is one value or a list of them.
type OneOf []string

// UnmarshalJSON reads either.
func (o *OneOf) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*o = OneOf{one}
		return nil
	}
	var all []string
	if err := json.Unmarshal(raw, &all); err != nil {
		return errors.New("a required claim is a text or a list of texts")
	}
	*o = all
	return nil
}

// knownCI is what a CI's tokens say, by its documentation: which claims bind a token to
// an owner (GitHub: "About security hardening with OpenID Connect"; GitLab: "OpenID
// Connect ID tokens"), and which are worth a label.
func knownCI(k Kind) (bounds []string, labels map[string]string) {
	switch k {
	case KindGitHub:
		return []string{"repository_owner", "repository_owner_id", "repository", "repository_id"}, map[string]string{
			"repository": "repository", "ref": "ref", "sha": "sha", "run_id": "run_id", "run_attempt": "run_attempt",
			"workflow": "workflow", "event": "event_name", "actor": "actor", "environment": "environment",
		}
	case KindGitLab:
		return []string{"namespace_path", "namespace_id", "project_path", "project_id"}, map[string]string{
			"repository": "project_path", "ref": "ref", "sha": "sha", "run_id": "pipeline_id", "job_id": "job_id",
			"event": "pipeline_source", "actor": "user_login", "environment": "environment",
		}
	case KindOAuth:
	}
	return nil, nil
}

// publicCI tells the kind of an issuer that gives tokens to everybody's jobs.
func publicCI(host string) Kind {
	switch host {
	case "token.actions.githubusercontent.com":
		return KindGitHub
	case "gitlab.com":
		return KindGitLab
	}
	return ""
}

// issuer is one issuer, with the keys that it is known to have.
type issuer struct {
	IssuerConfig
	keys     *keys
	now      func() time.Time
	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

func newIssuer(c IssuerConfig, client *http.Client, now func() time.Time) (*issuer, error) {
	fail := func(format string, args ...any) (*issuer, error) {
		return nil, fmt.Errorf("the issuer %s: %s", stringOr(c.Name, c.Issuer), fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || !fetchable(u) || u.RawQuery != "" || u.Fragment != "":
		return fail("%q is not an https address", c.Issuer)
	case !tokenName.MatchString(c.Name) || c.Name == "token" || c.Name == "local":
		return fail("its name is up to 64 letters, digits and . _ @ -, and neither token nor local")
	}
	if c.Kind == "" {
		c.Kind = KindOAuth
	}
	if public := publicCI(u.Hostname()); public != "" && c.Kind != public {
		return fail("it gives tokens to everybody's CI jobs: its kind is %s, with a required owner", public)
	}
	if err := c.complete(); err != nil {
		return fail("%s", err)
	}
	return &issuer{IssuerConfig: c, keys: newKeys(c.Issuer, client, now), now: now}, nil
}

// complete fills in what the kind says, and refuses what would let strangers in.
func (c *IssuerConfig) complete() error {
	bounds, labels := knownCI(c.Kind)
	switch c.Kind {
	case KindOAuth:
		if len(c.Scopes) == 0 {
			c.Scopes = deploy.Scopes()
		}
		if len(c.Types) == 0 {
			c.Types = []string{"at+jwt"}
		}
	case KindGitHub, KindGitLab:
		if !slices.ContainsFunc(bounds, func(b string) bool { return len(c.Require[b]) > 0 }) {
			return fmt.Errorf("without a required claim every job of that CI would be let in: require one of %s", strings.Join(bounds, ", "))
		}
		if len(c.Scopes) == 0 {
			c.Scopes = []deploy.Scope{deploy.ScopeDeploy}
		}
		if slices.Contains(c.Scopes, deploy.ScopeApprove) {
			return errors.New("a CI job is no human: it can't have the scope approve")
		}
		if len(c.Types) == 0 {
			c.Types = []string{"JWT"}
		}
	default:
		return fmt.Errorf("there is no kind %q; there are oauth, github-actions and gitlab-ci", c.Kind)
	}
	if c.Labels == nil {
		c.Labels = labels
	}
	for _, s := range c.Scopes {
		if !slices.Contains(deploy.Scopes(), s) {
			return fmt.Errorf("there is no scope %q; there are %v", s, deploy.Scopes())
		}
	}
	for claim, values := range c.Require {
		if len(values) == 0 || slices.Contains(values, "") {
			return fmt.Errorf("the required claim %s has no value", claim)
		}
	}
	return nil
}

// fetchable tells whether an address may be asked for keys: https, or this machine.
func fetchable(u *url.URL) bool {
	return u.Host != "" && u.User == nil && (u.Scheme == "https" || u.Scheme == "http" && loopbackName(u.Hostname()))
}

// bind says for which resource its tokens have to be made, where the operator did not.
func (i *issuer) bind(resource string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.verifier = oidc.NewVerifier(i.Issuer, i.keys, &oidc.Config{
		ClientID: stringOr(i.Audience, resource), SupportedSigningAlgs: algorithms(), Now: i.now,
	})
}

// algorithms are the signatures that are accepted: those that only the issuer can make.
// None and the HMACs are not among them.
func algorithms() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
}

// tokenHead is what is looked at before anything is verified, to find out how to verify.
type tokenHead struct {
	Type   string
	Issuer string
}

// peekClaims reads a JWT's type and issuer. Nothing that it gives may be trusted yet. Its
// error is a *denial.
func peekClaims(token string) (*tokenHead, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, &denial{text: "the token is not known"}
	}
	var header struct {
		Type string `json:"typ"`
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	for i, into := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			return nil, &denial{text: "the token is not known"}
		}
	}
	return &tokenHead{Type: header.Type, Issuer: claims.Issuer}, nil
}

// identify verifies a token and finds out whom it speaks for. Its error is a *denial.
func (i *issuer) identify(ctx context.Context, token string) (*identity, error) {
	i.mu.Lock()
	verifier := i.verifier
	i.mu.Unlock()
	if verifier == nil {
		return nil, errors.New("web: no resource is bound")
	}
	head, err := peekClaims(token)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(i.Types, func(t string) bool { return sameType(t, head.Type) }) {
		return nil, &denial{text: "the token is not an access token: its typ is not one that is accepted here"}
	}
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return nil, i.why(err)
	}
	claims := map[string]any{}
	if err := verified.Claims(&claims); err != nil {
		return nil, &denial{text: "the token's claims can't be read", cause: err}
	}
	if verified.Subject == "" || len(verified.Subject) > 512 {
		return nil, &denial{text: "the token names no subject"}
	}
	for claim, values := range i.Require {
		if got, ok := text(claims[claim]); !ok || !slices.Contains(values, got) {
			return nil, &denial{text: "the token's claim " + claim + " is not one that is accepted here"}
		}
	}
	caller := deploy.Caller{Principal: i.Name + ":" + verified.Subject, Labels: map[string]string{}, Scopes: i.scopesOf(claims)}
	for name, claim := range i.Labels {
		if v, ok := text(claims[claim]); ok && v != "" {
			caller.Labels[name] = label(v)
		}
	}
	return &identity{caller: caller, expires: verified.Expiry}, nil
}

// sameType compares media types as RFC 7515 section 4.1.9 has it: without regard to
// case, and with "application/" left out or not.
func sameType(a, b string) bool {
	strip := func(s string) string { return strings.TrimPrefix(strings.ToLower(s), "application/") }
	return strip(a) == strip(b)
}

// why turns what the library says into a denial in our words.
func (i *issuer) why(err error) error {
	if _, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return &denial{text: "the token has expired"}
	}
	if f, ok := errors.AsType[*fetchError](i.keys.lastFailure(err)); ok {
		return &denial{text: "the token's issuer can't be asked for its keys now", cause: f, later: true}
	}
	if strings.Contains(err.Error(), "expected audience") {
		return &denial{text: "the token was made for another audience", cause: err}
	}
	return &denial{text: "the token is not valid", cause: err}
}

// scopesOf are the scopes that a token brings: scope is a text (RFC 9068), some issuers
// have a list in scp.
func (i *issuer) scopesOf(claims map[string]any) []deploy.Scope {
	if i.Kind != KindOAuth {
		return slices.Clone(i.Scopes)
	}
	var brought []string
	for _, name := range []string{"scope", "scp"} {
		switch v := claims[name].(type) {
		case string:
			brought = append(brought, strings.Fields(v)...)
		case []any:
			for _, one := range v {
				if s, ok := one.(string); ok {
					brought = append(brought, s)
				}
			}
		}
	}
	out := []deploy.Scope{}
	for _, s := range i.Scopes {
		if slices.Contains(brought, i.ScopePrefix+string(s)) {
			out = append(out, s)
		}
	}
	return out
}

// text is a claim of one value as text; others have none.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	}
	return "", false
}
