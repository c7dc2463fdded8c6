"""Programs that read the STAC catalogue."""

from __future__ import annotations

from pathlib import Path

import odc.stac
import pystac
import pytest


@pytest.fixture(scope="module")
def root(catalog: Path) -> pystac.Catalog:
    return pystac.Catalog.from_file(str(catalog / "catalog.json"))


def test_pystac_validates_all_documents_of_the_catalogue(root: pystac.Catalog) -> None:
    """The schemas of the extensions are on a server, so that only the core is validated here."""
    root.validate()
    collections = list(root.get_collections())
    assert len(collections) == 2
    for collection in collections:
        collection.validate()
        for job in collection.get_children():
            job.validate()
    for item in root.get_items(recursive=True):
        item.stac_extensions = []
        item.validate()


def test_pystac_finds_every_asset_file(root: pystac.Catalog) -> None:
    hrefs = [
        asset.get_absolute_href()
        for item in root.get_items(recursive=True)
        for asset in item.get_assets().values()
    ]
    assert len(hrefs) > 200
    assert [href for href in hrefs if not Path(href).is_file()] == []


def test_pystac_links_lead_back_to_the_root(root: pystac.Catalog) -> None:
    item = next(iter(root.get_items(recursive=True)))
    assert item.get_root().id == root.id
    assert item.get_collection().id == item.collection_id


def test_items_have_unique_ids_and_no_absolute_link(root: pystac.Catalog, catalog: Path) -> None:
    items = list(root.get_items(recursive=True))
    assert len({item.id for item in items}) == len(items)
    for path in catalog.rglob("*.json"):
        assert str(catalog.parent) not in path.read_text("utf-8")
        assert '"href":"/' not in path.read_text("utf-8")


def test_odc_stac_loads_the_pixels_of_an_item(root: pystac.Catalog) -> None:
    item = next(
        item
        for item in root.get_items(recursive=True)
        if "data" in item.assets and "proj:transform" in item.assets["data"].extra_fields
    )
    item.assets = {"data": item.assets["data"]}
    # The pixels of the sample account are not square, so that the resolution cannot be guessed.
    loaded = odc.stac.load([item], bands=["data"], crs="EPSG:4326", resolution=0.001)
    assert loaded["data"].size > 0
    assert int(loaded["data"].max()) > 0
