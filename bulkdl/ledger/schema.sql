-- The ledger, version 1. Moments are ISO 8601 in UTC; sizes are bytes.

CREATE TABLE jobs (
    id                   INTEGER PRIMARY KEY,
    project_id           TEXT NOT NULL,
    job_id               TEXT NOT NULL,
    status               TEXT NOT NULL,
    created_at           TEXT NOT NULL,
    finished_at          TEXT,
    mode                 TEXT NOT NULL,
    name                 TEXT,
    workflow_id          TEXT,
    last_task_id         TEXT,
    reason               TEXT,             -- why it could not be listed
    detail               TEXT,
    -- Set in the same transaction that holds the rows of all outputs: NULL means "list again".
    tasks_listed_at      TEXT,
    quicklooks_listed_at TEXT,
    UNIQUE (job_id, project_id)            -- also found by its id alone
) STRICT;

CREATE TABLE outputs (
    id            INTEGER PRIMARY KEY,
    job           INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_id       TEXT NOT NULL,           -- '' at job level
    kind          TEXT NOT NULL CHECK (kind IN ('archive', 'quicklook', 'geojson')),
    name          TEXT NOT NULL,           -- a quicklook's name as UP42 gave it; '' for the other kinds
    filename      TEXT NOT NULL,           -- what that name became on disk; '' for the other kinds
    state         TEXT NOT NULL CHECK (state IN ('planned', 'completed', 'skipped', 'failed', 'cancelled')),
    reason        TEXT,
    detail        TEXT,
    key           TEXT,
    size_bytes    INTEGER,
    digest        TEXT,                    -- algorithm=base64, of the bytes on disk
    etag          TEXT,
    last_modified TEXT,
    generation    TEXT,
    source        TEXT,                    -- URL of the object, without its query
    attempts      INTEGER NOT NULL DEFAULT 0,
    run_id        TEXT,                    -- the run that last touched it
    recorded_at   TEXT,
    UNIQUE (job, task_id, kind, name)
) STRICT;

CREATE INDEX outputs_by_state ON outputs (state);

CREATE TABLE runs (
    run_id      TEXT PRIMARY KEY,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    exit_code   INTEGER,
    scope       TEXT,                      -- runs of one scope share a watermark; NULL: it sets none
    summary     TEXT                       -- JSON
) STRICT;

-- At most one row: the run that writes to this directory now. A heartbeat, because file locks are not
-- reliable on every network file system. Every later version keeps this table as it is: a run acquires
-- the lease before it migrates the ledger.
CREATE TABLE lease (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    run_id   TEXT NOT NULL,
    host     TEXT NOT NULL,
    pid      INTEGER NOT NULL,
    process  TEXT NOT NULL DEFAULT '',     -- start time of that process, in the kernel's ticks
    since_at TEXT NOT NULL,
    beat_at  TEXT NOT NULL
) STRICT;
