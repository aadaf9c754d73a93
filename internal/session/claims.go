package session

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// SaveClaim implements deploy.Store. The page's token is looked up by its hash, so
// that the store can't be read for it.
func (s *Store) SaveClaim(ctx context.Context, c deploy.Claim) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	yes, err := toJSON(c.Yes)
	if err != nil {
		return s.failed(err)
	}
	token := s.seal.seal([]byte(c.PageToken.Reveal()), place("claims", "page_token", c.ID))
	_, err = s.exec(ctx, `INSERT INTO claims (id, session_id, account_id, principal, page_hash, page_token, state, message, digest,
			asked_at, expires_at, decided_at, browser, decided_by, channel, evidence, yes, custody, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
			(SELECT COALESCE(MAX(added), 0) + 1 FROM claims WHERE session_id = $19))`,
		c.ID, c.SessionID, c.AccountID, c.Principal, hash(c.PageToken.Reveal()), token, string(c.State), clean(c.Message), c.Digest,
		millis(c.AskedAt), millis(c.ExpiresAt), millis(c.DecidedAt), c.Browser, c.DecidedBy, c.Channel, c.Evidence, yes, c.Custody, c.SessionID)
	return err
}

const claimColumns = `SELECT id, session_id, account_id, principal, page_token, state, message, digest, asked_at, expires_at, decided_at, browser,
		decided_by, channel, evidence, yes, custody FROM claims `

func (s *Store) claims(ctx context.Context, query string, args ...any) ([]deploy.Claim, error) {
	var found []deploy.Claim
	err := s.query(ctx, func(r *sql.Rows) error {
		var c deploy.Claim
		var token []byte
		var state, yes string
		var asked, expires, decided int64
		err := r.Scan(&c.ID, &c.SessionID, &c.AccountID, &c.Principal, &token, &state, &c.Message, &c.Digest, &asked, &expires, &decided, &c.Browser,
			&c.DecidedBy, &c.Channel, &c.Evidence, &yes, &c.Custody)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(yes), &c.Yes); err != nil {
			return err
		}
		plain, err := s.seal.open(token, place("claims", "page_token", c.ID))
		if err != nil {
			return err
		}
		c.PageToken, c.State = deploy.Secret(plain), deploy.ClaimState(state)
		c.AskedAt, c.ExpiresAt, c.DecidedAt = moment(asked), moment(expires), moment(decided)
		found = append(found, c)
		return nil
	}, claimColumns+query, args...)
	return found, err
}

