from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bulkdl.settings import PathTemplates
from bulkdl.settings.path_templates import reserved_names
from bulkdl.sources.path_values import fill_template

SAMPLE = {"project_id": "p", "job_id": "j", "task_id": "t", "filename": "q.png", "suffix": ".tar.gz"}
SAMPLE |= {"workspace_id": "w", "collection_id": "c", "item_id": "i", "asset_id": "a"}


def test_path_templates_default_to_the_names_of_the_manual_download():
    filled = {key: template.format(**SAMPLE) for key, template in PathTemplates()}
    assert filled == {
        "job": "p/j/job.json",
        "job_tasks": "p/j/job_tasks.json",
        "job_archive": "p/j/final_output.tar.gz",
        "job_geojson": "p/j/job_output.json",
        "task_archive": "p/j/t/task_output.tar.gz",
        "task_geojson": "p/j/t/task_output.json",
        "task_quicklooks": "p/j/t/task_quicklook.json",
        "quicklook": "p/j/t/quicklooks/q.png",
        "collection": "w/c/collection.json",
        "delivery": "w/c/delivery.json",
        "original": "w/c/q.png",
        "item": "w/c/i/item.json",
        "item_file": "w/c/i/q.png",
        "asset": "w/assets/a/asset.json",
        "asset_delivery": "w/assets/a/delivery.json",
        "asset_file": "w/assets/a/q.png",
    }


@pytest.mark.parametrize(
    ("key", "template", "message"),
    [
        ("job", "{job_id}/{task_id}.json", "unknown placeholder {task_id}"),
        ("job", "{job_id}/{nope}.json", "allowed: {created_at}, {job_id}, {job_name}, {project_id}"),
        ("job", "{project_id}/job.json", "needs {job_id}"),
        ("job_archive", "{job_id}/final.tar.gz", "needs {suffix}"),
        ("task_geojson", "{job_id}/t.json", "needs {task_id}"),
        ("quicklook", "{job_id}/{task_id}/q.png", "needs {filename}"),
        ("quicklook", "{job_id}/{task_id}/q-{filename}", "whole last segment"),
        ("quicklook", "{job_id}/{task_id}/{filename}/x", "whole last segment"),
        ("job", "/{job_id}.json", "relative"),
        ("job", "C:/{job_id}.json", "relative"),
        ("job", "../{job_id}.json", "'..'"),
        ("job", "a/../{job_id}.json", "'..'"),
        ("job", "./{job_id}.json", "'.'"),
        ("job", "a//{job_id}.json", "without empty segments"),
        ("job", "{job_id}/", "without empty segments"),
        ("job", "a\\{job_id}.json", "forward slashes"),
        ("job", "a\n{job_id}.json", "control characters"),
        ("job", ".bulkdl/{job_id}.json", "reserved for the ledger"),
        ("job", ".BulkDL/{job_id}.json", "reserved for the ledger"),
        ("job", "{job_id!r}.json", "plain placeholders"),
        ("job", "{job_id:>9}.json", "plain placeholders"),
        ("job", "{job_id.__class__}.json", "unknown placeholder"),
        ("job", "{job_id}/{}.json", "unknown placeholder"),
        ("job", "{job_id", "plain placeholders"),
        ("job", "{job_nam}/{job_id}", "did you mean {job_name}?"),
        ("job", "{job_name}/job.json", "needs {job_id}"),
        ("job", "{block}/{job_id}.json", "unknown placeholder {block}"),
        ("task_geojson", "{delivery_name}/{task_id}", "unknown placeholder {delivery_name}"),
        ("asset", "{job_name}/{asset_id}", "unknown placeholder {job_name}"),
        ("job", "{created_at:%B}/{job_id}.json", "invalid date format '%B'"),
        ("job", "{created_at:%H:%M}/{job_id}.json", "invalid date format '%H:%M'"),
        ("job", "{created_at:year}/{job_id}.json", "invalid date format 'year'"),
        ("job", "{created_at:%Y/../x}/{job_id}.json", "invalid date format"),
        ("job", "{created_at!s}/{job_id}.json", "plain placeholders"),
        ("job", "{job_name:>9}/{job_id}.json", "only {created_at} has a format"),
        ("job", "{job_name}-{project_name}/{job_id}.json", "{job_name} and {project_name} with a slash"),
        ("item", "{collection_id}/{delivery_name}{item_id}/i.json", "{delivery_name} and {item_id}"),
        ("job", f"{'x' * 120}{{job_name}}-{{job_id}}.json", "at most 255 bytes"),
        ("job", "cat{job_name}/{job_id}.json", "reserved name 'catalog'"),
        ("job", ".{job_name}/{job_id}.json", "reserved name '.bulkdl'"),
        ("job", "{job_id}/c{job_name}/x.json", "reserved name 'com1'"),
        ("job", "catalog/{job_id}.json", "reserved for the catalogue"),
        ("job", "Index.html/{job_id}.json", "reserved for the catalogue"),
        ("job", "", "needs {job_id}"),
    ],
)
def test_path_templates_with_an_ambiguous_or_escaping_template_fail(key, template, message):
    with pytest.raises(ValidationError) as caught:
        PathTemplates(**{key: template})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "templates",
    [
        {"job": "{job_id}/x.json", "job_tasks": "{job_id}/x.json"},
        {"job": "{job_id}/x.json", "job_tasks": "{job_id}/X.JSON"},
        {"job": "{project_id}/{job_id}"},
        {"job_geojson": "{job_id}/a.zip", "job_archive": "{job_id}/a{suffix}"},
        {"job_geojson": "{job_id}/a.bin", "job_archive": "{job_id}/a{suffix}"},
        {"quicklook": "{project_id}/{job_id}/{task_id}/{filename}"},
        {"item": "{workspace_id}/{collection_id}/{item_id}.json"},
        {"item_file": "{workspace_id}/{collection_id}/x{item_id}/{filename}"},
        {"asset_file": "{asset_id}/{filename}", "asset": "{asset_id}/{asset_id}.json"},
        {"job": "{job_id}/{job_name}.json", "job_tasks": "{job_id}/tasks.json"},
        {"job": "{job_id}/{created_at:%Y}", "job_tasks": "{job_id}/2021"},
        {"job": "{job_id}/{created_at:%Y%m}", "job_tasks": "{job_id}/{created_at:%m%Y}"},
        {"job": "{job_id}/{job_name}.json", "job_tasks": "{job_id}/{created_at:%Y}.json"},
        {"job": "{job_name}/{job_id}.json", "job_tasks": "{job_id}/{job_name}.json"},
        {"job": "{job_id}/job.json", "task_geojson": "{job_id}/{block}/{task_id}.json"},
        {"delivery": "{collection_id}/{delivery_name}", "original": "{collection_id}/{filename}"},
        {"delivery": "{collection_id}/{delivery_name}.json", "item": "{collection_id}/{item_id}/a.json"},
        {"original": "{collection_id}/{filename}", "item_file": "{collection_id}/files/{item_id}/{filename}"},
    ],
)
def test_path_templates_with_colliding_templates_fail(templates):
    with pytest.raises(ValidationError, match="same path"):
        PathTemplates(**templates)


