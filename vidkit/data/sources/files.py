"""What lies under a source's folder, found in one pass; and paths from annotations, looked up in it.

Paths that annotations name are data. They are only ever looked up in the index, so that nothing which the
walk did not see inside the folder can be opened.
"""

from __future__ import annotations

import bisect
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vidkit.data.tables import Matching
from vidkit.errors import ConfigError, display_path

VIDEO_ENDINGS = frozenset(
    {".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp"}
)
TEXT_ENDINGS = frozenset({".csv", ".json", ".txt", ".list"})
PARTIAL_ENDINGS = frozenset({".part", ".tmp", ".ytdl", ".crdownload"})

#: annotation files are looked for at most so many folders deep; class folders can hold a text file a clip
TEXT_DEPTH = 3


@dataclass(frozen=True, slots=True)
class FileIndex:
    """Files under `root`, as sorted relative paths with `/` between the parts."""

    root: Path
    videos: list[str]
    texts: list[str]
    outside: frozenset[str] = frozenset()
    """Videos that are links to somewhere outside the root: known, never opened."""

    def __repr__(self) -> str:
        return f"FileIndex({str(self.root)!r}, {len(self.videos)} videos, {len(self.texts)} texts)"


def scan(folder: Path, matching: Matching, *, follow_symlinks: bool = False) -> FileIndex:
    """Index videos and annotation files under `folder`; count what is left out in `matching`.

    Every folder is read once, by its real place first, so that links cannot make a loop. Links that lead out of
    the folder are not followed (folders) or kept apart (videos), unless `follow_symlinks`. Files are not opened
    or stat'ed: 500,000 of them take seconds.

    Raises:
        ConfigError: `folder` is no folder, or cannot be read.
    """
    walk = _Walk(os.path.realpath(folder), matching, follow_symlinks)
    try:
        with os.scandir(walk.root):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot read the folder of source {matching.source!r}: {error.strerror}", file=folder
        ) from error
    walk.run()
    walk.videos.sort()
    # a folder named as a video, with none inside, stands where a file should be: the build will say so
    posing = []
    for name in walk.posing:
        inside = bisect.bisect_left(walk.videos, name + "/")
        if inside == len(walk.videos) or not walk.videos[inside].startswith(name + "/"):
            posing.append(name)
    walk.videos = sorted(walk.videos + posing) if posing else walk.videos
    walk.texts.sort()
    return FileIndex(Path(walk.root), walk.videos, walk.texts, frozenset(walk.outside))


