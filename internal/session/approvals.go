package session

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/hourglass-mcp/hourglass/internal/deploy"
)

var _ deploy.Store = (*Store)(nil)

// SaveApproval implements deploy.Approvals.
func (s *Store) SaveApproval(ctx context.Context, a deploy.Approval) error {
	labels, err := toJSON(a.Labels)
	if err != nil {
		return s.failed(err)
	}
	reasons, err := toJSON(a.Reasons)
	if err != nil {
		return s.failed(err)
	}
	yes, err := toJSON(a.Yes)
	if err != nil {
		return s.failed(err)
	}
	_, err = s.exec(ctx, `INSERT INTO approvals (id, principal, act, session_id, worker, digest, labels, reasons, state, asked_at, expires_at, decided_at,
			decided_by, channel, owner, yes, added)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, (SELECT COALESCE(MAX(added), 0) + 1 FROM approvals))`,
		a.ID, a.Principal, string(a.Act), a.SessionID, clean(a.Worker), a.Digest, labels, reasons, string(a.State),
		millis(a.AskedAt), millis(a.ExpiresAt), millis(a.DecidedAt), clean(a.By), a.Channel, clean(a.ByOwner), yes)
	return err
}

func (s *Store) approvals(ctx context.Context, query string, args ...any) ([]deploy.Approval, error) {
	out := []deploy.Approval{}
	err := s.query(ctx, func(r *sql.Rows) error {
		var a deploy.Approval
		var act, state, labels, reasons, yes string
		var asked, expires, decided int64
		err := r.Scan(&a.ID, &a.Principal, &act, &a.SessionID, &a.Worker, &a.Digest, &labels, &reasons, &state, &asked, &expires, &decided, &a.By,
			&a.Channel, &a.ByOwner, &yes)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(yes), &a.Yes); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(labels), &a.Labels); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(reasons), &a.Reasons); err != nil {
			return err
		}
		a.Act, a.State = deploy.Act(act), deploy.ApprovalState(state)
		a.AskedAt, a.ExpiresAt, a.DecidedAt = moment(asked), moment(expires), moment(decided)
		out = append(out, a)
		return nil
	}, `SELECT id, principal, act, session_id, worker, digest, labels, reasons, state, asked_at, expires_at, decided_at, decided_by,
		channel, owner, yes FROM approvals `+query, args...)
	return out, err
}

// ApprovalFor implements deploy.Approvals.
func (s *Store) ApprovalFor(ctx context.Context, principal string, act deploy.Act, digest string) (*deploy.Approval, error) {
	found, err := s.approvals(ctx, "WHERE principal = $1 AND act = $2 AND digest = $3 ORDER BY added DESC LIMIT 1", principal, string(act), digest)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// Approvals implements deploy.Approvals.
func (s *Store) Approvals(ctx context.Context, state deploy.ApprovalState, limit int) ([]deploy.Approval, error) {
	if state == "" {
		return s.approvals(ctx, "ORDER BY added DESC LIMIT $1", limit)
	}
	return s.approvals(ctx, "WHERE state = $1 ORDER BY added DESC LIMIT $2", string(state), limit)
}

// MoveApproval implements deploy.Approvals.
func (s *Store) MoveApproval(ctx context.Context, m deploy.ApprovalMove) (bool, error) {
	n, err := s.exec(ctx, "UPDATE approvals SET state = $1, decided_by = $2, channel = $3, owner = $4, decided_at = $5 WHERE id = $6 AND state = $7",
		string(m.To), clean(m.By), m.Channel, clean(m.Owner), millis(m.At), m.ID, string(m.From))
	return n == 1, err
}
