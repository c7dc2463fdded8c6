"""Command lines of the compared programs, each with its fastest options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.site import API_KEY, PROJECT, TOKEN

BULKDL = (str(Path(sys.executable).with_name("bulkdl")),)
ENVIRONMENT: Mapping[str, str] = {"UP42_PROJECT_ID": PROJECT, "UP42_PROJECT_API_KEY": API_KEY}


PLAIN_AIOHTTP = "a plain aiohttp loop"


@dataclass(frozen=True, slots=True)
class Link:
    """A URL and the relative path of its file."""

    url: str
    file: str


def bulkdl(command: str, api_url: str, folder: Path, *more: str) -> list[str]:
    """Return the command without a rate limit, because the other programs have none."""
    return [*BULKDL, command, "-o", str(folder), "--api-url", api_url, "--rate", "0", *more]


def aria2c(links: Sequence[Link], listing: Path, *more: str) -> list[str]:
    """Write the input file *listing* and return the command. ``--file-allocation=none`` is fastest."""
    listing.write_text("".join(f"{link.url}\n out={link.file}\n" for link in links))
    quiet = ["--console-log-level=error", "--summary-interval=0", "--download-result=hide", "-q"]
    token = f"--header=Authorization: Bearer {TOKEN}"
    return ["aria2c", "-i", str(listing), "--no-conf", "--file-allocation=none", token, *quiet, *more]


def curl(links: Sequence[Link], listing: Path, *more: str) -> list[str]:
    """Write the configuration file *listing* and return the command."""
    listing.write_text("".join(f'url = "{link.url}"\noutput = "{link.file}"\n' for link in links))
    token = ["-H", f"Authorization: Bearer {TOKEN}"]
    return ["curl", "-q", "-sS", "-f", "-Z", *token, *more, "-K", str(listing)]


def plain_aiohttp(links: Sequence[Link], listing: Path) -> list[str]:
    """Write the list *listing* and return the command."""
    listing.write_text("".join(f"{link.url} {link.file}\n" for link in links))
    return [sys.executable, str(Path(__file__).with_name("peer_aiohttp.py")), str(listing)]


def format_command(command: Sequence[str]) -> str:
    """Return *command* as text, without directories and ports of this machine."""
    words = [Path(word).name if word == BULKDL[0] else word for word in command]
    for option, name in (("-o", "DIR"), ("--api-url", "ORIGIN")):
        if option in words:
            words[words.index(option) + 1] = name
    return " ".join(words)
