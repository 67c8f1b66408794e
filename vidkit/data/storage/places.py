"""A place is a folder or file of this machine (`pathlib.Path`), or one of a store (`StorePath`).

Both know the few methods that readers of a dataset call, so that a dataset is read the same way wherever it lies.
Local places never touch fsspec.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from vidkit.data.storage import stores
from vidkit.errors import ConfigError

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
#: what `Path` makes of an address: two slashes become one
_FOLDED = re.compile(r"(s3|s3a|gs|gcs|https?|abfs|az|memory):/(?!/)")

#: Requests at once where many small things are asked for.
PARALLEL = 16

#: Bytes of one request where a whole object is read in order.
BLOCK = 8 << 20

#: Blocks under way at once where an object is copied.
_BLOCKS = 4


@dataclass(frozen=True)
class StorePath:
    """A folder or object of a store, by its address. As text it is shown without user, password and query, which
    may be secrets.

    Its methods are those of `pathlib.Path` that a reader needs, and raise its errors: FileNotFoundError,
    PermissionError, and other OSErrors once a request was tried often enough (see `stores.asked`).
    """

    address: str = field(repr=False)
    query: str = field(default="", repr=False)
    """Behind every address of a web server, such as a signature."""

    @classmethod
    def of(cls, text: str) -> StorePath:
        """Of a text that `is_address`.

        Raises:
            ConfigError: an address without a bucket or host.
        """
        protocol, _, rest = text.partition("://")
        query = ""
        if protocol.lower() in ("http", "https"):
            rest, _, query = rest.partition("?")
        rest = rest.rstrip("/")
        found = cls(f"{protocol.lower()}://{rest}", query)
        if not rest or rest.startswith("/"):
            raise ConfigError(f"{found} names no bucket and no host", hint="an address is like s3://bucket/folder")
        return found

    def __str__(self) -> str:
        protocol, _, rest = self.address.partition("://")
        host, slash, path = rest.partition("/")
        return f"{protocol}://{host.rpartition('@')[2]}{slash}{path}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __fspath__(self) -> str:  # for messages, which take paths
        return str(self)

    def __truediv__(self, name: str) -> StorePath:
        return StorePath(f"{self.address}/{name}", self.query)

    @property
    def protocol(self) -> str:
        """Such as "s3"."""
        return self.address.partition("://")[0]

    @property
    def listed(self) -> bool:
        """Whether the store can say what lies in a folder; a web server cannot."""
        return self.protocol not in ("http", "https")

    @property
    def name(self) -> str:
        """The last part."""
        return self.address.rpartition("/")[2]

    @cached_property
    def key(self) -> str:
        """What the store's file system calls it."""
        if not self.listed:
            return self.address + (f"?{self.query}" if self.query else "")
        return str(self).partition("://")[2]

    def size(self) -> int | None:
        """Bytes of the object; None: there is none."""
        try:
            if self.protocol in stores.S3:  # fsspec would list, too, where there is none
                return int(stores.s3(self, "head_object")["ContentLength"])
            found = stores.asked(self, "info", self.key)
        except FileNotFoundError:
            return None
        return None if found.get("type") == "directory" or found.get("size") is None else int(found["size"])

    def is_dir(self) -> bool:
        """Whether anything lies below; of a web server, which lists nothing, always."""
        return not self.listed or bool(self.children())

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return self.size() is not None

    exists = is_file

    def read_bytes(self) -> bytes:
        """All of the object."""
        how = {"start": 0} if self.protocol in stores.S3 else {}  # fsspec would ask for the size first
        try:
            data: bytes = stores.asked(self, "cat_file", self.key, **how)
        except OSError as error:
            if error.errno == errno.ERANGE:  # it is empty
                return b""
            raise
        return data

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """All of the object, as text."""
        return self.read_bytes().decode(encoding, errors)

    def read_range(self, offset: int, nbytes: int) -> bytes:
        """Bytes from `offset` on; fewer where the object ends.

        Raises:
            OSError: also where a web server gives more than was asked for, as it knows no ranges.
        """
        if nbytes <= 0:
            return b""
        data: bytes = stores.asked(self, "cat_file", self.key, start=offset, end=offset + nbytes)
        if len(data) > nbytes:
            raise OSError(errno.EOPNOTSUPP, "the server does not serve parts of files (HTTP Range)", str(self))
        return data

    def blocks(self) -> Generator[bytes, None, None]:
        """The object in order, one request a block."""
        size = self.size()
        if size is None:
            raise FileNotFoundError(errno.ENOENT, "not there", str(self))
        for start in range(0, size, BLOCK):
            data = self.read_range(start, min(BLOCK, size - start))
            if not data:
                raise OSError(errno.EIO, f"the store gave {start:,} of {size:,} bytes", str(self))
            yield data

    def download(self, to: Path) -> None:
        """Copy the object into a file.

        Raises:
            OSError: also where the file cannot be written.
        """
        with to.open("wb") as file:
            self.download_into(file)

    def download_into(self, file: IO[bytes], limit: int | None = None) -> int:
        """Copy the object into an open file, from its beginning: small ones by one request, others a few blocks at
        a time. Returns its size; one above `limit` is not copied.
        """
        try:
            first = self.read_range(0, BLOCK)
        except OSError as error:
            if error.errno == errno.ERANGE:  # it is empty
                return 0
            raise
        os.pwrite(file.fileno(), first, 0)
        size = len(first) if len(first) < BLOCK else self.size() or 0
        if limit is not None and size > limit:
            return size

        def copy(start: int) -> None:
            data = self.read_range(start, min(BLOCK, size - start))
            if len(data) != min(BLOCK, size - start):
                raise OSError(errno.EIO, f"the store gave fewer than {size:,} bytes", str(self))
            os.pwrite(file.fileno(), data, start)

        with ThreadPoolExecutor(_BLOCKS) as pool:
            for _ in pool.map(copy, range(BLOCK, size, BLOCK)):
                pass
        return size

    def resolve(self) -> StorePath:
        """Itself: an address is always whole."""
        return self

    def children(self) -> list[str]:
        """Names of objects and folders right in this folder."""
        try:
            found = stores.asked(self, "ls", self.key, detail=False)
        except FileNotFoundError as error:
            if error.strerror == stores.NO_BUCKET:
                raise
            return []
        names = (key.rstrip("/").rpartition("/")[2] for key in found if key.strip("/") != self.key.strip("/"))
        return sorted(names)

    def names(self) -> dict[str, int]:
        """Objects below this folder, at any depth: name relative to it -> bytes."""
        found: dict[str, Any] = stores.asked(self, "find", self.key, detail=True)
        start = len(self.key) + 1
        sizes = {key.lstrip("/")[start:]: int(info["size"] or 0) for key, info in found.items()}
        return {name: size for name, size in sizes.items() if name}

    def sizes(self, names: Iterable[str]) -> dict[str, int | None]:
        """Bytes of objects in this folder, asked for in parallel; None: there is none of that name."""
        names = list(names)
        with ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(names, pool.map(lambda name: (self / name).size(), names), strict=True))


