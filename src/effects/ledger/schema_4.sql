-- Version 4: a batch writes each row once. An intent with a seal is issued, since the time its seal
-- says; `entries` is written again only by what comes later. Seals of before say no time: their
-- entries say it.
ALTER TABLE seals ADD COLUMN sealed INTEGER;

DROP VIEW certificates;
CREATE VIEW certificates AS
    SELECT entries.nr, lower(hex(seals.id)) AS id, lower(hex(issuers.id)) AS issuer, serial, device,
           purpose,
           CASE WHEN state = 'intended' AND sealed IS NOT NULL THEN 'issued' ELSE state END AS state,
           live, subject, not_before, not_after, key_algorithm, folder, batch,
           lower(hex(replaces)) AS replaces, der, created,
           CASE WHEN state = 'intended' AND sealed IS NOT NULL THEN sealed ELSE updated END AS updated,
           run, flaw, revoked, reason
    FROM entries LEFT JOIN issuers ON ref = issuer LEFT JOIN seals ON seals.nr = entries.nr;