func (s *Store) claim(ctx context.Context, query string, args ...any) (*deploy.Claim, error) {
	found, err := s.claims(ctx, query, args...)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// Claim implements deploy.Store.
func (s *Store) Claim(ctx context.Context, sessionID string) (*deploy.Claim, error) {
	return s.claim(ctx, "WHERE session_id = $1 ORDER BY added DESC, asked_at DESC, id DESC LIMIT 1", sessionID)
}

// ClaimByPage implements deploy.Store.
func (s *Store) ClaimByPage(ctx context.Context, pageToken string) (*deploy.Claim, error) {
	return s.claim(ctx, "WHERE page_hash = $1", hash(pageToken))
}

// ClaimByID implements deploy.Store.
func (s *Store) ClaimByID(ctx context.Context, id string) (*deploy.Claim, error) {
	if !plain(id) {
		return nil, nil
	}
	return s.claim(ctx, "WHERE id = $1", id)
}

// ClaimsIn implements deploy.Store.
func (s *Store) ClaimsIn(ctx context.Context, t time.Time, limit int, states ...deploy.ClaimState) ([]deploy.Claim, error) {
	if len(states) == 0 {
		return nil, nil
	}
	args := []any{millis(t)}
	var in []string
	for _, st := range states {
		args = append(args, string(st))
		in = append(in, fmt.Sprintf("$%d", len(args)))
	}
	args = append(args, limit)
	return s.claims(ctx, fmt.Sprintf("WHERE expires_at < $1 AND state IN (%s) ORDER BY expires_at, id LIMIT $%d", strings.Join(in, ", "), len(args)), args...)
}

// MoveClaim implements deploy.Store.
func (s *Store) MoveClaim(ctx context.Context, m deploy.ClaimMove) (bool, error) {
	n, err := s.exec(ctx, `UPDATE claims SET state = $1,
			browser = CASE WHEN $2 = '' THEN browser ELSE $3 END,
			decided_by = CASE WHEN $4 = '' OR decided_by <> '' THEN decided_by ELSE $5 END,
			channel = CASE WHEN $6 = '' OR decided_by <> '' THEN channel ELSE $7 END,
			evidence = CASE WHEN $8 = '' THEN evidence ELSE $9 END,
			decided_at = CASE WHEN decided_at <> 0 THEN decided_at ELSE $10 END
		WHERE id = $11 AND state = $12`,
		string(m.To), m.Browser, m.Browser, clean(m.By), clean(m.By), m.Channel, m.Channel, clean(m.Evidence), clean(m.Evidence),
		millis(m.At), m.ID, string(m.From))
	return n == 1, err
}

// BeginCall implements deploy.Store. A key whose holder has not renewed or ended it
// within the lease is free again: its process is gone.
func (s *Store) BeginCall(ctx context.Context, principal, key, args string, at time.Time) (deploy.CallState, []byte, error) {
	state, result := deploy.CallNew, []byte(nil)
	err := s.change(ctx, string(place("call", principal, key)), func(tx *sql.Tx, _ int64) error {
		var had, owner, mark string
		var lease int64
		var kept []byte
		state, result = deploy.CallNew, nil
		found, err := one(ctx, tx, []any{&had, &owner, &lease, &kept, &mark},
			"SELECT args, owner, lease_at, result, mark FROM calls WHERE principal = $1 AND idem_key = $2", principal, key)
		age := at.Sub(moment(lease))
		switch {
		case err != nil:
			return err
		case !found:
		case age > s.cfg.CallTTL:
			mark = ""
		case kept == nil && (owner == "" || age > s.cfg.CallLease):
			if had != args {
				mark = ""
			}
		case had != args:
			return deploy.Errorf(deploy.CodeIdempotency, "Use a new idempotency key for a different call, or repeat the first call exactly.",
				"this idempotency key was used for a call with other arguments")
		case kept == nil:
			state = deploy.CallRunning
			return nil
		default:
			state = deploy.CallDone
			result, err = s.seal.open(kept, place("calls", "result", principal, key))
			return err
		}
		if mark != "" {
			result = []byte(mark)
		}
		_, err = run(ctx, tx, `INSERT INTO calls (principal, idem_key, args, owner, lease_at, result, mark) VALUES ($1, $2, $3, $4, $5, NULL, $6)
			ON CONFLICT (principal, idem_key) DO UPDATE SET args = excluded.args, owner = excluded.owner, lease_at = excluded.lease_at, result = NULL, mark = excluded.mark`,
			principal, key, args, s.owner, millis(at), mark)
		return err
	})
	return state, result, err
}

// MarkCall implements deploy.Store.
func (s *Store) MarkCall(ctx context.Context, principal, key string, mark []byte, at time.Time) error {
	n, err := s.exec(ctx, `UPDATE calls SET lease_at = $1, mark = CASE WHEN $2 = '' THEN mark ELSE $3 END
		WHERE principal = $4 AND idem_key = $5 AND owner = $6 AND result IS NULL`,
		millis(at), string(mark), string(mark), principal, key, s.owner)
	if err == nil && n == 0 {
		return deploy.Errorf(deploy.CodeBusy, "Make the same call again: it waits for the other one, and gives its result.",
			"this call took too long, and its idempotency key was handed to another one meanwhile")
	}
	return err
}

// FinishCall implements deploy.Store. A key that another process took over meanwhile
// is left to it. One that is free again keeps its mark, where it has one.
func (s *Store) FinishCall(ctx context.Context, principal, key string, result []byte) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	if result == nil {
		_, err := s.exec(ctx, "DELETE FROM calls WHERE principal = $1 AND idem_key = $2 AND owner = $3 AND mark = ''", principal, key, s.owner)
		if err != nil {
			return err
		}
		_, err = s.exec(ctx, "UPDATE calls SET owner = '' WHERE principal = $1 AND idem_key = $2 AND owner = $3", principal, key, s.owner)
		return err
	}
	_, err := s.exec(ctx, "UPDATE calls SET result = $1 WHERE principal = $2 AND idem_key = $3 AND owner = $4",
		s.seal.seal(result, place("calls", "result", principal, key)), principal, key, s.owner)
	return err
}

