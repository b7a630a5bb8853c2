-- Version 1. STRICT tables; what must never happen twice is a unique index, not a promise.
CREATE TABLE authorities (
    name       TEXT PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    der        BLOB NOT NULL,
    parent     TEXT,
    folder     TEXT NOT NULL,
    origin     TEXT NOT NULL,
    created    INTEGER NOT NULL
) STRICT;

CREATE TABLE certificates (
    row           INTEGER PRIMARY KEY,
    id            TEXT UNIQUE,
    issuer        TEXT NOT NULL,
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
    replaces      TEXT,
    der           BLOB,
    created       INTEGER NOT NULL,
    updated       INTEGER NOT NULL,
    UNIQUE (issuer, serial)
) STRICT;

-- One live identity for each device and purpose, and one successor waiting.
CREATE UNIQUE INDEX one_live ON certificates (device, purpose) WHERE live = 1;
CREATE UNIQUE INDEX one_successor ON certificates (device, purpose)
    WHERE live = 0 AND state IN ('intended', 'issued');
CREATE INDEX by_device ON certificates (device);

CREATE TABLE rotations (
    device  TEXT PRIMARY KEY,
    old     TEXT NOT NULL,
    new     TEXT,
    step    TEXT NOT NULL,
    started INTEGER NOT NULL,
    updated INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    body    TEXT NOT NULL,
    hash    BLOB NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject, seq);

CREATE TRIGGER events_are_not_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_are_not_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
