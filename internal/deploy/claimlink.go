package deploy

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// ClaimLink is what is sealed to humans' keys the moment the API gives a claim link:
// the link, and which account it is for, so that it can't be passed off as another's.
type ClaimLink struct {
	URL         Secret
	SessionID   string
	AccountID   string
	AccountName string
	Target      string
	ExpiresAt   time.Time
}

// ClaimSealer seals claim links to humans' keys, so that this server keeps none that it
// could give away. It is safe for concurrent use.
type ClaimSealer interface {
	// SealClaim gives text that only the holder of a recipient's private key can open;
	// it takes the place of the link in Account.ClaimURL.
	SealClaim(l ClaimLink) (Secret, error)
	// Recipients are the public keys, for results and records.
	Recipients() []string
}

// sealedBegins is how a sealed claim link begins: age's armor.
const sealedBegins = "-----BEGIN AGE ENCRYPTED FILE-----"

// SealedClaim tells whether text is a sealed claim link, not a link.
func SealedClaim(text Secret) bool { return strings.HasPrefix(text.Reveal(), sealedBegins) }

// ClaimFormat is the first member of a claim file.
const ClaimFormat = "hourglass-claim/1"

// ClaimFile is what a human decides on away from this server: everything that would be
// adopted, and the sealed link. Nothing in it is secret. Nothing in it but the sealed
// part is proof against who passes it on.
type ClaimFile struct {
	Format    string            `json:"format"`
	SessionID string            `json:"session_id"`
	Principal string            `json:"principal"`
	Labels    map[string]string `json:"labels,omitempty"`
	// ClaimedLabels are the model's own words, as are Client's.
	ClaimedLabels map[string]string `json:"claimed_labels,omitempty"`
	Client        string            `json:"client,omitempty"`
	Message       string            `json:"message,omitempty"`

	AccountID   string    `json:"account_id"`
	AccountName string    `json:"account_name"`
	Target      string    `json:"target"`
	ExpiresAt   time.Time `json:"expires_at"`
	// Digest fixes what is adopted: every Worker with its digest.
	Digest string `json:"digest"`
	Estate

	// Recipients are the public keys of the humans that it is sealed to.
	Recipients []string `json:"recipients,omitempty"`
	Sealed     string   `json:"sealed"`
}

// NewClaimFile describes an account whose claim link is sealed, with what goes over with
// it; digest fixes that.
func NewClaimFile(sess Session, acct Account, digest string, e Estate) *ClaimFile {
	f := &ClaimFile{
		Format: ClaimFormat, SessionID: sess.ID, Principal: sess.Principal, Labels: sess.Labels, Client: sess.Client,
		AccountID: acct.ID, AccountName: acct.Name, Target: acct.Target, ExpiresAt: acct.ExpiresAt.UTC(),
		Digest: digest, Estate: e, Recipients: acct.SealedTo, Sealed: acct.ClaimURL.Reveal(),
		ClaimedLabels: claimed(sess.RunID, sess.JobID, nil),
	}
	if !acct.ClaimExpiresAt.IsZero() && acct.ClaimExpiresAt.Before(acct.ExpiresAt) {
		f.ExpiresAt = acct.ClaimExpiresAt.UTC()
	}
	return f
}

// sealClaim puts what is kept of a fresh account's claim link in its place: the link, or
// where there are recipients, what only they can open. Where sealing fails nothing is kept:
// the account works, and can't be claimed.
func (s *Service) sealClaim(a *Account) {
	if s.cfg.Sealer == nil || a.ClaimURL.Empty() {
		return
	}
	// From here on nothing keeps the link: not the redactor either, which the client told of it.
	defer s.cfg.Redactor.Forget(SecretsIn(a.ClaimURL.Reveal())...)
	sealed, err := s.cfg.Sealer.SealClaim(ClaimLink{
		URL: a.ClaimURL, SessionID: a.SessionID, AccountID: a.ID, AccountName: a.Name, Target: a.Target, ExpiresAt: a.ExpiresAt,
	})
	if err != nil || !SealedClaim(sealed) {
		a.ClaimURL = ""
		return
	}
	a.ClaimURL, a.SealedTo = sealed, s.cfg.Sealer.Recipients()
}

