"""What lies under a source's folder, found in one pass."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidkit.data.dataset import DATASET_JSON
from vidkit.data.sources.parts.endings import (
    PARTIAL_ENDINGS,
    TEXT_ENDINGS,
    VIDEO_ENDINGS,
    ending_of,
    has_ending,
    looks_like_video,
)
from vidkit.data.sources.parts.packed import (
    AGAIN,
    NESTED,
    SURELY_OTHER,
    Inside,
    PackedFiles,
    begins_as,
    look_inside,
    refuse_unclear,
)
from vidkit.data.tables import Matching
from vidkit.errors import ConfigError, display_path

#: annotation files are looked for at most so many folders deep; class folders can hold a text file a clip
TEXT_DEPTH = 3

_HIDDEN = "ignored: hidden files and folders"
_PARTIAL = "ignored: unfinished downloads"
_OTHER = "ignored: other files"


@dataclass(frozen=True, slots=True)
class FileIndex:
    """Files under `root`, as sorted relative paths with `/` between the parts."""

    root: Path
    videos: list[str]
    texts: list[str]
    outside: frozenset[str] = frozenset()
    """Videos that are links to somewhere outside the root: known, never opened."""
    rest: tuple[str, ...] = ()
    """Files that were not taken, but could be what an annotation means: unfinished downloads, and files without
    an ending that do not begin as a video."""
    hidden: tuple[str, ...] = ()
    """Hidden folders, which were not read."""
    packed: Mapping[str, list[str]] = field(default_factory=dict)
    """Of files that lie in archives, by the names that unpacking would give: where they are, as `archive::member`;
    of one that is there unpacked too, its own path first."""

    def adopt(self, paths: Iterable[str], matching: Matching) -> FileIndex:
        """The index with some of `rest` among the videos, as an annotation names them."""
        more = sorted(set(paths) & set(self.rest))
        if not more:
            return self
        for path in more:
            matching.uncount(_PARTIAL if ending_of(path) in PARTIAL_ENDINGS else _OTHER, display_path(path))
        rest = tuple(path for path in self.rest if path not in set(more))
        return replace(self, videos=sorted([*self.videos, *more]), rest=rest)

    def __repr__(self) -> str:
        return f"FileIndex({str(self.root)!r}, {len(self.videos)} videos, {len(self.texts)} texts)"


def scan(
    folder: Path,
    matching: Matching,
    *,
    follow_symlinks: bool = False,
    is_named: Callable[[str], bool] = lambda path: False,
    names_class: Callable[[str], bool] = lambda name: False,
    inside: Inside | None = None,
) -> FileIndex:
    """Index videos and annotation files under `folder`; count what is left out in `matching`.

    Every folder is read once, by its real place first, so that links cannot make a loop. Links that lead out of
    the folder are not followed (folders) or kept apart (videos), unless `follow_symlinks`. Files are not opened
    or stat'ed: 500,000 of them take seconds. Only where a name has no ending, the file is a video if its name
    `is_named` as this source's videos are, or if it begins as one.

    Args:
        names_class: whether an archive is named as a class of the source.
        inside: how to look into archives, which takes opening what is neither video nor text; by default they stay
            closed.

    Raises:
        BuildError: an archive that cannot be indexed or inflated here.
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
    walk.leave_built()
    root = Path(walk.root)
    rest = []
    for path in walk.unsure:
        if is_named(path) or looks_like_video(root / path):
            walk.videos.append(path)
        else:
            rest.append(path)
    packed = PackedFiles(rest=[*rest, *walk.others])
    if inside is not None:
        packed = look_inside(walk.root, packed.rest, walk.videos, matching, inside, names_class)
        refuse_unclear(walk.videos, packed.places)
    still = set(packed.rest)
    rest = [path for path in rest if path in still]
    for path in packed.rest:
        walk.leave(_OTHER, path)
    rest += walk.add_packed(packed, is_named)
    walk.videos.sort()
    # a folder named as a video, with none inside, stands where a file should be: the build will say so
    posing = []
    for name in walk.posing:
        at = bisect.bisect_left(walk.videos, name + "/")
        if at == len(walk.videos) or not walk.videos[at].startswith(name + "/"):
            posing.append(name)
    walk.videos = sorted(walk.videos + posing) if posing else walk.videos
    walk.texts.sort()
    for heading in (_HIDDEN, _PARTIAL, _OTHER):  # sorted: a report does not depend on the file system's order
        for path in sorted(walk.left.get(heading, ())):
            matching.count(heading, display_path(path))
    return FileIndex(
        root,
        walk.videos,
        walk.texts,
        frozenset(walk.outside),
        rest=tuple(sorted(rest + walk.left.get(_PARTIAL, []))),
        hidden=tuple(sorted(walk.hidden)),
        packed=packed.places,
    )


