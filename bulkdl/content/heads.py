"""Describe the first bytes of a body."""

from __future__ import annotations


def is_markup(head: bytes) -> bool:
    """Return whether *head* is empty or starts like HTML, XML or JSON."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{", b"[", b"")


def quote_head(head: bytes) -> str:
    """Return the start of *head* for a message."""
    return repr(head[:16])[1:] if head else "no data"
