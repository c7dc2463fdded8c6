"""The table of derived files, for ledgers that a test creates."""

DERIVED_TABLE = """
CREATE TABLE IF NOT EXISTS derived (
    output      INTEGER REFERENCES outputs (id) ON DELETE CASCADE,
    processor   TEXT NOT NULL,
    version     INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('completed', 'failed', 'skipped')),
    key         TEXT NOT NULL,
    size_bytes  INTEGER,
    digest      TEXT,
    detail      TEXT,
    recorded_at TEXT NOT NULL,
    UNIQUE (output, processor, key)
) STRICT
"""
