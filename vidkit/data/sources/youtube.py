"""Kinetics file names: `<YouTube id>_<start>_<end>` for trimmed clips, `<YouTube id>` alone otherwise."""

from __future__ import annotations

import re
from typing import NamedTuple

from vidkit.data.sources.parts.classes import ClassLookup
from vidkit.data.sources.parts.endings import may_be_video, stem_of
from vidkit.data.sources.parts.files import FileIndex
from vidkit.data.sources.parts.splits import split_of_folder, split_of_folders

# an id has 11 characters, any of which can be "-" or "_": only the lengths tell where it ends
_NAME = re.compile(r"([A-Za-z0-9_-]{11})(?:_([0-9]{6})_([0-9]{6}))?")
_ID = re.compile(r"[A-Za-z0-9_-]{11}")

# as other downloaders write them: seconds without zeros in front or with fractions, or the start alone
_SECONDS = r"([0-9]{1,6})(?:\.[0-9]{1,6})?"
_LOOSE = re.compile(rf"([A-Za-z0-9_-]{{11}})_{_SECONDS}(?:_{_SECONDS})?")

#: folders that hold videos without being a class
_CONTAINERS = frozenset({"videos", "video", "clips", "data", "compress", "replacement"})


class ClipName(NamedTuple):
    """A Kinetics file name, taken apart."""

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


def native_of(name: ClipName) -> str:
    """The clip id that such a file's name gives."""
    return name.youtube_id if name.times is None else f"{name.youtube_id}_{name.times}"


class LooseName(NamedTuple):
    """A name whose times are written otherwise: it counts only where an annotation has the same times."""

    youtube_id: str
    start_s: int
    end_s: int | None


def parse_loose(stem: str) -> LooseName | None:
    """A file name that is none by `parse_name`.

    >>> parse_loose("-bCdEfGhI_K_12_22")
    LooseName(youtube_id='-bCdEfGhI_K', start_s=12, end_s=22)
    """
    match = _LOOSE.fullmatch(stem)
    if match is None:
        return None
    youtube_id, start, end = match.groups()
    return LooseName(youtube_id, int(start), None if end is None else int(end))


def is_clip_name(path: str) -> bool:
    """Whether a file is named as a Kinetics clip, whatever its ending."""
    stem = stem_of(path)
    return may_be_video(path) and (parse_name(stem) is not None or parse_loose(stem) is not None)


def is_youtube_id(text: str) -> bool:
    """Whether all of `text` has the form of an id: 11 of its characters."""
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
        """What the folder of the file `path` says; `path` is relative to the source's folder."""
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
            label is not None or (split_of_folder(parts[-1]) is None and parts[-1].lower() not in _CONTAINERS)
        )
        return Folder(label, split, is_class)


class Fit(NamedTuple):
    """A video that an annotation row may mean. In order of trust: smaller comes first."""

    outside: bool
    """A link that leads out of the source folder, which is not opened."""
    form: int
    """How its name says the times; see below."""
    other_class: bool
    """Lies in no folder that is named as the row's label."""
    video: int


#: forms of `Fit`
TIMED, TIMED_LOOSELY, START_ALONE, BARE = range(4)


class YoutubeIndex:
    """Videos by YouTube id. `claimed[i]` is set once an annotation row has taken video `i`."""

    def __init__(self, files: FileIndex, lookup: ClassLookup) -> None:
        self.files = files
        self.folders = Folders(lookup)
        self.claimed = bytearray(len(files.videos))
        self._by_id: dict[str, int | list[int]] = {}
        self._loose: dict[str, list[tuple[LooseName, int]]] = {}
        self._rest: dict[str, str] | None = None
        for i, path in enumerate(files.videos):
            stem = stem_of(path)
            match = _NAME.fullmatch(stem)
            if match is None:
                if (loose := parse_loose(stem)) is not None:
                    self._loose.setdefault(loose.youtube_id, []).append((loose, i))
                continue
            youtube_id = match.group(1)
            before = self._by_id.setdefault(youtube_id, i)
            if isinstance(before, list):
                before.append(i)
            elif before != i:
                self._by_id[youtube_id] = [before, i]

    def all_of(self, youtube_id: str) -> list[int]:
        """Every video of that id whose name is of the usual form, in sorted order of paths."""
        found = self._by_id.get(youtube_id)
        return [] if found is None else [found] if isinstance(found, int) else found

    def near(self, youtube_id: str) -> str | None:
        """A file that carries the id, but is not what was looked for; an unfinished download is one, too."""
        others = self.all_of(youtube_id) or [i for _, i in self._loose.get(youtube_id, ())]
        if others:
            return f"{stem_of(self.files.videos[others[0]])} is there, with other times"
        if self._rest is None:
            names = ((path[path.rfind("/") + 1 :], path) for path in reversed(self.files.rest))
            self._rest = {name[:11]: name for name, _ in names if not name[11:12].isalnum()}
        return f"{self._rest[youtube_id]} is there" if youtube_id in self._rest else None

    def find(self, youtube_id: str, times: str | None, label: str | None) -> list[Fit]:
        """The videos that an annotation row may mean, the first to try first; all of them are claimed.

        A file with other times in its name is another clip of the same YouTube video. Of several that fit, the
        one with times in its name comes first, then the one in a folder named as its label, then sorted order.
        """
        only = self._by_id.get(youtube_id)
        alone = only if isinstance(only, int) and youtube_id not in self._loose else None
        # by far most rows, and nothing to parse again
        if alone is not None and stem_of(self.files.videos[alone]) == f"{youtube_id}_{times}":
            self.claimed[alone] = 1
            return [self._fit(alone, TIMED, label)]
        fitting = []
        for i in self.all_of(youtube_id):
            name = parse_name(stem_of(self.files.videos[i]))
            assert name is not None
            if times is None or name.times is None or name.times == times:
                fitting.append(self._fit(i, BARE if name.times is None else TIMED, label))
        if times is not None:
            start, end = map(int, times.split("_"))
            for loose, i in self._loose.get(youtube_id, ()):
                if loose.start_s == start and loose.end_s in (end, None):
                    fitting.append(self._fit(i, START_ALONE if loose.end_s is None else TIMED_LOOSELY, label))
        for fit in fitting:
            self.claimed[fit.video] = 1
        return sorted(fitting)

    def _fit(self, video: int, form: int, label: str | None) -> Fit:
        path = self.files.videos[video]
        return Fit(path in self.files.outside, form, self.folders.of(path).label != label, video)
