import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkdl.sources.up42_storage.file_names import add_suffix, choose_filenames
from bulkdl.sources.up42_storage.models import Collection, Item, Original, StacAsset
from bulkdl.sources.up42_storage.planning import asset_id_of, find_kind, plan_delivery, plan_original

ORIGINAL = Original("a0", "w", None, "order.zip", "", "application/zip", 5, "o", "phr", "SUCCESSFUL")


def _collection(*assets, asset_id=None):
    return Collection("c", "w", "", asset_id, None, "", None, "", assets)


def _item(identity, *assets):
    return Item(identity, "c", "w", None, None, assets)


def _asset(key, asset_id, *roles, media_type=""):
    return StacAsset(key, asset_id, media_type, frozenset(roles))


def _files(plan):
    return [(file.item_id, file.kind, file.name, file.path) for file in plan.files]


def test_plan_delivery_of_cnam_has_original_and_item_assets():
    collection = _collection(_asset("k7c2_delivery.zip", "a0", "data", "original"), asset_id="a0")
    item = _item(
        "i1",
        _asset("b01.tiff", "a1", "data"),
        _asset("preview.jpg", "a2", "preview"),
        _asset("metadata.xml", "a3", "metadata"),
        _asset("external.tiff", None, "data"),
    )
    assert _files(plan_delivery(collection, [item], ORIGINAL)) == [
        ("", "original", "a0", "k7c2_delivery.zip"),
        ("i1", "asset", "a1", "i1/b01.tiff"),
        ("i1", "preview", "a2", "i1/preview.jpg"),
        ("i1", "metadata", "a3", "i1/metadata.xml"),
    ]


@pytest.mark.parametrize("listed", [ORIGINAL, None])
def test_plan_delivery_before_cnam_repeats_the_original_in_its_item(listed):
    item = _item("i1", _asset("data", "a0", "data", media_type="application/zip"))
    name = "order.zip" if listed else "data.zip"
    assert _files(plan_delivery(_collection(asset_id="a0"), [item], listed)) == [
        ("", "original", "a0", name),
        ("i1", "original", "a0", f"i1/{name}"),
    ]


def test_plan_delivery_original_id_without_an_asset_is_ignored():
    assert _files(plan_delivery(_collection(asset_id="a0"), [], None)) == []


def test_plan_delivery_two_keys_of_one_asset_are_two_outputs_of_one_identity():
    item = _item("i1", _asset("b01.tiff", "a1", "data"), _asset("b02.tiff", "a1", "data"))
    files = plan_delivery(_collection(), [item], None).files
    assert [(file.name, file.asset_id, file.path) for file in files] == [
        ("a1", "a1", "i1/b01.tiff"),
        ("a1/b02.tiff", "a1", "i1/b02.tiff"),
    ]
    assert asset_id_of("a1/b/02.tiff") == "a1"


def test_plan_delivery_names_that_collide_get_a_hash():
    collection = _collection(
        _asset("collection.json", "a0", "original"), _asset("I1", "a1"), _asset("x.tif", "a2")
    )
    items = [
        _item("i1", _asset("item.json", "a3"), _asset("A.tif", "a4"), _asset("a.tif", "a5")),
        _item(".."),
    ]
    plan = plan_delivery(collection, items, None)
    paths = [file.path for file in plan.files] + [
        f"{folder}/item.json" for folder in plan.item_folders.values()
    ]
    paths.append("collection.json")
    assert len({path.casefold() for path in paths}) == len(paths)
    assert not {path.casefold() for path in paths} & {
        folder.casefold() for folder in plan.item_folders.values()
    }
    assert "x.tif" in paths
    assert ".." not in {part for path in paths for part in path.split("/")}


@given(
    st.lists(st.tuples(st.text(max_size=8), st.dictionaries(st.text(max_size=8), st.sampled_from("abc")))),
    st.dictionaries(st.text(max_size=8), st.sampled_from(["a", "b", None])),
)
def test_plan_delivery_any_names_give_distinct_safe_paths(items, own):
    unique = {identity: assets for identity, assets in items if identity}
    plan = plan_delivery(
        _collection(*(_asset(key, asset_id) for key, asset_id in own.items())),
        [
            _item(identity, *(_asset(key, asset_id) for key, asset_id in assets.items()))
            for identity, assets in unique.items()
        ],
        None,
    )
    paths = [file.path for file in plan.files]
    assert len({path.casefold() for path in paths}) == len(paths)
    assert len({(file.item_id, file.kind, file.name) for file in plan.files}) == len(paths)
    for file in plan.files:
        parts = file.path.split("/")
        assert len(parts) == (2 if file.item_id else 1)
        assert not {"", ".", ".."} & set(parts)


@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [("", "application/zip", "a0.zip"), ("order.tgz", "application/zip", "order.tgz"), ("../x", "", None)],
)
def test_plan_original_uses_its_name_and_a_suffix_of_its_type(name, media_type, expected):
    original = Original("a0", "w", None, name, "", media_type, None, None, "", "")
    (file,) = plan_original(original)
    assert file.path == expected or (expected is None and "/" not in file.path and file.path != "../x")


def test_plan_original_without_name_uses_the_fallback():
    original = Original("a0", "w", None, "", "", "application/gzip", None, None, "", "")
    (file,) = plan_original(original, "DS_SPOT6")
    assert file.path == "DS_SPOT6.tgz"


@pytest.mark.parametrize(
    ("key", "roles", "kind"),
    [
        ("x", {"data", "original"}, "original"),
        ("x", {"thumbnail"}, "preview"),
        ("x", {"metadata"}, "metadata"),
        ("mask.geojson", {"mask"}, "asset"),
        ("metadata.xml", {"data"}, "asset"),
        ("preview.jpg", set(), "preview"),
        ("licence.txt", set(), "metadata"),
        ("b01.tiff", set(), "asset"),
    ],
)
def test_find_kind_uses_roles_before_the_name(key, roles, kind):
    assert find_kind(_asset(key, "a", *roles)) == kind


@pytest.mark.parametrize(
    ("name", "media_type", "expected"),
    [
        ("data", "application/zip", "data.zip"),
        ("b01.tiff", "image/jp2", "b01.tiff"),
        ("scene_1.5", "image/tiff; application=geotiff", "scene_1.5.tiff"),
        ("x.licence with spaces", "text/plain", "x.licence with spaces.txt"),
        ("plain", "application/unknown", "plain"),
        (".hidden", "application/pdf", ".hidden.pdf"),
    ],
)
def test_add_suffix_only_to_names_without_one(name, media_type, expected):
    assert add_suffix(name, media_type) == expected


def test_choose_filenames_does_not_depend_on_the_order():
    wanted = {"1": "a.tif", "2": "A.tif", "3": "a.tif", "4": "b.tif"}
    chosen = choose_filenames(wanted)
    assert chosen == choose_filenames(dict(reversed(wanted.items())))
    assert chosen["4"] == "b.tif"
    assert len({name.casefold() for name in chosen.values()}) == 4
