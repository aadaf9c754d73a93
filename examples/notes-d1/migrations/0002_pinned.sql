ALTER TABLE notes ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
CREATE INDEX notes_by_pin ON notes (pinned, id);
INSERT INTO notes (text, pinned) VALUES ('Notes live as long as the account does: an hour, or for good once it is claimed.', 1);
