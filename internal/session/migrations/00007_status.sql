-- +goose Up
-- The newest session of a scope, and the steps that a status has to tell of, are found
-- without looking at the others: a status asks for both at every call.
CREATE INDEX sessions_by_scope ON sessions (principal, scope, created_at, added, id);
CREATE INDEX steps_loose ON steps (session_id) WHERE state IN ('open', 'unknown', 'lost');

-- +goose Down
DROP INDEX steps_loose;
DROP INDEX sessions_by_scope;
