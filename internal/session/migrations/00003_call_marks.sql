-- +goose Up
-- What a repeated call must know of the one before it that came to no result.
ALTER TABLE calls ADD COLUMN mark TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE calls DROP COLUMN mark;
