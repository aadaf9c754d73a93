package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// OIDCConfig is the issuer where humans log in to the console (OpenID Connect Core,
// authorization code with PKCE). Its JSON is the file that --console-issuer names.
type OIDCConfig struct {
	// Name is what the button says.
	Name     string `json:"name"`
	Issuer   string `json:"issuer"`
	ClientID string `json:"client_id"`
	// ClientSecret comes from the environment, never from the file.
	ClientSecret string `json:"-"`
	// Claim is the claim of the ID token that says what a human may: one text, or a list
	// of them, such as groups. Scopes gives the scopes of its values.
	Claim  string                    `json:"claim"`
	Scopes map[string][]deploy.Scope `json:"scopes"`
	// Owner is the claim that names the human's owner for four eyes: sub (the default) or
	// email, which counts only when the issuer says that it is verified.
	Owner string `json:"owner,omitempty"`
	// Client asks the issuer; nil: one with a time limit.
	Client *http.Client `json:"-"`
}

func (c *OIDCConfig) check() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || !fetchable(u):
		return fmt.Errorf("web: the console's issuer %q is not an https address", c.Issuer)
	case c.ClientID == "" || c.Claim == "" || len(c.Scopes) == 0:
		return errors.New("web: the console's issuer needs client_id, claim and scopes")
	case c.Owner != "" && c.Owner != "sub" && c.Owner != "email":
		return fmt.Errorf("web: the console's issuer: owner is sub or email, not %q", c.Owner)
	}
	for value, scopes := range c.Scopes {
		if err := CheckConsoleUser(deploy.ConsoleUser{Name: "x", Scopes: scopes}); err != nil {
			return fmt.Errorf("web: the console's issuer: scopes of %q: %w", value, err)
		}
	}
	return nil
}

const oidcWait = 10 * time.Second

// oidcLogin is the way in by the issuer. The issuer is asked for its addresses when the
// first human wants to log in: one that is down must not keep the server from starting.
type oidcLogin struct {
	cfg  OIDCConfig
	name string
	now  func() time.Time

	mu       sync.Mutex
	provider *oidc.Provider
}

func newOIDCLogin(cfg OIDCConfig, now func() time.Time) (*oidcLogin, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: oidcWait}
	}
	return &oidcLogin{cfg: cfg, name: stringOr(cfg.Name, cfg.Issuer), now: now}, nil
}

func (o *oidcLogin) at(ctx context.Context, redirect string) (*oidc.Provider, *oauth2.Config, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.provider == nil {
		p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.cfg.Client), o.cfg.Issuer)
		if err != nil {
			return nil, nil, fmt.Errorf("web: asking the console's issuer: %w", err)
		}
		o.provider = p
	}
	return o.provider, &oauth2.Config{
		ClientID: o.cfg.ClientID, ClientSecret: o.cfg.ClientSecret, Endpoint: o.provider.Endpoint(), RedirectURL: redirect,
		Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}, nil
}

// attempt is one login under way, kept by the hash of its state.
type attempt struct {
	Verifier string `json:"verifier"`
	Nonce    string `json:"nonce"`
	Next     string `json:"next"`
	Browser  string `json:"browser"` // hash of the cookie that binds it to one browser
}

// oidcBegin leads to the issuer.
func (c *Console) oidcBegin(w http.ResponseWriter, r *http.Request) {
	if c.oidc == nil {
		c.problem(w, r, http.StatusNotFound, "Nothing here", "This server has no issuer to log in at.")
		return
	}
	_, conf, err := c.oidc.at(r.Context(), c.Address()+"/oidc")
	if err != nil {
		c.cfg.Logger.Error().Str("error", c.cfg.Redactor.Redact(err.Error())).Msg("the console's issuer can't be asked")
		c.problem(w, r, http.StatusBadGateway, "Not now", "The issuer can't be asked; the server's log has the cause.")
		return
	}
	browser, state := rand.Text(), rand.Text()
	a := attempt{Verifier: oauth2.GenerateVerifier(), Nonce: rand.Text(), Next: goodNext(r.PostForm.Get("next")), Browser: hash(browser)}
	body, err := json.Marshal(a)
	if err == nil {
		err = c.logins.SaveOnce(r.Context(), onceOIDC, hash(state), body, c.cfg.Now().Add(loginLinkLife))
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	// Lax: the issuer's answer is a navigation from another site.
	c.setCookie(w, oidcCookie, browser, http.SameSiteLaxMode, loginLinkLife)
	// A page and not a redirect: Chromium holds a redirect after a form to form-action.
	c.show(w, r, http.StatusOK, "onward", layout{
		Title: "On to " + c.oidc.name, Refresh: conf.AuthCodeURL(state, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)),
	})
}