// AdoptSealed records that the human whose key a session's claim link is sealed to has
// opened it, for exactly what digest names: the yes, with which the write use of the token
// ends, and the going on to Cloudflare. Asked for by an agent or not, it is an act of its
// own. CodeSessionClosed when something else is on the account by now.
func (s *Service) AdoptSealed(ctx context.Context, sessionID, digest string, who Human) error {
	found, err := s.cfg.Store.SessionsWhere(ctx, SessionFilter{ID: sessionID})
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return Errorf(CodeSessionNotFound, "`mcp-server sessions list` shows what there is.", "there is no session %q", cut(sessionID, 60))
	}
	sess := found[0]
	who.Channel = ChannelSealed
	return s.inTurn(ctx, sessionTurn(sess.ID), s.cfg.TurnWait, func(ctx context.Context, _ *Lease) error {
		claim, err := s.sealedClaimOf(ctx, &sess, who)
		if err != nil || claim.State.Given() {
			return err // opened again: the yes stands
		}
		if claim.Digest != digest {
			return Errorf(CodeSessionClosed, "Run `mcp-server claim` again and look at what is there now.", "what is on the account is not what was shown any more")
		}
		if err := s.mayApprove(claim.Yes, sess.Owner(), who); err != nil {
			return err
		}
		if _, err := s.decideClaim(ctx, claim.ID, true, who); err != nil {
			return err
		}
		return s.Opened(ctx, claim.ID, who.Name)
	})
}

// sealedClaimOf is the claim that stands on a session's account, or a new one in the
// human's own name.
func (s *Service) sealedClaimOf(ctx context.Context, sess *Session, who Human) (*Claim, error) {
	acct, deps, err := s.claimable(ctx, *sess)
	if err != nil {
		return nil, err
	}
	if !SealedClaim(acct.ClaimURL) {
		return nil, Errorf(CodeNoApproval, "Decide on the page that request_claim opens.", "the claim link of session %s is not sealed to anybody's key", sess.ID)
	}
	c := Caller{Principal: "human:" + who.Name, Door: DoorCommand, Client: "mcp-server claim"}
	claim, err := s.askedAlready(ctx, c, *sess, acct, deps)
	if err != nil || claim != nil {
		return claim, err
	}
	claim, unrecorded, err := s.askToKeep(ctx, c, *sess, acct, deps, "")
	return claim, cmp.Or(err, unrecorded)
}

// SealedClaim gives what a human needs to keep a session's account when its claim link
// is sealed to them; empty: the caller's current session. Nothing in it is secret.
// CodeNoApproval: the link is not sealed.
func (s *Service) SealedClaim(ctx context.Context, c Caller, sessionID string) (*ClaimFile, error) {
	sess, err := s.claimSession(ctx, c, sessionID)
	if err != nil {
		return nil, err
	}
	return s.claimFile(ctx, sess)
}

// ClaimFileByID is SealedClaim for a human who may see everybody's claims.
func (s *Service) ClaimFileByID(ctx context.Context, claimID string) (*ClaimFile, error) {
	claim, sess, _, err := s.claimByID(ctx, claimID)
	if err != nil {
		return nil, err
	}
	f, err := s.claimFile(ctx, sess)
	if err == nil && f.AccountID != claim.AccountID {
		return nil, errNoClaim() // the session has another account by now
	}
	return f, err
}

func (s *Service) claimFile(ctx context.Context, sess *Session) (*ClaimFile, error) {
	acct, deps, err := s.claimable(ctx, *sess)
	if err != nil {
		return nil, err
	}
	if acct.State == AccountClaimed { // opened before: until its time is over it can be again
		if !s.timeFor(acct).Before(acct.ExpiresAt) || acct.ClaimURL.Empty() {
			return nil, s.errExpired(sess.ID, acct)
		}
		if deps, err = s.claimDeployments(ctx, sess, acct); err != nil {
			return nil, err
		}
	}
	if !SealedClaim(acct.ClaimURL) {
		return nil, Errorf(CodeNoApproval, "Let the agent call request_claim, which opens a page; or give the server --claim-recipient before its next account.",
			"the claim link of session %s is not sealed to anybody's key", sess.ID)
	}
	e, err := s.estate(ctx, sess, acct, deps)
	if err != nil {
		return nil, err
	}
	f := NewClaimFile(*sess, *acct, accountDigest(deps, e.Foreign), e)
	if claim, err := s.cfg.Store.Claim(ctx, sess.ID); err == nil && claim != nil && claim.AccountID == acct.ID {
		f.Message = claim.Message
	}
	return f, nil
}

// maxClaimFile bounds a claim file in bytes.
const maxClaimFile = 4 << 20

// ParseClaimFile reads a claim file that came from elsewhere.
func ParseClaimFile(b []byte) (*ClaimFile, error) {
	const next = "Give the file that deploy --claim-out wrote."
	if len(b) > maxClaimFile {
		return nil, Errorf(CodeInvalidArgument, next, "this is no claim file: it has %d bytes", len(b))
	}
	var f ClaimFile
	if json.Unmarshal(b, &f) != nil || f.Format != ClaimFormat {
		return nil, Errorf(CodeInvalidArgument, next, "this is no claim file of the form %s", ClaimFormat)
	}
	if !SealedClaim(Secret(f.Sealed)) || f.AccountID == "" || f.ExpiresAt.IsZero() {
		return nil, Errorf(CodeInvalidArgument, next, "the claim file is not whole")
	}
	return &f, nil
}

// Encode writes the file.
func (f *ClaimFile) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing a claim file: %w", err)
	}
	return append(b, '\n'), nil
}
