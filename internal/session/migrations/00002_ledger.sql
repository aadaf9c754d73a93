-- +goose Up
-- What was made later stands later in a list, also within one millisecond. SQLite's
-- rowid told that until now; the other home has none.
ALTER TABLE sessions ADD COLUMN added BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET added = numbered.n
    FROM (SELECT id, ROW_NUMBER() OVER (PARTITION BY principal ORDER BY created_at, id) AS n FROM sessions) AS numbered
    WHERE numbered.id = sessions.id;
CREATE INDEX sessions_by_added ON sessions (principal, added);
CREATE INDEX sessions_by_update ON sessions (updated_at);

-- A crash between two writes could leave two accounts in use: the newest one is it.
UPDATE accounts SET state = 'retired', token = NULL, claim_url = NULL
    WHERE state = '' AND EXISTS (
        SELECT 1 FROM accounts AS newer
        WHERE newer.session_id = accounts.session_id AND newer.state = '' AND newer.added > accounts.added);
CREATE UNIQUE INDEX accounts_current ON accounts (session_id) WHERE state = '';
CREATE INDEX accounts_by_time ON accounts ((created_at - skew));
CREATE INDEX deployments_by_time ON deployments (created_at);
CREATE INDEX deployments_by_bundle ON deployments (bundle_id);
CREATE INDEX calls_by_lease ON calls (lease_at);

-- A lease that was given back has no owner; its fence stays, so that it only rises.
CREATE TABLE leases (
    name     TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    fence    BIGINT NOT NULL,
    until_at BIGINT NOT NULL
);

CREATE TABLE steps (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    principal  TEXT NOT NULL,
    account_id TEXT NOT NULL,
    kind       TEXT NOT NULL,
    state      TEXT NOT NULL,
    what       TEXT NOT NULL,
    bundle_id  TEXT NOT NULL,
    digest     TEXT NOT NULL,
    ref        TEXT NOT NULL,
    note       TEXT NOT NULL,
    fence      BIGINT NOT NULL,
    settled_by BIGINT NOT NULL,
    begun_at   BIGINT NOT NULL,
    settled_at BIGINT NOT NULL,
    added      BIGINT NOT NULL
);
CREATE INDEX steps_by_session ON steps (session_id, added);
CREATE INDEX steps_waiting ON steps (session_id) WHERE state IN ('open', 'unknown');
CREATE INDEX steps_by_kind ON steps (kind, begun_at);

-- +goose Down
DROP TABLE steps;
DROP TABLE leases;
DROP INDEX calls_by_lease;
DROP INDEX deployments_by_bundle;
DROP INDEX deployments_by_time;
DROP INDEX accounts_by_time;
DROP INDEX accounts_current;
DROP INDEX sessions_by_update;
DROP INDEX sessions_by_added;
ALTER TABLE sessions DROP COLUMN added;
