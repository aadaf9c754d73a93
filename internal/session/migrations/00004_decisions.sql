-- +goose Up
-- Who decided, by which channel, and how the last state is known.
ALTER TABLE claims ADD COLUMN decided_by TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN channel TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN evidence TEXT NOT NULL DEFAULT '';
CREATE INDEX claims_by_end ON claims (state, expires_at);

-- What a human decides about acts that a policy asks about.
CREATE TABLE approvals (
    id         TEXT PRIMARY KEY,
    principal  TEXT NOT NULL,
    act        TEXT NOT NULL,
    session_id TEXT NOT NULL,
    worker     TEXT NOT NULL,
    digest     TEXT NOT NULL,
    labels     TEXT NOT NULL,
    reasons    TEXT NOT NULL,
    state      TEXT NOT NULL,
    asked_at   BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    decided_at BIGINT NOT NULL,
    decided_by TEXT NOT NULL,
    added      BIGINT NOT NULL
);
CREATE INDEX approvals_by_act ON approvals (principal, act, digest, added);
CREATE INDEX approvals_by_state ON approvals (state, added);

-- +goose Down
DROP TABLE approvals;
DROP INDEX claims_by_end;
ALTER TABLE claims DROP COLUMN evidence;
ALTER TABLE claims DROP COLUMN channel;
ALTER TABLE claims DROP COLUMN decided_by;