// SaveArtifact implements deploy.Store. Artifacts are compressed, then sealed: the
// plain variables in them may be secrets.
func (s *Store) SaveArtifact(ctx context.Context, principal string, a *deploy.Artifact) error {
	if _, err := s.use(ctx); err != nil {
		return err
	}
	now := millis(s.cfg.Now())
	n, err := s.exec(ctx, "UPDATE artifacts SET used_at = $1 WHERE principal = $2 AND bundle_id = $3", now, principal, a.BundleID())
	if err != nil || n > 0 {
		return err
	}
	packed, err := s.pack(a)
	if err != nil {
		return s.failed(err)
	}
	sealed := s.seal.seal(packed, place("artifacts", "sealed", principal, a.BundleID()))
	return s.change(ctx, string(place("artifacts", principal)), func(tx *sql.Tx, _ int64) error {
		_, err := run(ctx, tx, `INSERT INTO artifacts (principal, bundle_id, sealed, bytes, used_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (principal, bundle_id) DO UPDATE SET used_at = excluded.used_at`, principal, a.BundleID(), sealed, len(sealed), now)
		if err != nil {
			return err
		}
		_, err = run(ctx, tx, `DELETE FROM artifacts WHERE principal = $1 AND bundle_id IN (
			SELECT bundle_id FROM (
				SELECT bundle_id, SUM(bytes) OVER (ORDER BY used_at DESC, bundle_id) AS total FROM artifacts WHERE principal = $2
			) AS kept WHERE total > $3)`, principal, principal, s.cfg.MaxArtifactBytes)
		return err
	})
}

// Artifact implements deploy.Store.
func (s *Store) Artifact(ctx context.Context, principal, bundleID string) (*deploy.Artifact, error) {
	if !plain(bundleID) {
		return nil, errNoBundle(bundleID)
	}
	var found *deploy.Artifact
	err := s.query(ctx, func(r *sql.Rows) error {
		var sealed []byte
		if err := r.Scan(&sealed); err != nil {
			return err
		}
		packed, err := s.seal.open(sealed, place("artifacts", "sealed", principal, bundleID))
		if err != nil {
			return err
		}
		found, err = unpack(packed)
		return err
	}, "SELECT sealed FROM artifacts WHERE principal = $1 AND bundle_id = $2", principal, bundleID)
	if err != nil {
		return nil, err
	}
	if found == nil {
		return nil, errNoBundle(bundleID)
	}
	return found, nil
}

func errNoBundle(id string) error {
	return deploy.Errorf(deploy.CodeBundleNotFound, "Call bundle again, or give files or project_dir to deploy_temporary.",
		"there is no bundle %q of yours; bundles are kept for a few days", shown(id))
}

// maxStored is the size in bytes up to which an artifact is kept as it is, in a DEFLATE
// block of the kind that is not compressed (RFC 1951, 3.2.4; it holds 65,535 bytes). A
// plain Worker has 1 KB, and a compressor's tables take 0.8 MB.
const maxStored = 16 << 10

func (s *Store) pack(a *deploy.Artifact) ([]byte, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("packing an artifact: %w", err)
	}
	if n := uint16(min(len(text), maxStored)); len(text) <= maxStored { //nolint:gosec // it fits
		last := binary.LittleEndian.AppendUint16([]byte{1}, n)
		return append(binary.LittleEndian.AppendUint16(last, ^n), text...), nil
	}
	var out bytes.Buffer
	w, _ := s.packers.Get().(*flate.Writer)
	if w == nil {
		if w, err = flate.NewWriter(&out, flate.BestSpeed); err != nil {
			return nil, fmt.Errorf("packing an artifact: %w", err)
		}
	} else {
		w.Reset(&out)
	}
	defer s.packers.Put(w)
	if _, err = w.Write(text); err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("packing an artifact: %w", err)
	}
	return out.Bytes(), nil
}

// maxUnpacked bounds what a kept artifact may unfold to.
const maxUnpacked = 1 << 30

func unpack(packed []byte) (*deploy.Artifact, error) {
	var a deploy.Artifact
	r := flate.NewReader(bytes.NewReader(packed))
	if err := json.NewDecoder(io.LimitReader(r, maxUnpacked)).Decode(&a); err != nil {
		return nil, fmt.Errorf("unpacking an artifact: %w", err)
	}
	return &a, nil
}
