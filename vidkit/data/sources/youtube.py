"""Kinetics file names: `<YouTube id>_<start>_<end>` for trimmed clips, `<YouTube id>` alone otherwise."""

from __future__ import annotations

import re
from typing import NamedTuple

from vidkit.data.sources.common import ClassLookup
from vidkit.data.sources.files import FileIndex, split_of_folders, split_of_name

# an id has 11 characters, any of which can be "-" or "_": only the lengths tell where it ends
_NAME = re.compile(r"([A-Za-z0-9_-]{11})(?:_([0-9]{6})_([0-9]{6}))?")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")

#: folders that hold videos without being a class
_CONTAINERS = frozenset({"videos", "video", "clips", "data", "compress", "replacement"})


class ClipName(NamedTuple):
    youtube_id: str
    times: str | None
    """"000012_000022", or None for a bare id."""


def parse_name(stem: str) -> ClipName | None:
    """A file name without its ending, as a Kinetics clip; None where it is none.

    >>> parse_name("-bCdEfGhI_K_000012_000022")
    ClipName(youtube_id='-bCdEfGhI_K', times='000012_000022')
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    youtube_id, start, end = match.groups()
    return ClipName(youtube_id, None if start is None else f"{start}_{end}")


def is_youtube_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None


def times_text(start_s: float, end_s: float) -> str:
    """The times as trimmed files carry them: whole seconds, six digits each."""
    return f"{int(start_s):06d}_{int(end_s):06d}"


class Folder(NamedTuple):
    """What the folder of a video says about it."""

    label: str | None
    split: str | None
    is_class: bool
    """Whether the folder is meant as a class, known or not."""


class Folders:
    """Folder -> class and split, each folder looked at once."""

    def __init__(self, lookup: ClassLookup) -> None:
        self.lookup = lookup
        self._cache: dict[str, Folder] = {}

    def of(self, path: str) -> Folder:
        folder = path.rpartition("/")[0]
        known = self._cache.get(folder)
        if known is None:
            known = self._cache[folder] = self._read(folder)
        return known

    def _read(self, folder: str) -> Folder:
        parts = folder.split("/") if folder else []
        label = self.lookup.find(parts[-1]) if parts else None
        above = parts[:-1] if label is not None else parts
        split = split_of_folders(above)
        is_class = bool(parts) and (
            label is not None or (split_of_name(parts[-1]) is None and parts[-1].lower() not in _CONTAINERS)
        )
        return Folder(label, split, is_class)


class YoutubeIndex:
    """Videos by YouTube id. `claimed[i]` is set once an annotation row has taken video `i`."""

    def __init__(self, files: FileIndex, lookup: ClassLookup) -> None:
        self.files = files
        self.folders = Folders(lookup)
        self.claimed = bytearray(len(files.videos))
        self._by_id: dict[str, int | list[int]] = {}
        for i, path in enumerate(files.videos):
            name = parse_name(stem_of(path))
            if name is None:
                continue
            before = self._by_id.setdefault(name.youtube_id, i)
            if isinstance(before, list):
                before.append(i)
            elif before != i:
                self._by_id[name.youtube_id] = [before, i]

    def all_of(self, youtube_id: str) -> list[int]:
        """Every video of that id, in sorted order of paths."""
        found = self._by_id.get(youtube_id)
        return [] if found is None else [found] if isinstance(found, int) else found

    def find(self, youtube_id: str, times: str | None, label: str | None) -> tuple[int | None, int]:
        """(the video for an annotation row or None, how many more fit); all that fit are claimed.

        A file with other times in its name is another clip of the same YouTube video. Of several that fit, the
        one with times in its name comes first, then the one in a folder named as its label, then sorted order.
        """
        fitting = []
        for i in self.all_of(youtube_id):
            path = self.files.videos[i]
            name = parse_name(stem_of(path))
            assert name is not None
            if times is None or name.times is None or name.times == times:
                self.claimed[i] = 1
                fitting.append((name.times is None, self.folders.of(path).label != label, i))
        return (min(fitting)[2], len(fitting) - 1) if fitting else (None, 0)


def stem_of(path: str) -> str:
    """File name without folder and ending."""
    return path[path.rfind("/") + 1 : path.rfind(".")]
