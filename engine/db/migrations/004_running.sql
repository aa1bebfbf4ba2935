-- What machines run, as the region nodes last said: which versions a delta is worth making from, and
-- which artifacts somebody still has.
CREATE TABLE running (
    region TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL,
    machines BIGINT NOT NULL,
    PRIMARY KEY (region, service, release)
);
CREATE INDEX running_service ON running (service, release);

-- What the worker found to be compressed already, as JSON; NULL: no worker has answered.
ALTER TABLE delta ADD COLUMN result TEXT;
