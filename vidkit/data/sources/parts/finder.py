"""Paths that annotations name, looked up in the index of files.

They are data: only ever looked up, so that nothing which the walk did not see inside the folder can be opened.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vidkit.data.sources.parts.endings import VIDEO_ENDINGS, ending_of, stem_of
from vidkit.data.sources.parts.files import FileIndex
from vidkit.data.sources.parts.splits import split_of_folders


@dataclass(frozen=True, slots=True)
class Located:
    """Where a path from an annotation was found."""

    video: int | None
    """Position in `FileIndex.videos`; None: not found."""
    how: Literal["exact", "suffix", "ending", "missing", "unsafe", "ambiguous", "claimed"]
    others: int = 0
    """Further files that fit as well; "ambiguous": all files that fit."""
    near: tuple[int, ...] = ()
    """"ambiguous": the first of the files that fit."""


@dataclass(slots=True)
class PathFinder:
    """Looks up paths from annotations in an index: exactly, else by the longest run of last parts."""

    index: FileIndex
    given_root: str
    """The root as the user wrote it, made absolute: list files hold that form."""
    _exact: dict[str, int] = field(default_factory=dict)
    _endings: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    """Number of last parts -> those parts -> files that end with them."""
    _stems: PathFinder | None = None
    """The same files by their paths without endings."""

    @classmethod
    def of(cls, index: FileIndex, folder: Path) -> PathFinder:
        """A finder over the videos of `index`, which was made of `folder`."""
        made = cls(index, os.path.abspath(folder))
        made._exact = {path: i for i, path in enumerate(index.videos)}
        return made

    def locate(self, text: str, *, base: str = "") -> Located:
        """Find `text`, which is relative to the root or to the folder `base` below it, or absolute.

        A video that is there under another ending only (`x.webm` for `x.mp4`, `x.mp4.mkv`) is found if it is the
        one file of that stem.
        """
        located = self._locate(text, base)
        return self._by_stem(located, text, lambda stems, stem: stems._locate(stem, base))

    def _by_stem(self, located: Located, text: str, look: Callable[[PathFinder, str], Located]) -> Located:
        if located.how != "missing" or ending_of(text) not in VIDEO_ENDINGS:
            return located
        if self._stems is None:
            paths = [_stem_path(path) for path in self.index.videos]
            self._stems = PathFinder(FileIndex(self.index.root, paths, []), self.given_root)
            for i, path in enumerate(paths):
                self._stems._exact.setdefault(path, i)
        stems = self._stems
        found = look(stems, _stem_path(text))
        if found.video is None:
            return found if found.how == "ambiguous" else located
        stem = stems.index.videos[found.video]
        same = [
            i for i in stems._ending_with(stem.split("/"), stem.count("/") + 1) if stems.index.videos[i] == stem
        ]
        if len(same) == 1:
            return Located(found.video, "ending", others=found.others)
        return Located(None, "ambiguous", others=len(same), near=tuple(same[:3]))

    def _locate(self, text: str, base: str) -> Located:
        """Find `text` with the ending that it has.

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
        """Find a file whose path ends with all parts of `text`, below any folder that `accept`s its prefix.

        Another ending will do, as in `locate`.
        """
        located = self._below(text, accept, rank)
        return self._by_stem(located, text, lambda stems, stem: stems._below(stem, accept, rank))

    def _below(self, text: str, accept: Callable[[str], bool], rank: Callable[[str], int]) -> Located:
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
            return Located(None, "ambiguous", others=len(best), near=tuple(best[:3]))
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


def _stem_path(path: str) -> str:
    """A path without the endings of its file."""
    folder, slash, _ = path.rpartition("/")
    return folder + slash + stem_of(path)
