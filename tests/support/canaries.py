"""Collect every secret that a simulator issues, and search output for them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from bulkdl.simulator import Simulator
from bulkdl.simulator.tokens import Tokens


class Canaries:
    """All tokens and signatures that *simulator* issues, and the secrets that the test chose."""

    def __init__(self, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, *secrets: str) -> None:
        self.found: set[str] = set(secrets)
        create, sign = Tokens._create_token, simulator._signer.sign

        def created(tokens: Tokens, *args: Any) -> str:
            token = create(tokens, *args)
            self.found |= {token, *token.split(".")[1:]}
            return token

        def signed(*args: Any) -> str:
            url = sign(*args)
            (signature,) = re.findall(r"Signature=([^&]+)", url)
            self.found |= {signature, unquote(signature)}
            return url

        monkeypatch.setattr(Tokens, "_create_token", created)
        monkeypatch.setattr(simulator._signer, "sign", signed)

    def seen_in(self, text: str) -> list[str]:
        data = text.encode("utf-8", "replace")  # the search in bytes is five times as fast
        return [canary for canary in self.found if canary.encode() in data]


def read_everything_below(root: Path) -> str:
    """Return the paths and the contents of all files."""
    files = [path for path in root.rglob("*") if path.is_file()]
    texts = [f"{path}\n{path.read_bytes().decode('utf-8', 'replace')}" for path in files]
    return "\n".join(texts)
