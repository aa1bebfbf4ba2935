-- What a region said before it told of fewer machines: it may have lost its state, and only know those
-- that have come back to it. Kept until as many are told of again, or for some days (control/regions.h).
CREATE TABLE running_before (
    region TEXT NOT NULL,
    service TEXT NOT NULL,
    release TEXT NOT NULL,
    machines BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (region, service, release)
);