class _Walk:
    def __init__(self, root: str, matching: Matching, follow: bool) -> None:
        self.root = root
        self.matching = matching
        self.follow = follow
        self.videos: list[str] = []
        self.texts: list[str] = []
        self.outside: list[str] = []
        self.posing: list[str] = []
        self.unsure: list[str] = []
        self.others: list[str] = []
        """Files that could be archives."""
        self.hidden: list[str] = []
        self.maybe_built: list[str] = []
        self.left: dict[str, list[str]] = {}
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
                    self.leave(_HIDDEN, prefix + name)
                    if entry.is_dir(follow_symlinks=False):
                        self.hidden.append(prefix + name)
                elif entry.is_symlink():
                    self.link(entry, prefix, real, depth)
                elif entry.is_dir(follow_symlinks=False):
                    subfolders.append((f"{prefix}{name}/", f"{real}/{name}"))
                    if name[name.rfind(".") :].lower() in VIDEO_ENDINGS:
                        self.posing.append(prefix + name)
                else:
                    self.file(prefix + name, depth)
                    if name == DATASET_JSON:
                        self.maybe_built.append(prefix)
        return subfolders

    def leave_built(self) -> None:
        """Shards of a dataset that is built into the source's own folder are no source."""
        for folder in filter(self.is_built, self.maybe_built):
            for path in [path for path in self.others if path.startswith(folder)]:
                self.others.remove(path)
                self.leave(_OTHER, path)

    def is_built(self, folder: str) -> bool:
        """Whether its dataset.json is one of ours: the name alone is anybody's."""
        try:
            text = Path(self.root, folder, DATASET_JSON).read_bytes()
            return bool({"vidkit", "plan_sha256"} <= json.loads(text).keys())
        except (OSError, ValueError, AttributeError, RecursionError):
            return False

    def leave(self, heading: str, path: str) -> None:
        self.left.setdefault(heading, []).append(path)

    def file(self, path: str, depth: int) -> None:
        ending = path[path.rfind(".") :].lower()
        if ending in VIDEO_ENDINGS:
            self.videos.append(path)
            return
        ending = ending_of(path)
        if ending in PARTIAL_ENDINGS:
            self.leave(_PARTIAL, path)
        elif ending in TEXT_ENDINGS and depth <= TEXT_DEPTH:
            self.texts.append(path)
        elif not has_ending(path):
            self.unsure.append(path)
        elif ending in SURELY_OTHER or ending in TEXT_ENDINGS:
            self.leave(_OTHER, path)
        else:
            self.others.append(path)

    def add_packed(self, packed: PackedFiles, is_named: Callable[[str], bool]) -> list[str]:
        """Put what lies in archives among the files; returns names without an ending that are no videos."""
        own, rest = {*self.videos, *self.texts}, []
        for name in packed.texts:
            if name in own:
                del packed.places[name]  # the one beside goes first
            elif name.count("/") <= TEXT_DEPTH:
                self.texts.append(name)
        for name in packed.names:
            places, ending = packed.places[name], ending_of(name)
            if name in own:
                self.matching.count(AGAIN, display_path(places[0]))
                places.insert(0, name)
            elif ending in VIDEO_ENDINGS:
                self.videos.append(name)
            elif ending in PARTIAL_ENDINGS:
                self.leave(_PARTIAL, name)
            elif has_ending(name):
                self.leave(_OTHER, name)
            else:
                what = "video" if is_named(name) else begins_as(self.root, places[0], follow_symlinks=self.follow)
                if what == "video":
                    self.videos.append(name)
                    continue
                if what == "archive":
                    self.matching.count(NESTED, display_path(places[0]))
                    continue
                rest.append(name)
                self.leave(_OTHER, name)
        self.videos += [name for name in packed.outside if name not in own]
        self.outside += [name for name in packed.outside if name not in own]
        return rest

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
        kinds = (self.videos, self.unsure, self.others)
        before = [len(paths) for paths in kinds]
        self.file(path, depth)
        grown = next((paths for paths, count in zip(kinds, before, strict=True) if len(paths) > count), None)
        if self.follow or grown is None:
            return
        if self.inside(self.target(entry, real)):
            return
        if grown is not self.videos:  # to know what it is, it would have to be opened
            self.leave(_OTHER, grown.pop())
            return
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
