-- The job queue. All times are milliseconds since 1970 on the database's clock.

-- STABLE, so that an index can be used for "not_before <= now_ms()"; statement_timestamp() and not
-- now(), so that it moves on inside a long transaction.
{{pg:CREATE OR REPLACE FUNCTION now_ms() RETURNS BIGINT LANGUAGE SQL STABLE
AS 'SELECT CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)';}}

CREATE TABLE job (
    id {{id}},
    name TEXT NOT NULL,
    sha TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    last_h BIGINT,                    -- last heartbeat; in no index, or each beat would rewrite it
    attempt BIGINT NOT NULL,          -- of the last claim; 0: never claimed
    max_attempts BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    max_ms BIGINT NOT NULL,           -- how long from the first claim to the deadline
    deadline BIGINT,                  -- NULL: never claimed
    worker TEXT,
    claim_token TEXT,
    dedupe TEXT,
    spec TEXT NOT NULL,
    result TEXT,
    failure TEXT,
    reason TEXT,
    cancel TEXT,                      -- why it is to be cancelled; NULL: it is not
    started_at BIGINT,
    finished_at BIGINT
) {{pg:WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200)}};

-- Statements must name the status literally, else these are not used.
CREATE INDEX job_queued ON job (id) WHERE status = 'queued';
CREATE INDEX job_running ON job (id) WHERE status = 'running';
CREATE UNIQUE INDEX job_claim ON job (claim_token) WHERE status = 'running';
CREATE UNIQUE INDEX job_dedupe ON job (dedupe) WHERE status IN ('queued', 'running', 'succeeded');

-- The log of a job, over all its attempts, is the chunks in order of start_byte.
CREATE TABLE job_log (
    job BIGINT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    start_byte BIGINT NOT NULL,
    size BIGINT NOT NULL,
    data {{blob}} NOT NULL,
    PRIMARY KEY (job, attempt, seq)
);
CREATE INDEX job_log_start ON job_log (job, start_byte);
