-- +goose Up
CREATE TABLE audit_state (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    size BIGINT NOT NULL
);
INSERT INTO audit_state (id, size) VALUES (1, 0);

CREATE TABLE audit_records (
    idx       BIGINT PRIMARY KEY,
    at        BIGINT NOT NULL,
    act       TEXT NOT NULL,
    body      BLOB,
    leaf      BLOB NOT NULL,
    pruned_at BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX audit_records_by_time ON audit_records (at) WHERE body IS NOT NULL;

CREATE TABLE audit_hashes (
    pos  BIGINT PRIMARY KEY,
    hash BLOB NOT NULL
);

CREATE TABLE audit_checkpoints (
    size BIGINT PRIMARY KEY,
    note BLOB NOT NULL
);
