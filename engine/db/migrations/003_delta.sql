-- Delta packs: jobs of the same queue that let builds go first, and what has become of them.

ALTER TABLE job ADD COLUMN priority BIGINT NOT NULL DEFAULT 0; -- smaller ones are claimed first
DROP INDEX job_queued;
CREATE INDEX job_queued ON job (priority, id) WHERE status = 'queued';

CREATE TABLE delta (
    target TEXT NOT NULL,             -- artifacts
    base TEXT NOT NULL,
    job BIGINT NOT NULL,
    state TEXT NOT NULL,              -- making, ready, none
    pack TEXT,
    pack_bytes BIGINT,
    reason TEXT,                      -- of none
    PRIMARY KEY (target, base)
);
CREATE INDEX delta_making ON delta (job) WHERE state = 'making';
