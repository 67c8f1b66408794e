"""Parts of S3 objects by addresses that are signed beforehand.

A request through botocore takes a millisecond of the processor: finding the endpoint, signing, taking the answer
apart. An address that is signed once for each object is good for an hour, in every process, and a part of the
object is then a plain GET, of a fifth of that. It is a short cut alone: what it does not answer is asked for in the
usual way, which also says what is wrong.
"""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterable

from vidkit.data.storage import stores
from vidkit.data.storage.places import StorePath

#: Addresses are good for an hour, and are used for half of it: clocks differ.
_GOOD_S = 3600
_USED_S = _GOOD_S // 2

#: Refusals one after the other, before nothing is tried any more: another region, a proxy, a key that may not.
_REFUSALS = 3


class SignedRanges:
    """Objects of one folder of S3.

    Args:
        root: the folder.
        names: of the objects that will be read; they are signed at once, before worker processes are forked.
    """

    def __init__(self, root: StorePath, names: Iterable[str]) -> None:
        self.root = root
        self._signed: dict[str, tuple[float, str]] = {}
        # botocore goes by the environment's proxies; aiohttp would look for them anew with each request
        self._refused = _REFUSALS if urllib.request.getproxies() else 0
        for name in names:
            if self._refused or not self._sign(name):
                break

    def read_range(self, name: str, offset: int, nbytes: int) -> bytes:
        """As `StorePath.read_range` of the object.

        Raises:
            OSError: as there.
        """
        return self._quick(name, offset, nbytes) or (self.root / name).read_range(offset, nbytes)

    def _quick(self, name: str, offset: int, nbytes: int) -> bytes | None:
        """The bytes, or None where the address does not answer as it should."""
        if self._refused >= _REFUSALS or nbytes <= 0:
            return None
        until, url = self._signed.get(name, (0.0, ""))
        if time.time() > until:
            url = self._sign(name)
        try:
            data: bytes = stores.file_system(stores.SIGNED).cat_file(url, start=offset, end=offset + nbytes)
        except Exception as error:  # the usual way says what it is
            if stores.status(error) in stores.PASSING:
                return None
            data = b""
        if 0 < len(data) <= nbytes:
            self._refused = 0
            return data
        self._refused += 1
        self._signed.pop(name, None)  # a key may have been replaced
        return None

    def _sign(self, name: str) -> str:
        """A new address; none where nothing can be signed, as without credentials."""
        try:
            url: str = stores.file_system(stores.SIGNS).url((self.root / name).key, expires=_GOOD_S)
        except Exception:
            self._refused = _REFUSALS
            return ""
        self._signed[name] = (time.time() + _USED_S, url)
        return url
