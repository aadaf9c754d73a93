-- +goose Up
-- What Workers said while they were alive, as batches of lines, sealed; and per session
-- what was kept in all, which outlives the batches.
CREATE TABLE worker_logs (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq        BIGINT NOT NULL,
    kept_at    BIGINT NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (session_id, seq)
);
CREATE INDEX worker_logs_by_age ON worker_logs (kept_at);

CREATE TABLE worker_log_tallies (
    session_id TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    seq        BIGINT NOT NULL,
    lines      BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    dropped    BIGINT NOT NULL
);

-- What was seen on an account that was not made from here. An empty version is the whole
-- Worker.
CREATE TABLE foreign_changes (
    target     TEXT NOT NULL,
    account_id TEXT NOT NULL,
    worker     TEXT NOT NULL,
    version_id TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (target, account_id, worker, version_id)
);
CREATE INDEX foreign_changes_by_session ON foreign_changes (session_id, seen_at);

-- +goose Down
DROP TABLE foreign_changes;
DROP TABLE worker_log_tallies;
DROP TABLE worker_logs;
