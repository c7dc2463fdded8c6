from dataclasses import replace

import pytest

from bulkdl.simulator import SimulatedAccount
from bulkdl.simulator.lazy_bytes import read_all
from bulkdl.simulator.v2.bodies import create_body
from bulkdl.simulator.v2.item_assets import MEDIA_TYPES, AssetFile

FILES = {
    file.suffix: file
    for delivery in SimulatedAccount().deliveries.iter_deliveries()
    for file in SimulatedAccount().deliveries.files(delivery.number)
}


def test_default_storage_has_every_media_type() -> None:
    assert set(FILES) == set(MEDIA_TYPES)


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_body_is_reproducible_and_readable_at_any_offset(file: AssetFile) -> None:
    body = create_body(file)
    whole = read_all(body)
    assert len(whole) == body.size
    assert read_all(create_body(file)) == whole
    for start in (0, 1, body.size // 3, body.size - 1):
        assert create_body(file).read(start, body.size) == whole[start:]


@pytest.mark.parametrize("suffix", ["zip", "tgz", "tif", "tiff", "bigtiff", "jp2", "bin"])
@pytest.mark.parametrize("size_bytes", [100_000, 5 << 30])
def test_body_has_about_the_requested_size(suffix: str, size_bytes: int) -> None:
    body = create_body(replace(FILES[suffix], size_bytes=size_bytes))
    assert abs(body.size - size_bytes) < 5_000 or suffix in {"zip", "tgz"}
    assert len(body.read(body.size // 2, body.size // 2 + 1_000)) == 1_000


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_body_of_a_new_version_differs_and_can_be_longer(file: AssetFile) -> None:
    old, new, longer = create_body(file), create_body(file, 1), create_body(file, 1, 5_000)
    assert read_all(old) != read_all(new)
    assert longer.size > new.size
