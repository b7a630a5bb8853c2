-- Version 2: which run is at work on a row, deliberate flaws, revocations and CRLs, and how far a
-- batch's output is vouched for.
ALTER TABLE certificates ADD COLUMN run TEXT;
ALTER TABLE certificates ADD COLUMN flaw TEXT;
ALTER TABLE certificates ADD COLUMN revoked INTEGER;
ALTER TABLE certificates ADD COLUMN reason TEXT;

-- AUTOINCREMENT: the number of a run that died is never another's.
CREATE TABLE runs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    started INTEGER NOT NULL
) STRICT;

CREATE TABLE checkpoints (
    output TEXT PRIMARY KEY,
    offset INTEGER NOT NULL,
    rows   INTEGER NOT NULL
) STRICT;

CREATE TABLE crls (
    issuer      TEXT NOT NULL,
    number      INTEGER NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    der         BLOB NOT NULL,
    PRIMARY KEY (issuer, number)
) STRICT;
CREATE INDEX by_expiry ON certificates (not_after);
CREATE INDEX by_batch ON certificates (batch) WHERE batch IS NOT NULL;
CREATE INDEX by_revocation ON certificates (issuer) WHERE state IN ('revoked', 'swept');
