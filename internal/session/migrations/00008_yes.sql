-- +goose Up
-- What a yes has to be, kept with what was asked, as JSON; and on which channel an act was decided, and by whose human.
ALTER TABLE claims ADD COLUMN yes TEXT NOT NULL DEFAULT '{}';
-- Who can open the claim link, in words.
ALTER TABLE claims ADD COLUMN custody TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN yes TEXT NOT NULL DEFAULT '{}';
ALTER TABLE approvals ADD COLUMN channel TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN owner TEXT NOT NULL DEFAULT '';

-- The public keys that an account's claim link is sealed to, as a JSON list; they are no secret.
ALTER TABLE accounts ADD COLUMN sealed_to TEXT NOT NULL DEFAULT 'null';

-- +goose Down
ALTER TABLE accounts DROP COLUMN sealed_to;
ALTER TABLE approvals DROP COLUMN owner;
ALTER TABLE approvals DROP COLUMN channel;
ALTER TABLE approvals DROP COLUMN yes;
ALTER TABLE claims DROP COLUMN custody;
ALTER TABLE claims DROP COLUMN yes;
