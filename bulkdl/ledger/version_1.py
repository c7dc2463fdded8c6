"""
Read and migrate ledgers of version 1, which recorded the jobs of UP42 only.

The same two SELECT statements convert the rows for the migration and for the views, through which a command
that must not write reads an older ledger.
"""

from __future__ import annotations

import sqlite3

# Reasons that version 1 recorded under another name.
FORMER_REASONS = {
    "up42_has_none": "not_available",
    "fetched": "downloaded",
    "already_there": "up_to_date",
    "digest_mismatch": "checksum_mismatch",
    "wrong_content": "unexpected_content",
    "broken_content": "corrupt_content",
    "bad_answer": "invalid_response",
    "refused": "rejected",
    "job_unfinished": "container_unfinished",
}

_CURRENT_REASON = (
    "CASE reason "
    + " ".join(f"WHEN '{former}' THEN '{reason}'" for former, reason in FORMER_REASONS.items())
    + " ELSE reason END"
)

_SELECT_CONTAINERS = f"""
SELECT
    id,
    'jobs' AS source,
    project_id AS scope,
    job_id AS container_id,
    status,
    CASE WHEN status IN ('SUCCEEDED', 'FAILED', 'ERROR', 'CANCELLED') THEN 1 ELSE 0 END AS is_final,
    rtrim(status || ' ' || coalesce(finished_at, '')) AS revision,
    created_at,
    finished_at,
    name,
    CASE WHEN workflow_id IS NULL THEN json_object('mode', mode)
         ELSE json_object('mode', mode, 'workflow', workflow_id) END AS attributes,
    CASE WHEN tasks_listed_at IS NULL THEN '[]'
         WHEN quicklooks_listed_at IS NULL THEN '["archive","geojson"]'
         ELSE '["archive","geojson","quicklook"]' END AS listed_kinds,
    {_CURRENT_REASON} AS reason,
    detail,
    '{{{{}}}}' AS path_values
FROM {{jobs}}
"""  # noqa: S608 - constants

_SELECT_OUTPUTS = f"""
SELECT
    id,
    job AS container,
    task_id AS parent,
    kind,
    name,
    filename,
    CASE WHEN kind = 'archive'
           AND task_id IN ('', (SELECT last_task_id FROM {{jobs}} WHERE {{jobs}}.id = job))
         THEN 'result' ELSE '' END AS identity,
    state,
    {_CURRENT_REASON} AS reason,
    detail,
    key,
    size_bytes,
    digest,
    etag,
    last_modified,
    generation,
    source AS object_url,
    attempts,
    run_id,
    recorded_at,
    NULL AS object_version
FROM {{outputs}}
"""  # noqa: S608 - constants

_SELECT_RUNS = """
SELECT run_id, started_at, finished_at, exit_code, NULL AS destination, summary FROM {runs}
"""

_SELECT_RUN_SOURCES = """
SELECT run_id, 'jobs' AS source, scope, exit_code FROM {runs} WHERE scope IS NOT NULL
"""

_DERIVED_COLUMNS = ("output", "processor", "version", "state", "key", "size_bytes", "digest", "detail")

