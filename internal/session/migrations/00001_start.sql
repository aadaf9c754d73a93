-- +goose Up
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    principal  TEXT NOT NULL,
    scope      TEXT NOT NULL,
    run_id     TEXT NOT NULL,
    job_id     TEXT NOT NULL,
    labels     TEXT NOT NULL,
    client     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_principal ON sessions (principal, created_at);

CREATE TABLE accounts (
    target           TEXT NOT NULL,
    id               TEXT NOT NULL,
    session_id       TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    subdomain        TEXT NOT NULL,
    token            BLOB,
    claim_url        BLOB,
    created_at       BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    claim_expires_at BIGINT NOT NULL,
    skew             BIGINT NOT NULL,
    state            TEXT NOT NULL,
    added            BIGINT NOT NULL,
    PRIMARY KEY (target, id)
);
CREATE INDEX accounts_by_session ON accounts (session_id, added);
CREATE INDEX accounts_by_expiry ON accounts (expires_at) WHERE token IS NOT NULL OR claim_url IS NOT NULL;

CREATE TABLE deployments (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL,
    worker     TEXT NOT NULL,
    host       TEXT NOT NULL,
    url        TEXT NOT NULL,
    version_id TEXT NOT NULL,
    bundle_id  TEXT NOT NULL,
    digest     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    check_json TEXT NOT NULL,
    serving    TEXT NOT NULL,
    added      BIGINT NOT NULL
);
CREATE INDEX deployments_by_session ON deployments (session_id, added);

CREATE TABLE artifacts (
    principal TEXT NOT NULL,
    bundle_id TEXT NOT NULL,
    sealed    BLOB NOT NULL,
    bytes     BIGINT NOT NULL,
    used_at   BIGINT NOT NULL,
    PRIMARY KEY (principal, bundle_id)
);
CREATE INDEX artifacts_by_use ON artifacts (used_at);

CREATE TABLE claims (
    id         TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    account_id TEXT NOT NULL,
    principal  TEXT NOT NULL,
    page_hash  TEXT NOT NULL UNIQUE,
    page_token BLOB NOT NULL,
    state      TEXT NOT NULL,
    message    TEXT NOT NULL,
    digest     TEXT NOT NULL,
    asked_at   BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    decided_at BIGINT NOT NULL,
    browser    TEXT NOT NULL,
    added      BIGINT NOT NULL
);
CREATE INDEX claims_by_session ON claims (session_id, added);

CREATE TABLE calls (
    principal TEXT NOT NULL,
    idem_key  TEXT NOT NULL,
    args      TEXT NOT NULL,
    owner     TEXT NOT NULL,
    lease_at  BIGINT NOT NULL,
    result    BLOB,
    PRIMARY KEY (principal, idem_key)
);

CREATE TABLE acceptances (
    principal TEXT NOT NULL,
    text_hash TEXT NOT NULL,
    text      TEXT NOT NULL,
    source    TEXT NOT NULL,
    at        BIGINT NOT NULL,
    PRIMARY KEY (principal, text_hash)
);

-- +goose Down
DROP TABLE acceptances;
DROP TABLE calls;
DROP TABLE claims;
DROP TABLE artifacts;
DROP TABLE deployments;
DROP TABLE accounts;
DROP TABLE sessions;
DROP TABLE meta;
