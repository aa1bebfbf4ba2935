-- The control plane's tables. Times are milliseconds since 1970; hashes are 64 hexadecimal digits.
-- State lives in rows that are overwritten; `event`, `decision` and `audit` are the history.

-- One row a sequence. UPDATE … RETURNING in the writer's own transaction makes the order of numbers
-- the order of commits: a reader that has seen number n will never see a smaller one appear.
CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value BIGINT NOT NULL);
INSERT INTO counter (name, value) VALUES ('event', 0);
INSERT INTO counter (name, value) VALUES ('relay', 0);
INSERT INTO counter (name, value) VALUES ('audit', 0);

-- Who does what now. Whoever claims a duty raises the fence; every write of the duty names it.
CREATE TABLE duty (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE bundle (hash TEXT NOT NULL PRIMARY KEY, body TEXT NOT NULL, created_at BIGINT NOT NULL);

CREATE TABLE service (
    name TEXT NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    last_planned TEXT,  -- the deployment whose goals the machines have
    good_release TEXT,  -- of the last deployment that succeeded
    good_commit TEXT
);

CREATE TABLE deployment (
    number {{id}},                    -- order of triggers
    id TEXT NOT NULL UNIQUE,
    service TEXT NOT NULL,
    sha TEXT NOT NULL,
    state TEXT NOT NULL,
    live BIGINT NOT NULL,             -- 1: the conductor drives it
    tending BIGINT NOT NULL,          -- 1: it has ended, but regions are late
    recipe TEXT NOT NULL,
    bundle TEXT NOT NULL,
    job BIGINT NOT NULL,
    dedupe TEXT UNIQUE,               -- of the trigger; NULL: none
    version BIGINT NOT NULL,          -- every write names the one that it read
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    detail TEXT NOT NULL              -- engine/rollout/deploy.h as JSON
);
CREATE INDEX deployment_live ON deployment (number) WHERE live = 1;
CREATE INDEX deployment_tending ON deployment (number) WHERE tending = 1;
CREATE INDEX deployment_service ON deployment (service, number);

-- What a person asked of a deployment. The conductor answers by setting result.
CREATE TABLE command (
    number {{id}},
    deployment TEXT NOT NULL,
    verb TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    result TEXT
);
CREATE INDEX command_open ON command (deployment, number) WHERE result IS NULL;

CREATE TABLE release (
    hash TEXT NOT NULL PRIMARY KEY,
    service TEXT NOT NULL,
    sha TEXT NOT NULL,
    recipe TEXT NOT NULL,
    doc {{blob}} NOT NULL,
    good BIGINT NOT NULL,             -- 1: a deployment of it succeeded
    created_at BIGINT NOT NULL
);
CREATE INDEX release_recipe ON release (service, recipe);

CREATE TABLE artifact (
    digest TEXT NOT NULL PRIMARY KEY,
    pack TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    pack_bytes BIGINT NOT NULL,
    files BIGINT NOT NULL,
    service TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- The latest goal of a service in a region; its generation only rises.
CREATE TABLE goal (
    service TEXT NOT NULL,
    region TEXT NOT NULL,
    generation BIGINT NOT NULL,
    seq BIGINT NOT NULL,              -- counter 'relay': what is new to a region node
    deployment TEXT NOT NULL,
    release TEXT NOT NULL,
    rollback_to TEXT NOT NULL,
    doc {{blob}} NOT NULL,
    PRIMARY KEY (service, region)
);

-- What region nodes are told beside goals: "replicate" (region '*') and "plan".
CREATE TABLE relay (
    deployment TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,
    seq BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (deployment, region, kind)
);

-- Questions to region nodes; the link side fills in the answer, the conductor takes it and deletes.
CREATE TABLE ask (
    deployment TEXT NOT NULL,
    key TEXT NOT NULL,
    region TEXT NOT NULL,
    kind TEXT NOT NULL,
    request TEXT NOT NULL,
    answer TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (deployment, key)
);

CREATE TABLE region (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,             -- the serve that has its link
    connected BIGINT NOT NULL,
    session_at BIGINT NOT NULL,       -- since when
    seen_at BIGINT NOT NULL,
    machines BIGINT NOT NULL,
    reachable BIGINT NOT NULL
);

CREATE TABLE replica (
    artifact TEXT NOT NULL,
    region TEXT NOT NULL,
    state TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    total BIGINT NOT NULL,
    origin_bytes BIGINT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (artifact, region)
);

CREATE TABLE counts (
    deployment TEXT NOT NULL,
    region TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (deployment, region)
);

CREATE TABLE event (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    deployment TEXT NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX event_deployment ON event (deployment, seq);

-- Every answer of a policy with what it was asked, so that it can be replayed. The same answer
-- again overwrites its row and counts up.
CREATE TABLE decision (
    number {{id}},
    deployment TEXT NOT NULL,
    question TEXT NOT NULL,
    action TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    bundle TEXT NOT NULL,
    input TEXT NOT NULL,
    output TEXT NOT NULL
);
CREATE INDEX decision_deployment ON decision (deployment, number);

-- hash = SHA-256 over the hash before and this row: a row that is changed or taken out shows.
CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    verb TEXT NOT NULL,
    object TEXT NOT NULL,
    reason TEXT NOT NULL,
    outcome TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL
);

CREATE TABLE token (
    hash TEXT NOT NULL PRIMARY KEY,   -- SHA-256 of the token; the token itself is nowhere here
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT                 -- NULL: never
);
