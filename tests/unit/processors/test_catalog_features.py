"""The bounds on the features of a task: none is left out without a note."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bulkdl.processors.catalog.features import MAX_FEATURES, read_features


def write_features(path: Path, count: int, padding: int) -> None:
    features = [
        {"type": "Feature", "id": str(number), "properties": {"x": "y" * padding}} for number in range(count)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


@pytest.mark.parametrize("padding", [1, 500], ids=["in memory", "as a stream"])
@pytest.mark.parametrize("more", [0, 1])
def test_features_above_the_bound_are_left_out_with_a_note(tmp_path: Path, padding: int, more: int) -> None:
    path = tmp_path / "data.json"
    write_features(path, MAX_FEATURES + more, padding)
    assert (path.stat().st_size > 4 << 20) is (padding == 500)
    notes: list[str] = []
    features = read_features(path, notes)
    assert [feature.id for feature in features] == [str(number) for number in range(MAX_FEATURES)]
    assert notes == ["Only the first 10000 features of data.json are listed."] * more


def test_features_behind_the_bound_of_a_stream_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    write_features(path, 30, 1 << 20)
    notes: list[str] = []
    count = len(read_features(path, notes))
    assert 0 < count < 30
    assert notes == [f"Only the first {count} features of data.json are listed."]
