package web

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

// ceremonyLife is how long a question to a passkey waits for its answer.
const ceremonyLife = 2 * time.Minute

// ceremony is one question to a passkey, kept by the hash of its handle until it is
// answered, once.
type ceremony struct {
	Session webauthn.SessionData `json:"session"`
	UserID  string               `json:"user_id"`
	// About and Digest are what the yes is for: "claim/ID" or "approval/ID", and the
	// digest of exactly what was shown. The challenge is made of the digest too.
	About  string `json:"about,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// keyHolder is a human as the library wants to know them.
type keyHolder struct {
	user deploy.ConsoleUser
	keys []webauthn.Credential
}

// WebAuthnID is a handle that tells an authenticator nothing of the human.
func (k *keyHolder) WebAuthnID() []byte {
	sum := sha256.Sum256([]byte("passkeys of " + k.user.ID))
	return sum[:]
}

// WebAuthnName implements webauthn.User.
func (k *keyHolder) WebAuthnName() string { return k.user.Name }

// WebAuthnDisplayName implements webauthn.User.
func (k *keyHolder) WebAuthnDisplayName() string { return k.user.Name }

// WebAuthnCredentials implements webauthn.User.
func (k *keyHolder) WebAuthnCredentials() []webauthn.Credential { return k.keys }

func (c *Console) holder(r *http.Request) (*keyHolder, error) {
	k := &keyHolder{user: loginOf(r).session.User}
	kept, err := c.logins.Passkeys(r.Context(), k.user.ID)
	if err != nil {
		return nil, err
	}
	for _, p := range kept {
		var one webauthn.Credential
		if err := json.Unmarshal(p.Credential, &one); err != nil {
			return nil, fmt.Errorf("web: the passkey %s: %w", p.ID, err)
		}
		k.keys = append(k.keys, one)
	}
	return k, nil
}

// party is this server as passkeys know it: its host name, and nothing under another.
func (c *Console) party() (*webauthn.WebAuthn, error) {
	c.mu.Lock()
	base := *c.base
	c.mu.Unlock()
	return webauthn.New(&webauthn.Config{
		RPID: base.Hostname(), RPDisplayName: "Hourglass", RPOrigins: []string{base.Scheme + "://" + base.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementPreferred, UserVerification: protocol.VerificationRequired,
		},
	})
}

// ask keeps a ceremony and sends the browser its question.
func (c *Console) ask(w http.ResponseWriter, r *http.Request, kind string, k ceremony, options any) {
	handle := rand.Text() + rand.Text()
	body, err := json.Marshal(k)
	if err == nil {
		err = c.logins.SaveOnce(r.Context(), kind, hash(handle), body, c.cfg.Now().Add(ceremonyLife))
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"handle": handle, "options": options}); err != nil {
		c.cfg.Logger.Debug().Err(err).Msg("a question to a passkey could not be sent")
	}
}

// answered takes the ceremony that a form answers; nil: there is none that is good.
func (c *Console) answered(r *http.Request, kind string) (*ceremony, error) {
	body, err := c.logins.TakeOnce(r.Context(), kind, hash(r.PostForm.Get("handle")), c.cfg.Now())
	if err != nil || body == nil {
		return nil, err
	}
	var k ceremony
	if err := json.Unmarshal(body, &k); err != nil {
		return nil, fmt.Errorf("web: a ceremony: %w", err)
	}
	if k.UserID != loginOf(r).session.User.ID {
		return nil, nil //nolint:nilnil // it is somebody else's
	}
	return &k, nil
}

// passkeys shows a human's passkeys and lets them add one.
func (c *Console) passkeys(w http.ResponseWriter, r *http.Request) {
	kept, err := c.logins.Passkeys(r.Context(), loginOf(r).session.User.ID)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	var rows []fact
	for i, p := range kept {
		rows = append(rows, fact{Name: fmt.Sprintf("Passkey %d", i+1), Value: "since " + p.CreatedAt.UTC().Format("2006-01-02 15:04 UTC")})
	}
	c.show(w, r, http.StatusOK, "passkeys", layout{Title: "Passkeys", Body: rows})
}

// passkeyBegin asks the browser to make one. Who has one must touch it to add another:
// a login alone, which may have been stolen, adds none.
func (c *Console) passkeyBegin(w http.ResponseWriter, r *http.Request) {
	k, err := c.holder(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if len(k.keys) > 0 {
		c.problem(w, r, http.StatusConflict, "You have a passkey", "One human has one passkey here; an operator who can write to the store can take it away.")
		return
	}
	party, err := c.party()
	if err != nil {
		c.fail(w, r, err)
		return
	}
	options, session, err := party.BeginRegistration(k)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.ask(w, r, onceRegister, ceremony{Session: *session, UserID: k.user.ID}, options)
}

// passkeyEnd keeps the passkey that the browser made.
func (c *Console) passkeyEnd(w http.ResponseWriter, r *http.Request) {
	k, err := c.answered(r, onceRegister)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if k == nil {
		c.problem(w, r, http.StatusConflict, "Not added", "The question was answered already, or too late. Begin again.")
		return
	}
	made, err := c.made(r, k)
	if err != nil {
		c.cfg.Logger.Warn().Err(err).Msg("a passkey was not taken")
		c.problem(w, r, c.inVain(r, deploy.AccessPasskey, "the answer of a new passkey does not count"), "Not added", "The passkey's answer is not one that counts here. Begin again.")
		return
	}
	body, err := json.Marshal(made)
	if err == nil { // a passkey that can't be recorded is none
		err = c.service.NoteAccess(r.Context(), deploy.Access{Kind: deploy.NoticePasskey, User: loginOf(r).session.User, How: deploy.AccessPasskey})
	}
	if err == nil {
		err = c.logins.SavePasskey(r.Context(), deploy.Passkey{
			ID: base64.RawURLEncoding.EncodeToString(made.ID), UserID: k.UserID, Credential: body, CreatedAt: c.cfg.Now().UTC(),
		})
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.cfg.Logger.Info().Str("user", label(k.UserID)).Msg("a passkey was added")
	http.Redirect(w, r, PathConsole+"/passkeys", http.StatusSeeOther)
}

func (c *Console) made(r *http.Request, k *ceremony) (*webauthn.Credential, error) {
	holder, err := c.holder(r)
	if err != nil {
		return nil, err
	}
	if len(holder.keys) > 0 {
		return nil, errors.New("another one was added meanwhile")
	}
	party, err := c.party()
	if err != nil {
		return nil, err
	}
	answer, err := protocol.ParseCredentialCreationResponseBody(bytes.NewReader([]byte(r.PostForm.Get("passkey"))))
	if err != nil {
		return nil, err
	}
	return party.CreateCredential(holder, k.Session, answer)
}

// touchBegin asks for the touch that a yes needs. The challenge is random bytes and the
// digest of what the human was shown, so that the signature is over both.
func (c *Console) touchBegin(w http.ResponseWriter, r *http.Request) {
	k, err := c.holder(r)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if len(k.keys) == 0 {
		c.problem(w, r, http.StatusConflict, "No passkey", "Add a passkey first.")
		return
	}
	about, digest := r.PostForm.Get("about"), r.PostForm.Get("digest")
	if about == "" || digest == "" {
		c.problem(w, r, http.StatusBadRequest, "Not asked", "The form does not say what the yes is for.")
		return
	}
	party, err := c.party()
	if err != nil {
		c.fail(w, r, err)
		return
	}
	options, session, err := party.BeginLogin(k, webauthn.WithChallenge(challengeFor(about, digest)), webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.ask(w, r, onceTouch, ceremony{Session: *session, UserID: k.user.ID, About: about, Digest: digest}, options)
}

// challengeFor is 32 random bytes, and SHA-256 of what the yes is for.
func challengeFor(about, digest string) []byte {
	out := make([]byte, 32, 64)
	_, _ = rand.Read(out) // it never fails
	sum := sha256.Sum256([]byte(about + "\n" + digest))
	return append(out, sum[:]...)
}

// touched tells by which channel a yes came. Where passkeys are asked for, one without a
// touch for exactly this ends here.
func (c *Console) touched(w http.ResponseWriter, r *http.Request, about, digest string) (string, bool) {
	if r.PostForm.Get("handle") == "" {
		if c.cfg.Passkeys {
			c.problem(w, r, http.StatusForbidden, "Not decided", "A yes needs a touch of your passkey here. It needs JavaScript; add a passkey first if you have none.")
			return "", false
		}
		return deploy.ChannelConsole, true
	}
	err := c.checkTouch(r, about, digest)
	if err != nil {
		c.cfg.Logger.Warn().Str("error", c.cfg.Redactor.Redact(err.Error())).Msg("a touch does not count")
		c.problem(w, r, c.inVain(r, deploy.AccessPasskey, "the passkey's answer does not count for this: "+about), "Not decided", "The passkey's answer does not count for this. Open the page again and decide.")
		return "", false
	}
	return deploy.ChannelPasskey, true
}

func (c *Console) checkTouch(r *http.Request, about, digest string) error {
	k, err := c.answered(r, onceTouch)
	switch {
	case err != nil:
		return err
	case k == nil:
		return errors.New("there is no such question, or it was answered already")
	case k.About != about || k.Digest != digest:
		return errors.New("the touch was for something else")
	}
	holder, err := c.holder(r)
	if err != nil {
		return err
	}
	party, err := c.party()
	if err != nil {
		return err
	}
	answer, err := protocol.ParseCredentialRequestResponseBody(bytes.NewReader([]byte(r.PostForm.Get("passkey"))))
	if err != nil {
		return err
	}
	used, err := party.ValidateLogin(holder, k.Session, answer)
	switch {
	case err != nil:
		return err
	case used.Authenticator.CloneWarning:
		return errors.New("the passkey's counter went back: it may have been copied")
	}
	body, err := json.Marshal(used)
	if err != nil {
		return err
	}
	return c.logins.SavePasskey(r.Context(), deploy.Passkey{
		ID: base64.RawURLEncoding.EncodeToString(used.ID), UserID: k.UserID, Credential: body, CreatedAt: c.cfg.Now().UTC(),
	})
}
