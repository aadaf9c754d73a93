package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// maxToken is the longest bearer token that is looked at, in bytes.
const maxToken = 12 << 10

// AuthConfig says which credentials are accepted; at least one kind of them.
type AuthConfig struct {
	// Tokens is the file of static tokens; nil: there are none.
	Tokens *TokenFile
	// Issuers make access tokens and CI identities.
	Issuers []IssuerConfig
	// Client asks issuers for their keys; nil: one with a time limit.
	Client *http.Client
	Now    func() time.Time
}

// Auth tells who calls by the bearer token of a request.
type Auth struct {
	tokens  *TokenFile
	issuers []*issuer
	now     func() time.Time
}

// NewAuth checks the configuration. It asks no issuer for anything yet: one that is down
// now must not keep the server from starting.
func NewAuth(cfg AuthConfig) (*Auth, error) {
	if cfg.Tokens == nil && len(cfg.Issuers) == 0 {
		return nil, errors.New("web.NewAuth: a file of tokens or an issuer is needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	a := &Auth{tokens: cfg.Tokens, now: cfg.Now}
	seen := map[string]bool{}
	for _, c := range cfg.Issuers {
		i, err := newIssuer(c, cfg.Client, cfg.Now)
		if err != nil {
			return nil, err
		}
		if seen[i.Name] || seen[i.Issuer] {
			return nil, fmt.Errorf("web: the issuer %s (%s) is named twice", i.Name, i.Issuer)
		}
		seen[i.Name], seen[i.Issuer] = true, true
		a.issuers = append(a.issuers, i)
	}
	return a, nil
}

// bind tells for which resource access tokens have to be made.
func (a *Auth) bind(resource string) {
	for _, i := range a.issuers {
		i.bind(resource)
	}
}

// denial says why a credential is not accepted, in words for the client's operator.
type denial struct {
	text  string
	cause error // for the log
	// missing: there was none.
	missing bool
	// later: the issuer could not be asked.
	later bool
}

func (d *denial) Error() string { return d.text }
func (d *denial) Unwrap() error { return d.cause }

// identify finds out who a request speaks for. Its error is a *denial.
func (a *Auth) identify(ctx context.Context, r *http.Request) (*identity, error) {
	token, err := bearer(r)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(token, tokenPrefix) {
		if a.tokens == nil {
			return nil, &denial{text: "the token is not known"}
		}
		return a.tokens.identify(token, a.now())
	}
	claims, err := peekClaims(token)
	if err != nil {
		return nil, err
	}
	for _, i := range a.issuers {
		if i.Issuer == claims.Issuer {
			return i.identify(ctx, token)
		}
	}
	return nil, &denial{text: "the token is of an issuer that is not accepted here"}
}

// bearer is the token of the one Authorization header that a request may have.
func bearer(r *http.Request) (string, error) {
	all := r.Header.Values("Authorization")
	if len(all) == 0 {
		return "", &denial{text: "no token was sent", missing: true}
	}
	scheme, token, ok := strings.Cut(all[0], " ")
	token = strings.TrimSpace(token)
	if len(all) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || len(token) > maxToken || strings.ContainsAny(token, " \t,") {
		return "", &denial{text: "send one header Authorization: Bearer with one token"}
	}
	return token, nil
}

// agent lets in who may call, with the identity in the request's context.
func (e *Endpoint) agent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := &identity{caller: e.cfg.Local}
		if e.cfg.Auth != nil {
			var err error
			if id, err = e.cfg.Auth.identify(r.Context(), r); err != nil {
				e.deny(w, r, err)
				return
			}
		}
		id.caller.Labels = withLabels(e.cfg.Labels, id.caller.Labels)
		id.caller.Scope = scopeOf(id.caller.Labels)
		r = r.WithContext(withIdentity(r.Context(), id))
		if wait, share := e.rates.admit(id.caller.Principal); wait > 0 {
			no := tooMany("requests a second", share)
			no.status = http.StatusTooManyRequests // a limit that was set, not a server that is full
			if no.retryAfter = wait; share {
				no.text = "this client sends more requests a second than it may; wait as long as Retry-After says"
			}
			e.refuse(w, r, no)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// withLabels are both; those of the credential win.
func withLabels(operator, credential map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, operator)
	maps.Copy(all, credential)
	return all
}

// deny answers a request whose credential is not accepted.
func (e *Endpoint) deny(w http.ResponseWriter, r *http.Request, err error) {
	d, ok := errors.AsType[*denial](err)
	if !ok {
		d = &denial{text: "the token could not be checked", cause: err, later: true}
	}
	if d.cause != nil {
		e.cfg.Logger.Info().Str("cause", e.cfg.Redactor.Redact(label(d.cause.Error()))).Msg("a token was not accepted")
	}
	no := refusal{status: http.StatusUnauthorized, code: mcp.INVALID_REQUEST, text: d.text}
	switch {
	case d.later:
		no.status, no.code, no.retryAfter = http.StatusServiceUnavailable, codeBusy, 5*time.Second
	case d.missing:
		no.challenge = e.challenge("", "", "")
	default:
		no.challenge = e.challenge("invalid_token", d.text, "")
	}
	e.refuse(w, r, no)
}

// challenge is a WWW-Authenticate header (RFC 6750, RFC 9728 section 5.1): where the
// client learns which tokens are taken, and what is wrong with the one it sent.
func (e *Endpoint) challenge(code, text string, scope deploy.Scope) string {
	parts := []string{}
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+`="`+strings.NewReplacer(`"`, "'", `\`, "/").Replace(value)+`"`)
		}
	}
	add("error", code)
	add("error_description", text)
	add("scope", string(scope))
	if e.cfg.Auth != nil {
		add("resource_metadata", e.URL(metadataPath+PathMCP))
	}
	return "Bearer " + strings.Join(parts, ", ")
}

const metadataPath = "/.well-known/oauth-protected-resource"

// metadata tells a client which tokens are taken here (RFC 9728). It is the same at both
// of its paths; nobody is asked who they are.
func (e *Endpoint) metadata(w http.ResponseWriter, r *http.Request) {
	if e.cfg.Auth == nil {
		e.refuse(w, r, refusal{status: http.StatusNotFound, code: mcp.METHOD_NOT_FOUND, text: "this server asks for no token"})
		return
	}
	type document struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers,omitempty"`
		Methods  []string `json:"bearer_methods_supported"`
		Scopes   []string `json:"scopes_supported"`
		Name     string   `json:"resource_name"`
	}
	doc := document{Resource: e.Resource(), Methods: []string{"header"}, Name: "Hourglass"}
	for _, i := range e.cfg.Auth.issuers {
		if i.Kind == KindOAuth { // a CI's issuer gives tokens to its own jobs alone
			doc.Servers = append(doc.Servers, i.Issuer)
		}
	}
	for _, s := range deploy.Scopes() {
		doc.Scopes = append(doc.Scopes, string(s))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=300")
	if err := json.NewEncoder(w).Encode(doc); err != nil {
		e.cfg.Logger.Debug().Err(err).Msg("metadata could not be sent")
	}
}
