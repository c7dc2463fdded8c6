-- The ledger, version 2. Timestamps are ISO 8601 in UTC. Sizes are in bytes.

CREATE TABLE containers (
    id           INTEGER PRIMARY KEY,
    source       TEXT NOT NULL,            -- name of the source, such as 'jobs'
    scope        TEXT NOT NULL,            -- what the container belongs to, such as a project ID
    container_id TEXT NOT NULL,            -- such as a job ID
    status       TEXT NOT NULL,
    is_final     INTEGER NOT NULL,         -- 1: its outputs do not change any more
    revision     TEXT NOT NULL,            -- differs after the container was produced again
    created_at   TEXT NOT NULL,
    finished_at  TEXT,
    name         TEXT,
    attributes   TEXT NOT NULL,            -- JSON object: values for the filters of the source
    -- JSON array of kinds, extended in the transaction that writes the rows of all outputs of these kinds.
    -- A run that selects another kind lists the container again.
    listed_kinds TEXT NOT NULL DEFAULT '[]',
    reason       TEXT,                     -- why its outputs could not be listed
    detail       TEXT,
    path_values  TEXT NOT NULL DEFAULT '{}', -- JSON object: names and dates in the paths of its outputs
    UNIQUE (container_id, scope, source)   -- the ID is first: queries also search for it alone
) STRICT;

CREATE TABLE outputs (
    id            INTEGER PRIMARY KEY,
    container     INTEGER NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    parent        TEXT NOT NULL,           -- such as a task ID; '': the container itself
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,           -- name from the server; '' if a parent has one output of the kind
    filename      TEXT NOT NULL,           -- safe file name for such a name; otherwise ''
    identity      TEXT NOT NULL DEFAULT '', -- outputs with the same text can be one stored object
    state         TEXT NOT NULL CHECK (state IN ('planned', 'completed', 'skipped', 'failed', 'cancelled')),
    reason        TEXT,
    detail        TEXT,
    key           TEXT,
    size_bytes    INTEGER,
    digest        TEXT,                    -- algorithm=base64, of the published file
    etag          TEXT,
    last_modified TEXT,
    generation    TEXT,
    object_url    TEXT,                    -- URL of the stored object, without its query
    attempts      INTEGER NOT NULL DEFAULT 0,
    run_id        TEXT,                    -- the run that recorded it last
    recorded_at   TEXT,
    object_version TEXT,                   -- of the published object, as the destination reported it
    UNIQUE (container, parent, kind, name)
) STRICT;

CREATE INDEX outputs_by_state ON outputs (state);
CREATE INDEX outputs_by_identity ON outputs (identity) WHERE identity <> '';

-- Results of processors. The row with the key '' holds the state of an output for a processor and the digest
-- of the processed file. The other rows are derived files. The step at the end of a run has no output.
CREATE TABLE derived (
    output      INTEGER REFERENCES outputs (id) ON DELETE CASCADE,
    processor   TEXT NOT NULL,
    version     INTEGER NOT NULL,          -- of the processor; another version processes the output again
    state       TEXT NOT NULL CHECK (state IN ('completed', 'skipped', 'failed')),
    key         TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    digest      TEXT,
    detail      TEXT,
    recorded_at TEXT NOT NULL,
    UNIQUE (output, processor, key)
) STRICT;
CREATE INDEX derived_by_key ON derived (key);

-- Derived files that the current result of their processor does not contain. They are deleted after that
-- result was recorded, by the same run or by a later one.
CREATE TABLE obsolete_files (
    key        TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    digest     TEXT                        -- NULL: a folder
) STRICT;

CREATE TABLE runs (
    run_id      TEXT PRIMARY KEY,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    exit_code   INTEGER,
    destination TEXT,                      -- NULL: recorded by version 1
    summary     TEXT                       -- JSON
) STRICT;

CREATE TABLE run_sources (
    run_id    TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    source    TEXT NOT NULL,
    scope     TEXT,                        -- runs of one scope share a watermark; NULL: no watermark
    exit_code INTEGER,                     -- of this source; NULL: the run has not finished
    PRIMARY KEY (run_id, source)
) STRICT;

-- At most one row: the state snapshot of this ledger that is in the destination.
CREATE TABLE snapshot (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id   TEXT NOT NULL,             -- equal for all snapshots of one ledger
    generation  INTEGER NOT NULL,          -- of the last snapshot that was published or restored; 0: none
    key         TEXT,                      -- of its object
    pending_key TEXT                       -- of an object whose publication may have succeeded
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