class _Walk:
    def __init__(self, root: str, matching: Matching, follow: bool) -> None:
        self.root = root
        self.matching = matching
        self.follow = follow
        self.videos: list[str] = []
        self.texts: list[str] = []
        self.outside: list[str] = []
        self.posing: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.real_parent: dict[str, str] = {}

    def run(self) -> None:
        folders = [("", self.root)]
        seen: set[str] = set()
        while True:
            while folders:
                prefix, real = folders.pop()
                if real not in seen:
                    seen.add(real)
                    folders.extend(self.read(prefix, real))
            if not self.links:
                return
            # linked folders come last: one that is also here under its own name keeps that name
            self.links.sort(reverse=True)
            prefix, real = self.links.pop()
            if real in seen:
                self.matching.count("links to folders that are read already (not followed)", display_path(prefix))
            folders.append((prefix, real))

    def read(self, prefix: str, real: str) -> list[tuple[str, str]]:
        """File the entries of one folder; return its subfolders."""
        subfolders: list[tuple[str, str]] = []
        depth = prefix.count("/")
        try:
            entries = os.scandir(real)
        except OSError:
            self.matching.count("folders that cannot be read", display_path(prefix))
            return []
        with entries:
            for entry in entries:
                name = entry.name
                if name.startswith("."):
                    self.matching.count("ignored: hidden files and folders", display_path(prefix + name))
                elif entry.is_symlink():
                    self.link(entry, prefix, real, depth)
                elif entry.is_dir(follow_symlinks=False):
                    subfolders.append((f"{prefix}{name}/", f"{real}/{name}"))
                    if name[name.rfind(".") :].lower() in VIDEO_ENDINGS:
                        self.posing.append(prefix + name)
                else:
                    self.file(prefix + name, depth)
        return subfolders

    def file(self, path: str, depth: int) -> None:
        ending = path[path.rfind(".") :].lower()
        if ending in VIDEO_ENDINGS:
            self.videos.append(path)
        elif ending in PARTIAL_ENDINGS:
            self.matching.count("ignored: unfinished downloads", display_path(path))
        elif ending in TEXT_ENDINGS and depth <= TEXT_DEPTH:
            self.texts.append(path)
        else:
            self.matching.count("ignored: other files", display_path(path))

    def link(self, entry: os.DirEntry[str], prefix: str, real: str, depth: int) -> None:
        path = prefix + entry.name
        try:
            leads_to_folder = entry.is_dir()
        except OSError:  # a link to itself, or into a folder that may not be read: no folder to go into
            leads_to_folder = False
        if leads_to_folder:
            target = os.path.realpath(entry.path)
            if self.follow or self.inside(target):
                self.links.append((path + "/", target))
            else:
                self.matching.count("links to folders outside (not followed)", display_path(path))
            return
        before = len(self.videos)
        self.file(path, depth)
        if len(self.videos) > before and not self.follow and not self.inside(self.target(entry, real)):
            self.outside.append(path)
            self.matching.count("links to files outside (not opened)", display_path(path))

    def inside(self, real: str) -> bool:
        return real == self.root or real.startswith(self.root.rstrip("/") + "/")

    def target(self, entry: os.DirEntry[str], real: str) -> str:
        """realpath of a linked file; the folder's part is remembered, as thousands of links share it."""
        parent, name = os.path.split(os.path.join(real, os.readlink(entry.path)))
        if name in ("", ".", ".."):
            return os.path.realpath(entry.path)
        if parent not in self.real_parent:
            self.real_parent[parent] = os.path.realpath(parent)
        target = os.path.join(self.real_parent[parent], name)
        return os.path.realpath(target) if os.path.islink(target) else target


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path from an annotation was found."""

    video: int | None
    """Position in `FileIndex.videos`; None: not found."""
    how: Literal["exact", "suffix", "missing", "unsafe", "ambiguous", "claimed"]
    others: int = 0
    """Further files that fit as well; "ambiguous": all files that fit."""


@dataclass(slots=True)
class PathFinder:
    """Looks up paths from annotations in an index: exactly, else by the longest run of last parts."""

    index: FileIndex
    given_root: str
    """The root as the user wrote it, made absolute: list files hold that form."""
    _exact: dict[str, int] = field(default_factory=dict)
    _endings: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    """Number of last parts -> those parts -> files that end with them."""

    @classmethod
    def of(cls, index: FileIndex, folder: Path) -> PathFinder:
        made = cls(index, os.path.abspath(folder))
        made._exact = {path: i for i, path in enumerate(index.videos)}
        return made

    def locate(self, text: str, *, base: str = "") -> Located:
        """Find `text`, which is relative to the root or to the folder `base` below it, or absolute.

        Lists come from other machines and other folders, so that a path may also be found by its last parts: all
        of them, or as many as the file's own path has with its folder. An absolute path may agree in fewer, but not
        in split. Several files that fit equally well are "ambiguous", and none of them is taken: numbered files
        (`val/0.mp4`, `train/0.mp4`) would otherwise stand in for each other.
        """
        if posixpath.isabs(text):
            norm = posixpath.normpath(text)
            inside = [
                norm[len(root) :].lstrip("/")
                for root in (self.given_root, str(self.index.root))
                if norm.startswith(root.rstrip("/") + "/")
            ]
            found = next((self._exact[path] for path in inside if path in self._exact), None)
            if found is not None:
                return Located(found, "exact")
            located = self._by_suffix(norm.strip("/").split("/"), absolute=True)
            if located.how == "missing" and not inside and os.path.lexists(norm):
                return Located(None, "unsafe")
            return located
        tries = [posixpath.normpath(text), posixpath.normpath(posixpath.join(base, text))]
        safe = [path for path in tries if path != ".." and not path.startswith("../")]
        found = next((self._exact[path] for path in safe if path in self._exact), None)
        if found is not None:
            return Located(found, "exact")
        if not safe:
            return Located(None, "unsafe")
        return self._by_suffix(safe[0].split("/"), absolute=False)

    def below(self, text: str, accept: Callable[[str], bool], rank: Callable[[str], int]) -> Located:
        """Find a file whose path ends with all parts of `text`, below any folder that `accept`s its prefix."""
        norm = posixpath.normpath(text)
        if posixpath.isabs(text) or norm == ".." or norm.startswith("../"):
            return Located(None, "unsafe")
        parts = norm.split("/")
        candidates, length = self._longest(parts)
        fitting: list[tuple[int, str, int]] = []
        for i in candidates if length == len(parts) else ():
            path = self.index.videos[i]
            prefix = path[: len(path) - len(norm)]
            if accept(prefix):
                fitting.append((rank(prefix), path, i))
        if not fitting:
            return Located(None, "missing")
        return Located(min(fitting)[-1], "exact", others=len(fitting) - 1)

    def _by_suffix(self, parts: list[str], *, absolute: bool) -> Located:
        best, length = self._longest(parts)
        best = [i for i in best if self._may_stand_for(parts, self.index.videos[i].split("/"), length, absolute)]
        if len(best) > 1:
            return Located(None, "ambiguous", others=len(best))
        return Located(best[0], "suffix") if best else Located(None, "missing")

    def _may_stand_for(self, parts: list[str], own: list[str], length: int, absolute: bool) -> bool:
        """Whether the file `own`, whose last `length` parts are those of the annotated path, can be that file."""
        if length == len(parts):
            return True
        if length == len(own):  # below the root all agrees: then the root's own name goes on with it
            root = self.given_root.strip("/").split("/")
            return absolute or length > 1 or _common_suffix(parts, root + own) == len(parts)
        said = {split_of_folders(parts[:-length]), split_of_folders(own[:-length])} - {None}
        return absolute and len(said) < 2

    def _longest(self, parts: list[str]) -> tuple[list[int], int]:
        """(files with the longest run of last parts in common with `parts`, in sorted order; its length)."""
        best, length = self._ending_with(parts, 1), 1
        # a name that very many files have: one look-up for each part, not one comparison for each file
        while len(best) > _FEW and length < len(parts):
            longer = self._ending_with(parts, length + 1)
            if not longer:
                return best, length
            best, length = longer, length + 1
        lengths = [_common_suffix(parts, self.index.videos[i].split("/")) for i in best]
        longest = max(lengths, default=0)
        return [i for i, length in zip(best, lengths, strict=True) if length == longest], longest

    def _ending_with(self, parts: list[str], number: int) -> list[int]:
        if number not in self._endings:
            endings = self._endings[number] = {}
            for i, path in enumerate(self.index.videos):
                own = path.rsplit("/", number)
                if len(own) >= number:
                    endings.setdefault("/".join(own[-number:]), []).append(i)
        return self._endings[number].get("/".join(parts[-number:]), [])


#: so many files of one name are compared one by one
_FEW = 8


def _common_suffix(a: list[str], b: list[str]) -> int:
    n = 0
    while n < min(len(a), len(b)) and a[-1 - n] == b[-1 - n]:
        n += 1
    return n


def split_of_name(name: str) -> str | None:
    """The split that a file or folder name says, if it says exactly one.

    >>> split_of_name("something-something-v2-validation.json")
    'val'
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    said = {
        split
        for split, forms in {
            "train": {"train", "training"},
            "val": {"val", "valid", "validate", "validation"},
            "test": {"test", "testing"},
        }.items()
        if forms & words
    }
    return said.pop() if len(said) == 1 else None


def split_of_folders(parts: Sequence[str]) -> str | None:
    """The split that the innermost telling folder names."""
    return next((split for name in reversed(parts) if (split := split_of_name(name)) is not None), None)
