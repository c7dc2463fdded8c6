"""The kinds of the outputs of UP42 jobs. This module loads early and therefore imports no other part."""

from __future__ import annotations

from typing import Any

from bulkdl.source_spec import (
    ERROR_PAGE_TYPES,
    AutoConcurrency,
    ContentChecks,
    KindSpec,
    OutputLabels,
    SourceFilters,
    SourceSpec,
)
from bulkdl.sources.up42_jobs.models import SOURCE, Kind

_MIB = 1 << 20


def _archive_checks(_filename: str) -> ContentChecks:
    from bulkdl.content.archive_checks import CHECKS  # noqa: PLC0415 - not needed to read settings

    return CHECKS


def _image_checks(_filename: str) -> ContentChecks:
    from bulkdl.content.image_checks import CHECKS  # noqa: PLC0415 - not needed to read settings

    return CHECKS


def _geojson_checks(_filename: str) -> ContentChecks:
    from bulkdl.content.geojson_checks import CHECKS  # noqa: PLC0415 - not needed to read settings

    return CHECKS


def _read_filters(settings: Any) -> SourceFilters:
    from bulkdl.sources.up42_jobs.filters import JobFilters  # noqa: PLC0415 - imports the settings

    return JobFilters(settings.mode, settings.workflow, settings.scope) if settings else JobFilters()


SPEC = SourceSpec(
    name=SOURCE,
    labels=OutputLabels("project_id", "job_id", "task_id"),
    kinds=(
        KindSpec(
            name=Kind.ARCHIVE.value,
            label="an archive",
            concurrency=AutoConcurrency(8, 32),
            max_size_bytes=_MIB * _MIB,
            load_checks=_archive_checks,
            is_large=True,
            suffixes=(".tar.gz", ".tar", ".zip", ".bin"),  # .bin is an unknown format with a checksum
            rejects_encoding=True,
        ),
        KindSpec(
            name=Kind.QUICKLOOK.value,
            label="a quicklook",
            concurrency=AutoConcurrency(16, 64),
            max_size_bytes=64 * _MIB,
            load_checks=_image_checks,
            has_names=True,
        ),
        KindSpec(
            name=Kind.GEOJSON.value,
            label="a GeoJSON file",
            concurrency=AutoConcurrency(16, 64),
            max_size_bytes=512 * _MIB,
            load_checks=_geojson_checks,
            error_page_types=ERROR_PAGE_TYPES - {"application/json"},
        ),
    ),
    read_filters=_read_filters,
    has_uuids=True,
    own_filters=("project", "mode", "workflow", "scope"),
    no_scopes=(
        "--project",
        "is missing: name a project, or set UP42_PROJECT_ID, or add [[projects]] tables",
    ),
    read_api_url=lambda settings: str(settings.api_url),
)
