"""Untrusted text for a terminal: control characters are visible, and JSON keeps its exact values."""

import json
import unicodedata

import pytest

from bulkdl.printable import json_text, printable
from bulkdl.sources.up42_jobs.models import Kind, job_output

HARMLESS = ["", "a b", "café", "衛星", "\u3000全角", "🛰", 'quote " and \\ backslash', "~!@#$%^&*()"]
HOSTILE = {
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "one\ntwo\r\tthree": "one\\ntwo\\r\\tthree",
    "\x00\x7f\x85\x9b31m": "\\x00\\x7f\\x85\\x9b31m",
    "gpj.\u202eexe": "gpj.\\u202eexe",
    "\u2066\u2069\u200e\u061c": "\\u2066\\u2069\\u200e\\u061c",
    "a\u2028b\u2029c": "a\\u2028b\\u2029c",
    "\ud800x\udcff": "\\ud800x\\udcff",
    "\U000e0041": "\\U000e0041",
}


@pytest.mark.parametrize("text", HARMLESS)
def test_printable_harmless_text_is_unchanged(text):
    assert printable(text) == text


@pytest.mark.parametrize(("text", "expected"), HOSTILE.items())
def test_printable_control_characters_are_escaped(text, expected):
    assert printable(text) == expected


def test_printable_escapes_all_control_characters():
    text = printable("".join(map(chr, range(0x110000))))
    assert {unicodedata.category(char) for char in text}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn"}
    )
    text.encode()


@pytest.mark.parametrize("text", [*HARMLESS, *HOSTILE])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_text_is_exact_and_printable_in_every_encoding(text, encoding):
    rendered = json_text({text: [text]}, encoding=encoding)
    assert json.loads(rendered.encode(encoding)) == {text: [text]}
    assert printable(rendered) == rendered


def test_json_text_keeps_letters_that_the_encoding_contains():
    assert json_text("café 🛰") == '"café 🛰"'
    assert json_text("café", encoding="ascii") == '"caf\\u00e9"'


def test_output_as_text_is_printable_and_its_identity_is_exact():
    hostile = job_output("p", "j", "t", Kind.QUICKLOOK, "\x1b[2J\nforged")
    literal = job_output("p", "j", "t", Kind.QUICKLOOK, "\\x1b[2J\\nforged")
    assert str(hostile) == str(literal) == "p/j/t/quicklook/\\x1b[2J\\nforged"
    assert hostile.identity != literal.identity
