"""The error of a notification."""

from __future__ import annotations


class NotificationError(Exception):
    """A notification was not delivered."""
