package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// How issuers are asked for their keys.
const (
	keysLife  = time.Hour       // how long keys are used without asking again
	keysPause = 5 * time.Second // between two askings, whoever sends unknown keys' names
	keysWait  = 10 * time.Second
	keysMost  = 1 << 20 // bytes of an answer
)

// keys are the public keys of one issuer: found through its metadata, kept, and asked for
// again when they are old or a token names one that is not there. A stranger who makes
// names up can cause no more than one asking in keysPause. It is an oidc.KeySet.
type keys struct {
	issuer string
	client *http.Client
	now    func() time.Time

	mu     sync.Mutex // held while asking: others wait for the same answer
	set    jose.JSONWebKeySet
	asked  time.Time
	got    time.Time
	failed error
}

func newKeys(issuer string, client *http.Client, now func() time.Time) *keys {
	if client == nil {
		client = &http.Client{Timeout: keysWait}
	}
	plain := *client
	plain.CheckRedirect = func(*http.Request, []*http.Request) error {
		return errors.New("an issuer's keys are where it says that they are: redirects are not followed")
	}
	return &keys{issuer: issuer, client: &plain, now: now}
}

// fetchError says that the issuer could not be asked.
type fetchError struct{ err error }

func (f *fetchError) Error() string { return "asking for an issuer's keys: " + f.err.Error() }
func (f *fetchError) Unwrap() error { return f.err }

// VerifySignature gives the payload of a token that one of the issuer's keys signed.
func (k *keys) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	var algorithmsAllowed []jose.SignatureAlgorithm
	for _, a := range algorithms() {
		algorithmsAllowed = append(algorithmsAllowed, jose.SignatureAlgorithm(a))
	}
	jws, err := jose.ParseSignedCompact(token, algorithmsAllowed)
	if err != nil {
		return nil, fmt.Errorf("parsing the token: %w", err)
	}
	candidates, err := k.find(ctx, jws.Signatures[0].Header.KeyID)
	if err != nil {
		return nil, err
	}
	for _, c := range candidates {
		if c.Algorithm != "" && c.Algorithm != jws.Signatures[0].Header.Algorithm || c.Use != "" && c.Use != "sig" {
			continue
		}
		if payload, err := jws.Verify(&c); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer made the token's signature")
}

// find gives the keys of an id; of no id, all.
func (k *keys) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	have := k.byID(id)
	now := k.now()
	stale := now.Sub(k.got) > keysLife
	if (len(have) == 0 || stale) && (k.asked.IsZero() || now.Sub(k.asked) >= keysPause) {
		k.asked = now
		if k.failed = k.ask(ctx); k.failed == nil {
			k.got = now
		}
		have = k.byID(id)
	}
	if len(have) == 0 && k.failed != nil {
		return nil, k.failed
	}
	return have, nil // old keys go on being used while the issuer is down
}

// lastFailure is the failed asking behind an error of the library, which keeps no cause.
func (k *keys) lastFailure(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed != nil && strings.Contains(err.Error(), k.failed.Error()) {
		return k.failed
	}
	return err
}

func (k *keys) byID(id string) []jose.JSONWebKey {
	if id == "" {
		return k.set.Keys
	}
	return k.set.Key(id)
}

// ask reads the issuer's metadata and then its keys. A client that goes away while it is
// waited for must not spoil it for the others, so its context counts for values alone.
func (k *keys) ask(ctx context.Context) error {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), keysWait)
	defer done()
	var meta struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	base := strings.TrimSuffix(k.issuer, "/")
	if err := k.read(ctx, base+"/.well-known/openid-configuration", &meta); err != nil {
		other := k.read(ctx, oauthMetadata(k.issuer), &meta) // an OAuth server that is no OIDC provider (RFC 8414)
		if other != nil {
			return &fetchError{err}
		}
	}
	if meta.Issuer != k.issuer {
		return &fetchError{fmt.Errorf("its metadata is that of %q", label(meta.Issuer))}
	}
	u, err := url.Parse(meta.Keys)
	if err != nil || !fetchable(u) {
		return &fetchError{errors.New("its metadata names no https address of keys")}
	}
	var set jose.JSONWebKeySet
	if err := k.read(ctx, meta.Keys, &set); err != nil {
		return &fetchError{err}
	}
	kept := set.Keys[:0]
	for _, key := range set.Keys {
		if key.IsPublic() && key.Valid() { // a symmetric key is not public
			kept = append(kept, key)
		}
	}
	set.Keys = kept
	k.set = set
	return nil
}

func oauthMetadata(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return issuer
	}
	u.Path = "/.well-known/oauth-authorization-server" + strings.TrimSuffix(u.Path, "/")
	return u.String()
}

func (k *keys) read(ctx context.Context, from string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	res, err := k.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // it was read
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d", from, res.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(res.Body, keysMost))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}
