-- Version 3: certificates are kept apart from what is known before they are
-- signed, so that a row never grows where it stands; what repeats in every row is a number.
CREATE TABLE issuers (
    ref INTEGER PRIMARY KEY,
    id  BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE entries (
    nr            INTEGER PRIMARY KEY,
    issuer        INTEGER NOT NULL REFERENCES issuers (ref),
    serial        BLOB NOT NULL,
    device        TEXT NOT NULL,
    purpose       TEXT NOT NULL,
    state         TEXT NOT NULL,
    live          INTEGER NOT NULL,
    subject       TEXT NOT NULL,
    not_before    INTEGER NOT NULL,
    not_after     INTEGER NOT NULL,
    key_algorithm TEXT NOT NULL,
    folder        TEXT,
    batch         TEXT,
    replaces      BLOB,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    run           INTEGER,
    flaw          TEXT,
    revoked       INTEGER,
    reason        TEXT
) STRICT;

CREATE TABLE seals (
    nr  INTEGER PRIMARY KEY REFERENCES entries (nr),
    id  BLOB NOT NULL,
    der BLOB NOT NULL
) STRICT;

INSERT INTO issuers (id) SELECT DISTINCT unhex(issuer) FROM certificates;
INSERT INTO entries (nr, issuer, serial, device, purpose, state, live, subject, not_before,
                     not_after, key_algorithm, folder, batch, replaces, created, updated, run, flaw,
                     revoked, reason)
    SELECT row, (SELECT ref FROM issuers WHERE issuers.id = unhex(issuer)), serial, device,
           purpose, state, live, subject, not_before, not_after, key_algorithm, folder, batch,
           unhex(replaces), created, updated, CAST(run AS INTEGER), flaw, revoked, reason
    FROM certificates ORDER BY row;
INSERT INTO seals (nr, id, der)
    SELECT row, unhex(id), der FROM certificates WHERE der IS NOT NULL ORDER BY row;
DROP TABLE certificates;
-- Every event is found by its number; what it is about is in it.
DROP INDEX events_by_subject;

CREATE UNIQUE INDEX one_serial ON entries (issuer, serial);
-- One live identity for each device and purpose, and one successor waiting.
CREATE UNIQUE INDEX one_live ON entries (device, purpose) WHERE live = 1;
CREATE UNIQUE INDEX one_successor ON entries (device, purpose)
    WHERE live = 0 AND state IN ('intended', 'issued');
CREATE INDEX by_past_device ON entries (device) WHERE live = 0;
CREATE INDEX by_expiry ON entries (not_after);
CREATE INDEX by_batch ON entries (batch) WHERE batch IS NOT NULL;
CREATE INDEX by_revocation ON entries (issuer) WHERE state IN ('revoked', 'swept');
-- Eight bytes tell certificates apart well enough, and the whole id is compared after them.
CREATE INDEX by_id ON seals (substr(id, 1, 8));

-- For people and scripts: one row for each certificate, ids as AWS IoT writes them.
CREATE VIEW certificates AS
    SELECT entries.nr, lower(hex(seals.id)) AS id, lower(hex(issuers.id)) AS issuer, serial, device,
           purpose, state, live, subject, not_before, not_after, key_algorithm, folder, batch,
           lower(hex(replaces)) AS replaces, der, created, updated, run, flaw, revoked, reason
    FROM entries LEFT JOIN issuers ON ref = issuer LEFT JOIN seals ON seals.nr = entries.nr;

-- `offset` is a word of SQL.
ALTER TABLE checkpoints RENAME COLUMN offset TO bytes;
