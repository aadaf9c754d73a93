-- +goose Up
-- What may be used once: login links, logins at an issuer, challenges to passkeys.
CREATE TABLE console_once (
    kind       TEXT NOT NULL,
    hash       TEXT NOT NULL,
    body       TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, hash)
);
CREATE INDEX console_once_by_end ON console_once (expires_at);

-- Who is logged in. The hash is of the cookie, which is kept nowhere.
CREATE TABLE console_sessions (
    hash       TEXT PRIMARY KEY,
    who        TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX console_sessions_by_end ON console_sessions (expires_at);

CREATE TABLE passkeys (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL,
    credential TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- +goose Down
DROP TABLE passkeys;
DROP TABLE console_sessions;
DROP TABLE console_once;
