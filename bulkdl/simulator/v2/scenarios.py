"""
Define the delivery scenarios of today's API: one example of each case, and random scenarios for the others.

The position of a delivery number in a period of ten determines what produced it (``Origin``), so that orders
and processing jobs can be listed without a table. The first thirty numbers are the cases of ``SCENARIOS``.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, StrEnum

PERIOD = 10
ORDER_LENGTHS = {0: 1, 1: 2, 4: 1, 6: 3}  # deliveries of an order, by the position of its first delivery
JOB_POSITIONS = (3, 9)
UPLOAD_POSITION = 5


class Extraction(StrEnum):
    """The value of ``geospatialMetadataExtractionStatus``."""

    NOT_PROCESSED = "NOT_PROCESSED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCESSFUL = "SUCCESSFUL"
    FAILED = "FAILED"


class Form(Enum):
    """The content of the items of a delivery."""

    SCENE = "scene"  # rasters, preview, metadata (the cloud-native asset model, CNAM)
    SENTINEL = "sentinel"  # 21 assets with the same keys in each item
    EVERY_TYPE = "every type"  # one asset of each media type
    ORIGINAL = "original"  # one asset ``data``: the original again (before CNAM)
    HOSTILE = "hostile"  # keys that are not valid file names
    FOREIGN = "foreign"  # some hrefs on another host
    SAME_OBJECT = "same object"  # two keys with the same asset, one href that ends in /download-url
    VECTOR = "vector"  # one GeoJSON file
    CASE = "case"  # keys that differ only in case
    NONE = "none"  # no items


@dataclass(frozen=True, slots=True)
class DeliveryScenario:
    """
    The scenario of one delivery.

    Attributes:
        items: Number of items. None selects a random number from the range of the account.
        suffix: Suffix of the original (``zip``, ``tgz``, ``tif``). Empty without an original.
        has_collection: The delivery is a STAC collection. Otherwise it is only in ``/v2/assets``.
        lists_original: The collection has the original as an asset.
        extraction: Status of the original until the account is settled.
        job_status: Status of the processing job until the account is settled. A job without a result has
            no delivery.
        is_old: A block output from before 2023: no order, source, product or name.
        content_type: ``contentType`` in ``/v2/assets`` if it does not match the content.
    """

    form: Form = Form.SCENE
    items: int | None = 1
    suffix: str = "zip"
    has_collection: bool = True
    lists_original: bool = True
    extraction: Extraction = Extraction.SUCCESSFUL
    job_status: str = "successful"
    is_old: bool = False
    has_no_name: bool = False
    content_type: str = ""

    @property
    def is_settled(self) -> bool:
        return self.extraction is not Extraction.IN_PROGRESS and self.job_status != "running"

    @property
    def has_result(self) -> bool:
        return self.job_status in {"successful", "captured"}


SCENARIOS = (
    DeliveryScenario(Form.EVERY_TYPE),
    DeliveryScenario(Form.ORIGINAL, lists_original=False),
    DeliveryScenario(Form.ORIGINAL),
    DeliveryScenario(suffix="", lists_original=False),
    DeliveryScenario(Form.SENTINEL, items=2),
    DeliveryScenario(Form.NONE, items=0, has_collection=False, extraction=Extraction.NOT_PROCESSED),
    DeliveryScenario(items=3),
    DeliveryScenario(extraction=Extraction.IN_PROGRESS),
    DeliveryScenario(extraction=Extraction.IN_PROGRESS, has_collection=False),
    DeliveryScenario(suffix="", has_collection=False, items=0, job_status="failed"),
    DeliveryScenario(Form.HOSTILE),
    DeliveryScenario(Form.FOREIGN),
    DeliveryScenario(suffix="tgz", content_type="application/zip"),
    DeliveryScenario(suffix="tgz"),
    DeliveryScenario(Form.NONE, items=0, has_collection=False, extraction=Extraction.FAILED),
    DeliveryScenario(Form.ORIGINAL, suffix="tgz", lists_original=False, is_old=True, has_no_name=True),
    DeliveryScenario(items=2, lists_original=False),
    DeliveryScenario(Form.SAME_OBJECT),
    DeliveryScenario(has_no_name=True, content_type="application/gzip"),
    DeliveryScenario(suffix="", lists_original=False, job_status="running"),
    DeliveryScenario(Form.NONE, items=0),
    DeliveryScenario(Form.CASE),
    DeliveryScenario(Form.CASE, suffix="tgz"),
    DeliveryScenario(Form.VECTOR, suffix="", lists_original=False, job_status="captured"),
    DeliveryScenario(items=2, suffix="tgz"),
    DeliveryScenario(suffix="tif"),
    DeliveryScenario(),
    DeliveryScenario(items=2),
    DeliveryScenario(items=3),
    DeliveryScenario(suffix="", has_collection=False, items=0, job_status="rejected"),
)

_RANDOM_JOB = DeliveryScenario(items=None, suffix="", lists_original=False)
_RANDOM_FAILED_JOB = DeliveryScenario(suffix="", has_collection=False, items=0, job_status="failed")
_RANDOM_UPLOAD = DeliveryScenario(
    Form.NONE, items=0, has_collection=False, extraction=Extraction.NOT_PROCESSED
)
_OLD_SHARE = 0.15  # deliveries without item assets of their own


def create_scenario(number: int, rng: random.Random) -> DeliveryScenario:
    """Return the scenario of delivery *number*. Its files depend on the position only."""
    if number < len(SCENARIOS):
        return SCENARIOS[number]
    position = number % PERIOD
    if position == UPLOAD_POSITION:
        return _RANDOM_UPLOAD
    if position in JOB_POSITIONS:
        return _RANDOM_JOB if position == JOB_POSITIONS[0] else _RANDOM_FAILED_JOB
    suffix = rng.choices(("zip", "tgz"), (8, 1))[0]
    if rng.random() < _OLD_SHARE:
        return DeliveryScenario(Form.ORIGINAL, suffix=suffix, lists_original=rng.random() < 0.5)
    return DeliveryScenario(items=None, suffix=suffix)
