"""Row 12: the catalogue of 100,000 outputs, and a second one after 100 new outputs."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from pathlib import Path

from bench.catalog_tree import ENTRIES_PER_JOB, OUTPUTS_PER_JOB, CatalogTree
from bench.measure import MIB, run_measured
from bench.pairs import FileTotals, ProgramRuns, VerificationError
from bench.result import RowResult, check_limit, summarize_cost
from bench.settings import BenchSettings

_JOBS, _NEW_JOBS = 10_000, 10
_FIRST_CPU_S, _SECOND_CPU_S, _MAX_MIB = 60.0, 15.0, 150.0


def measure(settings: BenchSettings) -> RowResult:
    outputs = _JOBS * OUTPUTS_PER_JOB
    result = RowResult("catalog", f"catalogue of {outputs:,} outputs of {_JOBS:,} jobs with unpacked rasters")
    scratch = settings.create_directory(result.name)
    tree = CatalogTree(scratch / "out", scratch / "contents")
    tree.add_jobs(_JOBS)
    first = _run(tree, scratch, "bulkdl catalog, first")
    tree.add_jobs(_NEW_JOBS)
    second = _run(tree, scratch, f"bulkdl catalog, after {_NEW_JOBS * OUTPUTS_PER_JOB} new outputs")
    result.command = "bulkdl catalog -o DIR"
    result.costs = [summarize_cost(first), summarize_cost(second)]
    peak = max(run.samples[0].peak_bytes for run in (first, second)) / MIB
    result.metrics = [
        check_limit("CPU of the first catalogue", first.samples[0].cpu_s, _FIRST_CPU_S, "s"),
        check_limit("CPU of the second catalogue", second.samples[0].cpu_s, _SECOND_CPU_S, "s"),
        check_limit("peak memory", peak, _MAX_MIB, "MiB"),
    ]
    shutil.rmtree(scratch)
    return result


def _run(tree: CatalogTree, scratch: Path, name: str) -> ProgramRuns:
    command = [sys.executable, "-m", "bulkdl", "catalog", "-o", str(tree.root), "--format", "json"]
    log = scratch / "catalog.log"
    sample = run_measured(command, log=log, cwd=scratch)
    if sample.exit_code:
        raise VerificationError(f"exit code {sample.exit_code}: {log.read_text()[-400:]}")
    runs = ProgramRuns(name)
    runs.samples.append(sample)
    runs.totals = _check(tree, json.loads(log.with_name(log.name + ".out").read_text()))
    return runs


def _check(tree: CatalogTree, document: dict[str, int]) -> FileTotals:
    expected = tree.jobs * ENTRIES_PER_JOB
    if document["entries"] != expected:
        raise VerificationError(f"{document['entries']} entries; expected {expected}")
    catalog = tree.root / "catalog"
    connection = sqlite3.connect(catalog / "outputs.gpkg")
    (rows,) = connection.execute("SELECT count(*) FROM outputs").fetchone()
    connection.close()
    items = sum(1 for _ in catalog.glob("*/*/*.json")) - tree.jobs
    if rows != expected or items != expected:
        raise VerificationError(f"{rows} rows and {items} items; expected {expected}")
    files = [path for path in catalog.rglob("*") if path.is_file()]
    return FileTotals(len(files), sum(path.stat().st_size for path in files))
