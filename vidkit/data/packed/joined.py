"""Files as others want them: several parts as one file, and a window of a file as a file of its own.

Both read by position (`pread`) and share no place to be at, so that any number of readers is fine.
"""

from __future__ import annotations

import bisect
import errno
import io
import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO


class ByPosition(io.RawIOBase):
    """A file that knows its length and reads any of its bytes; what `io` needs around that."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self._at = 0

    def pread(self, size: int, at: int) -> bytes:
        """At most `size` bytes from `at` on; fewer only where the file ends."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next `read` begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; behind the end, too. Raises `OSError` in front of the beginning."""
        at = offset + (0, self._at, self.length)[whence]
        if at < 0:
            raise OSError(errno.EINVAL, f"seek to {at}")
        self._at = at
        return at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, fewer only where the file ends; by default all that are left."""
        size = self.length - self._at if size is None or size < 0 else size
        data = self.pread(max(0, size), self._at)
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        """All that are left."""
        return self.read()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """`read` into a buffer."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Joined(ByPosition):
    """Files one after another, as one. Each is opened when it is first read.

    Args:
        sizes: bytes of each.
        open_part: opens the n-th.
    """

    def __init__(self, sizes: Sequence[int], open_part: Callable[[int], BinaryIO]) -> None:
        super().__init__(sum(sizes))
        self._starts = [0, *itertools.accumulate(sizes)]
        self._open, self._files = open_part, dict[int, BinaryIO]()

    def pread(self, size: int, at: int) -> bytes:
        """See `ByPosition`. Raises `OSError`, and what `open_part` raises."""
        pieces = []
        while size > 0 and at < self.length:
            number = bisect.bisect_right(self._starts, at) - 1
            if number not in self._files:
                self._files[number] = self._open(number)
            start, end = self._starts[number], self._starts[number + 1]
            piece = os.pread(self._files[number].fileno(), min(size, end - at), at - start)
            if not piece:  # shorter than it was
                break
            pieces.append(piece)
            size, at = size - len(piece), at + len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            with suppress(OSError):
                file.close()
        self._files.clear()
        super().close()


class Window(ByPosition):
    """`size` bytes of a file from `start` on, as a file; closing it closes the whole."""

    def __init__(self, whole: Joined, start: int, size: int) -> None:
        super().__init__(max(0, min(size, whole.length - start)))
        self._whole, self._start = whole, start

    def pread(self, size: int, at: int) -> bytes:
        """See `ByPosition`."""
        return self._whole.pread(min(size, max(0, self.length - at)), self._start + at)

    def close(self) -> None:
        """Close the whole file, too."""
        self._whole.close()
        super().close()
