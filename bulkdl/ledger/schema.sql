-- The ledger, version 1. Timestamps are ISO 8601 in UTC. Sizes are in bytes.

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
    reason               TEXT,             -- why its tasks could not be listed
    detail               TEXT,
    -- Set in the transaction that writes the rows of all outputs. NULL: the next run lists the job again.
    tasks_listed_at      TEXT,
    quicklooks_listed_at TEXT,
    UNIQUE (job_id, project_id)            -- the ID is first: queries also search for it alone
) STRICT;

CREATE TABLE outputs (
    id            INTEGER PRIMARY KEY,
    job           INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    task_id       TEXT NOT NULL,           -- '' at job level
    kind          TEXT NOT NULL CHECK (kind IN ('archive', 'quicklook', 'geojson')),
    name          TEXT NOT NULL,           -- the quicklook's name from UP42; '' for the other kinds
    filename      TEXT NOT NULL,           -- the quicklook's file name; '' for the other kinds
    state         TEXT NOT NULL CHECK (state IN ('planned', 'completed', 'skipped', 'failed', 'cancelled')),
    reason        TEXT,
    detail        TEXT,
    key           TEXT,
    size_bytes    INTEGER,
    digest        TEXT,                    -- algorithm=base64, of the file on disk
    etag          TEXT,
    last_modified TEXT,
    generation    TEXT,
    source        TEXT,                    -- URL of the object, without its query
    attempts      INTEGER NOT NULL DEFAULT 0,
    run_id        TEXT,                    -- the run that recorded it last
    recorded_at   TEXT,
    UNIQUE (job, task_id, kind, name)
) STRICT;

CREATE INDEX outputs_by_state ON outputs (state);

CREATE TABLE runs (
    run_id      TEXT PRIMARY KEY,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    exit_code   INTEGER,
    scope       TEXT,                      -- runs of one scope share a watermark; NULL: no watermark
    summary     TEXT                       -- JSON
) STRICT;

-- At most one row: the run that writes to this directory now. It has a heartbeat, because file locks are
-- not reliable on every network file system. Every later version keeps this table as it is: a run acquires
-- the lease before it migrates the ledger.
CREATE TABLE lease (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    run_id   TEXT NOT NULL,
    host     TEXT NOT NULL,
    pid      INTEGER NOT NULL,
    process  TEXT NOT NULL DEFAULT '',     -- start time of the process, in the kernel's ticks
    since_at TEXT NOT NULL,
    beat_at  TEXT NOT NULL
) STRICT;
