-- Counters over all deployments that have ended: what GET /metrics adds to those under way.
CREATE TABLE total (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
