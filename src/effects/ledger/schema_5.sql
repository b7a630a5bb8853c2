-- Version 5: ids are random, and an index over them that is kept row by row makes a batch write more
-- pages than all its rows fill. They are indexed many at a time, in order; what was sealed since then
-- is searched. Eight bytes tell certificates apart well enough, and the whole id is compared after.
CREATE TABLE ids (
    head BLOB NOT NULL,
    nr   INTEGER NOT NULL,
    PRIMARY KEY (head, nr)
) STRICT, WITHOUT ROWID;
-- The last row of `entries` that `ids` takes account of.
CREATE TABLE indexed (
    nr INTEGER NOT NULL
) STRICT;
INSERT INTO ids (head, nr) SELECT substr(id, 1, 8), nr FROM seals ORDER BY 1, 2;
INSERT INTO indexed (nr) SELECT coalesce(max(nr), 0) FROM entries;
DROP INDEX by_id;
