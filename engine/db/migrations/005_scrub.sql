-- How far the duty "scrub" has come (engine/control/scrubber.h), and what it has found since ever. One row.
CREATE TABLE scrub (
    one BIGINT NOT NULL PRIMARY KEY,
    begun_at BIGINT,                  -- of the pass under way; NULL: none is
    position TEXT NOT NULL,           -- the artifact that was looked at last in that pass
    finished_at BIGINT NOT NULL,      -- of the last pass that was finished; 0: none was
    passes BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    good BIGINT NOT NULL,
    healed BIGINT NOT NULL,
    rotten BIGINT NOT NULL
);
INSERT INTO scrub (one, position, finished_at, passes, bytes, good, healed, rotten)
VALUES (1, '', 0, 0, 0, 0, 0, 0);