_TABLES = """
CREATE TABLE containers (
    id           INTEGER PRIMARY KEY,
    source       TEXT NOT NULL,
    scope        TEXT NOT NULL,
    container_id TEXT NOT NULL,
    status       TEXT NOT NULL,
    is_final     INTEGER NOT NULL,
    revision     TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    finished_at  TEXT,
    name         TEXT,
    attributes   TEXT NOT NULL,
    listed_kinds TEXT NOT NULL DEFAULT '[]',
    reason       TEXT,
    detail       TEXT,
    path_values  TEXT NOT NULL DEFAULT '{}',
    UNIQUE (container_id, scope, source)
) STRICT;
CREATE TABLE outputs (
    id            INTEGER PRIMARY KEY,
    container     INTEGER NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    parent        TEXT NOT NULL,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    filename      TEXT NOT NULL,
    identity      TEXT NOT NULL DEFAULT '',
    state         TEXT NOT NULL CHECK (state IN ('planned', 'completed', 'skipped', 'failed', 'cancelled')),
    reason        TEXT,
    detail        TEXT,
    key           TEXT,
    size_bytes    INTEGER,
    digest        TEXT,
    etag          TEXT,
    last_modified TEXT,
    generation    TEXT,
    object_url    TEXT,
    attempts      INTEGER NOT NULL DEFAULT 0,
    run_id        TEXT,
    recorded_at   TEXT,
    object_version TEXT,
    UNIQUE (container, parent, kind, name)
) STRICT;
CREATE TABLE derived (
    output      INTEGER REFERENCES outputs (id) ON DELETE CASCADE,
    processor   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('completed', 'skipped', 'failed')),
    key         TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    digest      TEXT,
    detail      TEXT,
    recorded_at TEXT NOT NULL,
    UNIQUE (output, processor, key)
) STRICT;
CREATE INDEX derived_by_key ON derived (key);
CREATE TABLE obsolete_files (
    key        TEXT PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    digest     TEXT
) STRICT;
CREATE TABLE runs (
    run_id      TEXT PRIMARY KEY,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    exit_code   INTEGER,
    destination TEXT,
    summary     TEXT
) STRICT;
CREATE TABLE run_sources (
    run_id    TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
    source    TEXT NOT NULL,
    scope     TEXT,
    exit_code INTEGER,
    PRIMARY KEY (run_id, source)
) STRICT;
CREATE TABLE snapshot (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    ledger_id   TEXT NOT NULL,
    generation  INTEGER NOT NULL,
    key         TEXT,
    pending_key TEXT
) STRICT;
"""

# The old tables are renamed without changing references: the foreign key of the new table names the new one.
MIGRATION = f"""
PRAGMA legacy_alter_table = ON;
ALTER TABLE jobs RENAME TO jobs_1;
ALTER TABLE outputs RENAME TO outputs_1;
ALTER TABLE runs RENAME TO runs_1;
DROP INDEX outputs_by_state;
{_TABLES}
INSERT INTO containers {_SELECT_CONTAINERS.format(jobs="jobs_1")};
INSERT INTO outputs {_SELECT_OUTPUTS.format(jobs="jobs_1", outputs="outputs_1")};
INSERT INTO runs {_SELECT_RUNS.format(runs="runs_1")};
INSERT INTO run_sources {_SELECT_RUN_SOURCES.format(runs="runs_1")};
DROP TABLE outputs_1;
DROP TABLE jobs_1;
DROP TABLE runs_1;
CREATE INDEX outputs_by_state ON outputs (state);
CREATE INDEX outputs_by_identity ON outputs (identity) WHERE identity <> '';
PRAGMA legacy_alter_table = OFF;
"""


def create_views(connection: sqlite3.Connection) -> None:
    """
    Show a ledger of version 1 as one of the current version, in views that only this connection has.

    The database is not changed: SQLite keeps the views in memory.
    """
    no_rows = ", ".join(f"NULL AS {column}" for column in (*_DERIVED_COLUMNS, "recorded_at"))
    connection.execute("PRAGMA temp_store = MEMORY")
    for name, select in {
        "containers": _SELECT_CONTAINERS.format(jobs="main.jobs"),
        "outputs": _SELECT_OUTPUTS.format(jobs="main.jobs", outputs="main.outputs").replace(
            "main.jobs.id", "jobs.id"
        ),
        "runs": _SELECT_RUNS.format(runs="main.runs"),
        "run_sources": _SELECT_RUN_SOURCES.format(runs="main.runs"),
        "derived": f"SELECT {no_rows} WHERE 0",
    }.items():
        connection.execute(f"CREATE TEMP VIEW {name} AS {select}")