def test_path_templates_accept_other_layouts():
    PathTemplates(
        job="jobs/{job_id}.json",
        job_archive="{job_id}/archive{suffix}",
        quicklook="previews/{job_id}/{task_id}/{filename}",
        job_geojson="{job_id}/{{literal}}.json",
        item="{workspace_id}/{collection_id}/{item_id}/stac.json",
        original="originals/{collection_id}/{filename}",
    )


def test_path_templates_accept_names_and_dates():
    job = "{project_name}/{created_at:%Y/%m} {job_name} {job_id}"
    PathTemplates(
        job=f"{job}/job.json",
        job_archive="{created_at}/{job_id}{suffix}",
        task_archive=f"{job}/{{block}}_{{task_id}}/archive{{suffix}}",
        original="{delivery_name}/{created_at:%Y-%m}/{collection_id}/{filename}",
        asset="{order_name}/{asset_id}/asset.json",
        asset_delivery="{order_name}/{asset_id}/delivery.json",
    )


def test_path_templates_of_assets_that_a_rebuild_cannot_find_fail():
    with pytest.raises(ValidationError, match=r"asset needs \{order_name\}"):
        PathTemplates(asset_delivery="{order_name}/{asset_id}/delivery.json")


def test_reserved_names_are_those_of_the_documents_of_deliveries():
    templates = dict(PathTemplates(item="{collection_id}/{item_id}/STAC.json", asset="{asset_id}.json"))
    assert reserved_names(templates) == {"collection.json", "delivery.json", "stac.json"}


@given(st.text(alphabet="ab./\\{}job_id:~ ", max_size=30))
def test_path_templates_never_leave_the_directory(text):
    try:
        names = PathTemplates(job=text)
    except ValidationError:
        return
    path = fill_template(names.job, {"project_id": "p", "job_id": "j"})
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert "j" in path
