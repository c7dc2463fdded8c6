"""Specifications of sources and kinds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from bulkdl import source_spec
from bulkdl.models import ContainerRef, Output
from bulkdl.source_spec import (
    AutoConcurrency,
    KindSpec,
    OutputLabels,
    SourceSpec,
    file_suffixes,
    is_listing_placeholder,
    kind_names,
    kind_spec,
    output_fields,
    register_source,
)
from bulkdl.sources.up42_jobs.models import Kind, job_output
from bulkdl.sources.up42_jobs.spec import SPEC

NOTE = KindSpec("note", "a note", AutoConcurrency(1, 2), 100, kind_spec("geojson").load_checks)
NOTES = SourceSpec("notes", OutputLabels("user", "book", "page"), (NOTE,))


@pytest.fixture
def registry():
    """A registry of its own for each test."""
    source_spec._registry.cache_clear()
    yield source_spec._registry()
    source_spec._registry.cache_clear()


def test_kind_spec_is_found_by_name_and_by_enumeration_member():
    assert [kind_spec(kind).name for kind in Kind] == ["archive", "quicklook", "geojson"]
    assert kind_spec("archive") is kind_spec(Kind.ARCHIVE) is SPEC.kinds[0]
    assert kind_names()[:3] == ("archive", "quicklook", "geojson")


def test_kind_spec_of_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError, match="picture"):
        kind_spec("picture")


def test_only_archives_are_large_and_have_several_suffixes():
    assert [kind.name for kind in SPEC.kinds if kind.is_large] == ["archive"]
    assert [kind.name for kind in SPEC.kinds if kind.rejects_encoding] == ["archive"]
    assert [kind.name for kind in SPEC.kinds if len(kind.suffixes) > 1] == ["archive"]
    assert file_suffixes()[:4] == (".tar.gz", ".tar", ".zip", ".bin")


def test_register_source_makes_its_kinds_known(registry):
    register_source(NOTES)
    assert kind_spec("note") is NOTE
    assert kind_names()[-1] == "note"
    output = Output(ContainerRef("notes", "me", "b1"), "", "note")
    assert output_fields(output) == {"user": "me", "book": "b1", "page": None}


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        (replace(NOTES, name="jobs"), "source 'jobs' is registered already"),
        (replace(NOTES, kinds=(replace(NOTE, name="archive"),)), "kind 'archive' is registered already"),
        (replace(NOTES, kinds=(NOTE, NOTE)), "kind 'note' is registered already"),
        (replace(NOTES, kinds=(replace(NOTE, name="a.b"),)), "invalid name 'a.b'"),
        (replace(NOTES, name="Notes"), "invalid name 'Notes'"),
    ],
)
def test_register_source_rejects_a_name_that_is_taken_or_invalid(registry, spec, problem):
    before = kind_names()
    with pytest.raises(ValueError, match=problem):
        register_source(spec)
    assert kind_names() == before


def test_is_listing_placeholder_is_true_only_for_a_kind_with_names_without_a_name():
    assert is_listing_placeholder(job_output("p", "j", "t", "quicklook"))
    assert not is_listing_placeholder(job_output("p", "j", "t", "quicklook", "a.jpg"))
    assert not is_listing_placeholder(job_output("p", "j", "t", "archive"))


def test_kinds_are_known_without_loading_content_checks_or_the_client():
    program = (
        "import sys; from bulkdl.source_spec import kind_names; kind_names();"
        "print([name for name in sys.modules if name.split('.')[0] in ('ijson', 'aiohttp', 'pydantic')"
        " or name.startswith(('bulkdl.content', 'bulkdl.archives', 'bulkdl.sources.up42_common'))])"
    )
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
