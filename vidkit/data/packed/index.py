"""The index of an archive: made once, kept in the user's cache, made anew when the archive changed.

A SQLite file per archive and machine: a worker looks up its members without loading the others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote_from_bytes

from vidkit.data.packed.joined import Joined
from vidkit.data.packed.kinds import Kind
from vidkit.data.packed.members import Link, Member
from vidkit.data.packed.scratch import Scratch, cache_folder, hold, inflate, remove
from vidkit.data.packed.tars import read_tar
from vidkit.data.packed.zips import read_zip
from vidkit.errors import BuildError, display_path

#: Raised when an index of an older vidkit could be misread.
_FORMAT = 1

_TABLES = """
create table about (facts text);
create table members (name blob primary key, place int, size int, stored int, method int, crc int, fault text,
                      message text) without rowid;
"""

#: Longest chain of links that is followed.
_MOST_LINKS = 16

_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive: its parts in order (one, if it is whole), as paths on this machine, and what it is."""

    parts: tuple[str, ...]
    kind: Kind
    shown: str
    """Its name in messages."""


class Index:
    """What an archive holds."""

    def __init__(self, path: Path) -> None:
        # immutable: no locks, which a cache on a network may not have; the file is only ever replaced as a whole
        address = f"file:{quote_from_bytes(os.fsencode(os.path.abspath(path)))}?mode=ro&immutable=1"
        self._base = sqlite3.connect(address, uri=True, check_same_thread=False)
        try:
            self._base.execute("pragma cache_size = -256")  # of many archives each has its own
            self.facts: dict[str, Any] = json.loads(self._base.execute("select facts from about").fetchone()[0])
        except (sqlite3.Error, TypeError, ValueError):
            self._base.close()
            raise

    @property
    def notes(self) -> list[str]:
        """In words what is wrong with the archive."""
        return list(self.facts["notes"])

    @property
    def is_zip(self) -> bool:
        """Or else a tar, perhaps inflated."""
        return bool(self.facts["kind"] == "zip")

    @property
    def data(self) -> Path | None:
        """Where a compressed archive lies inflated."""
        return Path(self.facts["data"]) if self.facts["data"] is not None else None

    @property
    def parts(self) -> list[tuple[str, int]]:
        """(file name, bytes) of each part."""
        return [(os.fsdecode(bytes.fromhex(name)), size) for name, size, _ in self.facts["parts"]]

    def find(self, name: str) -> Member | None:
        """The member of that name."""
        row = _row(self._base, name)
        return None if row is None else _member(row)

    def members(self) -> Iterator[Member]:
        """All of them, sorted by the bytes of their names."""
        for row in self._base.execute("select * from members order by name"):
            yield _member(row)

    def close(self) -> None:
        """It cannot be asked any more."""
        self._base.close()


def _member(row: tuple[Any, ...]) -> Member:
    name, place, size, stored, method, crc, fault, message = row
    return Member(
        name=os.fsdecode(name),
        offset=place,
        size=size,
        stored=stored,
        method=method,
        crc=crc,
        fault=fault,
        message=message,
    )


def existing(first: str) -> Index | None:
    """The index of the archive whose first part is `first`, if there is one; it may be of an earlier state."""
    try:
        index = Index(_place(first))
    except (sqlite3.Error, OSError, TypeError, ValueError):
        return None
    if index.facts.get("format") == _FORMAT:
        return index
    index.close()
    return None


def is_current(index: Index, first: str) -> bool:
    """Whether the archive is as it was when its index was made: sizes and times of its parts."""
    folder = os.path.dirname(first)
    for (name, _), (_, size, changed_ns) in zip(index.parts, index.facts["parts"], strict=True):
        try:
            facts = os.stat(os.path.join(folder, name))
        except OSError:
            return False
        if (facts.st_size, facts.st_mtime_ns) != (size, changed_ns):
            return False
    return True


