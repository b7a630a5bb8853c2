-- Version 4, as SQLite's schema_4.sql.
ALTER TABLE seals ADD COLUMN sealed BIGINT;

CREATE OR REPLACE VIEW certificates AS
    SELECT entries.nr, encode(seals.id, 'hex') AS id, encode(issuers.id, 'hex') AS issuer, serial,
           device, purpose,
           CASE WHEN state = 'intended' AND sealed IS NOT NULL THEN 'issued' ELSE state END AS state,
           live, subject, not_before, not_after, key_algorithm, folder, batch,
           encode(replaces, 'hex') AS replaces, der, created,
           CASE WHEN state = 'intended' AND sealed IS NOT NULL THEN sealed ELSE updated END AS updated,
           run, flaw, revoked, reason
    FROM entries LEFT JOIN issuers ON ref = issuer LEFT JOIN seals ON seals.nr = entries.nr;
