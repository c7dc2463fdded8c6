"""
The keys of the outputs and documents of a delivery. The functions are pure.

The path of a file below the folder of its delivery is chosen when the delivery is listed, see
``planning.py``: a file name, or the folder of an item and a file name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bulkdl.listings import PlannedOutput
from bulkdl.models import Container, ContainerRef
from bulkdl.sources.path_values import create_values, fill_template
from bulkdl.sources.up42_storage.containers import asset_id_of_container
from bulkdl.sources.up42_storage.planning import ASSET_DOCUMENT, COLLECTION_DOCUMENT, DELIVERY_DOCUMENT

# The order in which a key is compared with the templates: those with fixed names first.
TEMPLATES = (
    "delivery",
    "collection",
    "asset",
    "asset_delivery",
    "item",
    "asset_file",
    "item_file",
    "original",
)
CONTAINER_TEMPLATES = ("delivery", "asset")
DOCUMENT_TEMPLATES = (*CONTAINER_TEMPLATES, "collection", "item", "asset_delivery")


def make_key(planned: PlannedOutput, templates: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function from the suffix, which depends on the content, to the key of an output."""
    ref = planned.output.container
    folder, _, filename = planned.filename.rpartition("/")
    if asset_id_of_container(ref) is not None:
        template = templates["asset_file"]
    else:
        template = templates["item_file"] if folder else templates["original"]
    fields = {**planned.path_values, **_fields(ref, folder)}

    def key(suffix: str) -> str:
        has_suffix = filename.lower().endswith(suffix)
        return fill_template(template, {**fields, "filename": filename if has_suffix else filename + suffix})

    return key


def create_path_values(templates: Mapping[str, str], container: Container) -> dict[str, str]:
    """Return the names and dates in the paths of a delivery. Those that were recorded are not changed."""
    attributes = container.attributes
    values = create_values(
        templates.values(),
        {
            "delivery_name": container.name,
            "collection_name": attributes.get("collection_name"),
            "order_id": attributes.get("order"),
            "order_name": attributes.get("order_name"),
            "created_at": container.created_at,
        },
    )
    return {**values, **container.path_values}


def document_key(container: Container, path: str, templates: Mapping[str, str]) -> str:
    """Return the key of the document at *path* below the folder of the delivery."""
    ref = container.ref
    folder, _, name = path.rpartition("/")
    is_original = asset_id_of_container(ref) is not None
    names = {
        ASSET_DOCUMENT: "asset",
        COLLECTION_DOCUMENT: "collection",
        DELIVERY_DOCUMENT: "asset_delivery" if is_original else "delivery",
    }
    template = templates["item"] if folder else templates[names[name]]
    return fill_template(template, {**container.path_values, **_fields(ref, folder)})


def _fields(ref: ContainerRef, folder: str) -> dict[str, str]:
    return {
        "workspace_id": ref.scope,
        "collection_id": ref.id,
        "asset_id": asset_id_of_container(ref) or "",
        "item_id": folder,
    }