def _wait_for(lock: TextIO, on_bytes: Callable[[int], None]) -> None:
    """Wait until nobody else makes this index; `on_bytes` may raise, to end the waiting."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            on_bytes(0)
            time.sleep(_LOOK_AGAIN_S)
        except OSError:  # no locks there: the work is done twice at worst
            return


def is_known(packed: Packed) -> bool:
    """Whether `indexed` has nothing to do."""
    found = existing(packed.parts[0])
    if found is None:
        return False
    try:
        return _fits(found, packed) and (found.data is None or found.data.exists())
    finally:
        found.close()


def _fits(index: Index, packed: Packed) -> bool:
    names = [os.path.basename(part) for part in packed.parts]
    return [name for name, _ in index.parts] == names and is_current(index, packed.parts[0])


def indexed(packed: Packed, scratch: Scratch, on_bytes: Callable[[int], None] = lambda count: None) -> Index:
    """The index of an archive, made if there is none that fits; a compressed one is inflated, and held.

    Two processes that want the same one wait for each other.

    Args:
        on_bytes: told how many bytes of the archive were read so far.

    Raises:
        BuildError: the archive cannot be read, no place for indexes, no room for what must be inflated.
    """
    first = packed.parts[0]
    try:
        place = _place(first)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.with_suffix(".lock").open("a") as lock:
            _wait_for(lock, on_bytes)
            found = existing(first)
            if found is not None:
                if _fits(found, packed) and (found.data is None or hold(found.data)):
                    return found
                if found.data is not None:
                    remove(found.data)
                found.close()
            _make(packed, place, scratch, on_bytes)
    except (OSError, sqlite3.Error) as error:
        raise BuildError(
            f"cannot index {packed.shown}: {error}",
            hint=f"check that it can be read, and that {cache_folder()} has room; $VIDKIT_CACHE names another",
        ) from error
    return Index(place)


def _place(first: str) -> Path:
    """Of an index: archives may lie on a disk that several machines share, what they are inflated to does not."""
    key = _short_hash(f"{platform.node()}\0{os.path.realpath(first)}")
    return cache_folder() / "archives" / f"{key}.sqlite"


def _short_hash(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:32]


def open_parts(paths: Sequence[str], sizes: Sequence[int]) -> Joined:
    """The parts of an archive as one file."""
    return Joined(sizes, lambda number: Path(paths[number]).open("rb"))


def _make(packed: Packed, place: Path, scratch: Scratch, on_bytes: Callable[[int], None]) -> None:
    facts = [os.stat(part) for part in packed.parts]
    sizes = [one.st_size for one in facts]
    notes: list[str] = []
    data: Path | None = None
    whole = open_parts(packed.parts, sizes)
    try:
        if packed.kind not in ("tar", "zip"):
            signature = f"{[(one.st_size, one.st_mtime_ns) for one in facts]}{place.stem}"
            data = scratch.folder.absolute() / f"vidkit-{_short_hash(signature)}.inflated"
            notes += inflate(whole, packed.kind, data, packed.shown, scratch, on_bytes)
            whole.close()
            whole = open_parts([str(data)], [data.stat().st_size])
        with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
        try:
            with contextlib.closing(sqlite3.connect(part)) as base:
                base.executescript("pragma journal_mode = off; pragma synchronous = off;" + _TABLES)
                found = _fill(base, whole, packed.kind, on_bytes if data is None else lambda count: None)
                notes = notes or found  # a tar that was cut off before it was inflated ends too soon, too
                about = {
                    "format": _FORMAT,
                    "kind": packed.kind,
                    "parts": [
                        (os.fsencode(os.path.basename(path)).hex(), one.st_size, one.st_mtime_ns)
                        for path, one in zip(packed.parts, facts, strict=True)
                    ],
                    "data": None if data is None else str(data),
                    "notes": notes,
                }
                base.execute("insert into about values (?)", (json.dumps(about),))
                base.commit()
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(place)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    finally:
        whole.close()


def _fill(base: sqlite3.Connection, whole: Joined, kind: Kind, on_bytes: Callable[[int], None]) -> list[str]:
    """Write the members; of two of one name the later one counts, as with tar and unzip."""
    links: dict[str, str | None] = {}
    read = 0

    def add(found: Member | Link) -> None:
        nonlocal read
        read += 1
        if isinstance(found, Link):
            if found.target == found.name and _row(base, found.name):  # as tar has a file that was given twice
                return
            links[found.name] = found.target
            return
        links.pop(found.name, None)
        _write(base, found)

    notes = read_zip(whole, add) if kind == "zip" else read_tar(whole, add, on_bytes)
    for name in links:
        _write(base, _followed(base, name, links))
    (kept,) = base.execute("select count(*) from members").fetchone()
    if kept < read:
        notes.append(f"holds {read - kept:,} files a second time under the same name (the last one counts)")
    return notes


def _row(base: sqlite3.Connection, name: str) -> tuple[Any, ...] | None:
    found: tuple[Any, ...] | None
    found = base.execute("select * from members where name = ?", (os.fsencode(name),)).fetchone()
    return found


def _write(base: sqlite3.Connection, member: Member) -> None:
    faulty = member.fault == "unsafe-path"
    # a name that leads out must not stand for a good one that is called so
    verb = "insert or ignore" if faulty else "insert or replace"
    size, stored, offset = (min(number, (1 << 63) - 1) for number in (member.size, member.stored, member.offset))
    base.execute(
        f"{verb} into members values (?, ?, ?, ?, ?, ?, ?, ?)",
        (os.fsencode(member.name), offset, size, stored, member.method, member.crc, member.fault, member.message),
    )


def _followed(base: sqlite3.Connection, name: str, links: dict[str, str | None]) -> Member:
    """What a link in an archive leads to, under the link's name."""
    target: str | None = name
    for _ in range(_MOST_LINKS):
        target = links.get(target) if target is not None and target in links else target
        if target is None:
            break
        if target not in links:
            row = _row(base, target)
            if row is None:
                message = f"a link to {display_path(target)}, which the archive does not hold"
                return Member(name=name, offset=0, size=0, stored=0, fault="missing", message=message)
            return _member((os.fsencode(name), *row[1:]))
    message = "a link that leads out of the archive" if target is None else "links that lead in a circle"
    code = "unsafe-path" if target is None else "unreadable"
    return Member(name=name, offset=0, size=0, stored=0, fault=code, message=message)
