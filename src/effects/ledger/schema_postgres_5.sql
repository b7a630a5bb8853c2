-- Version 5, as SQLite's schema_5.sql.
CREATE TABLE ids (
    head BYTEA NOT NULL,
    nr   BIGINT NOT NULL,
    PRIMARY KEY (head, nr)
);
CREATE TABLE indexed (
    nr BIGINT NOT NULL
);
INSERT INTO ids (head, nr) SELECT substr(id, 1, 8), nr FROM seals ORDER BY 1, 2;
INSERT INTO indexed (nr) SELECT coalesce(max(nr), 0) FROM entries;
DROP INDEX by_id;