Place = Path | StorePath


def is_address(text: str) -> bool:
    """Whether a text names something in a store, and no file of this machine.

    >>> is_address("s3://bucket/k400"), is_address("data/k400"), is_address("file:///data/k400")
    (True, False, False)
    """
    found = _ADDRESS.match(text)
    return found is not None and found[1].lower() not in ("file", "local")


def address_of(where: Place) -> str:
    """What `place` makes the same place of, in another process, too. It may hold secrets."""
    if isinstance(where, StorePath):
        return where.address + (f"?{where.query}" if where.query else "")
    return os.fspath(where)


@contextlib.contextmanager
def on_disk(where: Place) -> Iterator[Path]:
    """A file on this machine with what lies there: itself, or a copy that goes with the context.

    Raises:
        OSError: it cannot be read, or there is no room for the copy.
    """
    if not isinstance(where, StorePath):
        yield where
        return
    with tempfile.TemporaryDirectory(prefix="vidkit-") as scratch:
        copy = Path(scratch) / where.name
        where.download(copy)
        yield copy


def place(path: str | os.PathLike[str]) -> Place:
    """What a path or address names.

    >>> place("s3://key:secret@bucket/k400/")
    StorePath('s3://bucket/k400')

    Raises:
        ConfigError: an address without a bucket or host.
    """
    if isinstance(path, StorePath):
        return path
    text = os.fspath(path)
    if isinstance(path, PurePath):
        text = _FOLDED.sub(r"\1://", text, count=1)
    if not is_address(text):
        return Path(unquote(urlsplit(text).path)) if _ADDRESS.match(text) else Path(path)
    return StorePath.of(text)