// oidcEnd takes the issuer's answer.
func (c *Console) oidcEnd(w http.ResponseWriter, r *http.Request) {
	if c.oidc == nil {
		c.problem(w, r, http.StatusNotFound, "Nothing here", "This server has no issuer to log in at.")
		return
	}
	no := func(text string, err error) {
		c.cfg.Logger.Warn().Str("reason", c.cfg.Redactor.Redact(fmt.Sprintf("%s: %v", text, err))).Msg("a login at the console's issuer failed")
		c.problem(w, r, c.inVain(r, deploy.AccessIssuer, text), "Not logged in", text+" Begin again at "+PathConsole+"/login.")
	}
	q := r.URL.Query()
	body, err := c.logins.TakeOnce(r.Context(), onceOIDC, hash(q.Get("state")), c.cfg.Now())
	if err != nil {
		c.fail(w, r, err)
		return
	}
	var a attempt
	if body == nil || json.Unmarshal(body, &a) != nil || a.Browser != hash(c.cookie(r, oidcCookie)) {
		no("This login was not begun in this browser, was used already, or took too long.", nil)
		return
	}
	if q.Get("code") == "" {
		no("The issuer did not log you in.", errors.New(label(q.Get("error"))))
		return
	}
	who, err := c.oidc.exchange(r.Context(), c.Address()+"/oidc", q.Get("code"), a)
	if err != nil {
		no("The issuer's answer is not one that counts here.", err)
		return
	}
	if len(who.Scopes) == 0 {
		no("Your account at the issuer is not allowed into this console.", nil)
		return
	}
	c.open(w, r, *who, deploy.AccessIssuer, a.Next)
}

// exchange turns the code into a human, by an ID token that was made for this login.
func (o *oidcLogin) exchange(ctx context.Context, redirect, code string, a attempt) (*deploy.ConsoleUser, error) {
	provider, conf, err := o.at(ctx, redirect)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(oidc.ClientContext(ctx, o.cfg.Client), oidcWait)
	defer stop()
	token, err := conf.Exchange(ctx, code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, fmt.Errorf("the code: %w", err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: o.cfg.ClientID, Now: o.now}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("the ID token: %w", err)
	}
	if id.Nonce != a.Nonce {
		return nil, errors.New("the ID token was made for another login")
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return nil, fmt.Errorf("the ID token's claims: %w", err)
	}
	return o.user(id.Subject, claims)
}

func (o *oidcLogin) user(subject string, claims map[string]any) (*deploy.ConsoleUser, error) {
	if subject == "" || len(subject) > 255 {
		return nil, errors.New("the ID token names no subject")
	}
	email, _ := claims["email"].(string)
	if verified, _ := claims["email_verified"].(bool); !verified {
		email = ""
	}
	u := &deploy.ConsoleUser{ID: "oidc:" + subject, Name: label(stringOr(email, subject)), Owner: subject, Scopes: o.scopes(claims[o.cfg.Claim])}
	if o.cfg.Owner == "email" {
		if email == "" {
			return nil, errors.New("the ID token has no verified email, which names the owner here")
		}
		u.Owner = email
	}
	return u, nil
}

func (o *oidcLogin) scopes(claim any) []deploy.Scope {
	values, _ := claim.([]any)
	if one, ok := text(claim); ok {
		values = []any{one}
	}
	out := []deploy.Scope{}
	for _, v := range values {
		name, _ := v.(string)
		for _, s := range o.cfg.Scopes[name] {
			if !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	return out
}
