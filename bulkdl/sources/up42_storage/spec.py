"""The kinds of the outputs of today's API. This module loads early and therefore imports no other part."""

from __future__ import annotations

from typing import Any

from bulkdl.source_spec import (
    AutoConcurrency,
    ContentChecks,
    KindSpec,
    OutputLabels,
    SourceFilters,
    SourceSpec,
)

SOURCE = "storage"
ORIGINAL, ASSET, PREVIEW, METADATA = "original", "asset", "preview", "metadata"
KINDS = (ORIGINAL, ASSET, PREVIEW, METADATA)

_MIB = 1 << 20
# Assets can be XML and JSON documents. The checks of their content recognise error documents.
_ERROR_PAGE_TYPES = frozenset({"text/html", "application/problem+json"})


def _original_checks(filename: str) -> ContentChecks:
    from bulkdl.content.media_types import checks_for_original  # noqa: PLC0415 - not needed for settings

    return checks_for_original(filename)


def _asset_checks(filename: str) -> ContentChecks:
    from bulkdl.content.media_types import checks_for_asset  # noqa: PLC0415 - not needed for settings

    return checks_for_asset(filename)


def _read_filters(settings: Any) -> SourceFilters:
    from bulkdl.sources.up42_storage.filters import DeliveryFilters  # noqa: PLC0415 - not needed for settings

    return DeliveryFilters(settings.workspace, settings.order) if settings else DeliveryFilters()


SPEC = SourceSpec(
    name=SOURCE,
    labels=OutputLabels("workspace_id", "delivery_id", "item_id", listed="account", plural="deliveries"),
    kinds=(
        KindSpec(
            name=ORIGINAL,
            label="an original",
            concurrency=AutoConcurrency(8, 32),
            max_size_bytes=_MIB * _MIB,
            load_checks=_original_checks,
            is_large=True,
            has_names=True,
            # The suffix of an original whose name has none; .bin is an unknown format with a checksum.
            suffixes=("", ".zip", ".tgz", ".tar", ".tiff", ".jp2", ".bin"),
            error_page_types=_ERROR_PAGE_TYPES,
            rejects_encoding=True,
        ),
        KindSpec(
            name=ASSET,
            label="an asset",
            concurrency=AutoConcurrency(16, 64),
            large_concurrency=AutoConcurrency(8, 32),
            max_size_bytes=_MIB * _MIB,
            load_checks=_asset_checks,
            is_large=True,
            has_names=True,
            error_page_types=_ERROR_PAGE_TYPES,
            rejects_encoding=True,
        ),
        KindSpec(
            name=PREVIEW,
            label="a preview",
            concurrency=AutoConcurrency(16, 64),
            max_size_bytes=512 * _MIB,
            load_checks=_asset_checks,
            has_names=True,
            is_in_storage=True,
            error_page_types=_ERROR_PAGE_TYPES,
            rejects_encoding=True,
        ),
        KindSpec(
            name=METADATA,
            label="a metadata file",
            concurrency=AutoConcurrency(16, 64),
            max_size_bytes=512 * _MIB,
            load_checks=_asset_checks,
            has_names=True,
            is_in_storage=True,
            error_page_types=_ERROR_PAGE_TYPES,
            rejects_encoding=True,
        ),
    ),
    read_filters=_read_filters,
    lists_scopes=False,
    has_global_identities=True,
    own_filters=("collection", "workspace", "order"),
    no_scopes=("credentials", "name no account: set UP42_USERNAME, or add [[accounts]] tables"),
    read_api_url=lambda settings: str(settings.account_api_url),
)
