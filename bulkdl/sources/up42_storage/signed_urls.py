"""
Request the signed URLs of one account.

The name of an asset without a name is in its signed URL. The listing requests this URL, and the download of
the asset uses the same URL if it is still valid, so that one signature is enough.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from bulkdl.sources.up42_storage.client import StorageClient
from bulkdl.transfer.remote_files import SignedUrl

# A URL has a few hundred bytes. The downloads of many assets can be later than the listing.
MAX_KEPT_URLS = 1_000
# The download must begin before the URL expires.
_MIN_VALIDITY_S = 10.0


def _now() -> datetime:
    return datetime.now(UTC)


class SignedUrls:
    """Requests signed URLs, and keeps those that were requested before the download of their asset."""

    def __init__(self, client: StorageClient, clock: Callable[[], datetime] = _now) -> None:
        self._client = client
        self._clock = clock
        self._kept: OrderedDict[str, str] = OrderedDict()

    async def request_early(self, asset_id: str) -> str:
        """
        Request a signed URL and keep it for the download of the asset.

        Raises:
            ApiError: The request failed.
        """
        url = await self._client.sign(asset_id)
        self._kept[asset_id] = url
        while len(self._kept) > MAX_KEPT_URLS:
            self._kept.popitem(last=False)
        return url

    async def request(self, asset_id: str) -> str:
        """
        Return the kept URL of an asset, once, if it is still valid. Otherwise request a URL.

        Raises:
            ApiError: The request failed.
        """
        kept = self._kept.pop(asset_id, None)
        if kept is not None and self._is_valid(SignedUrl.parse(kept)):
            return kept
        return await self._client.sign(asset_id)

    def _is_valid(self, url: SignedUrl) -> bool:
        """Return whether *url* is valid long enough. A URL without a readable expiry is not."""
        return url.expires_at is not None and url.is_valid_at(self._clock(), _MIN_VALIDITY_S)
