"""Archives in a source folder: what lies in them takes its place among the files, as if it were unpacked there.

Readers see the names that unpacking would give; `FileIndex.packed` says where each really is.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vidkit.data.packed.archives import Archive, find_archives, index_all
from vidkit.data.packed.beginning import begins_with
from vidkit.data.packed.kinds import FIRST_BYTES, HEAD_BYTES, kind_of
from vidkit.data.packed.members import SEPARATOR, Member
from vidkit.data.packed.opening import open_source
from vidkit.data.packed.scratch import Scratch
from vidkit.data.paths import path_to_text
from vidkit.data.sources.parts.endings import TEXT_ENDINGS, VIDEO_ENDINGS, begins_as_video, ending_of
from vidkit.data.sources.parts.splits import split_of_folder
from vidkit.data.tables import Matching
from vidkit.errors import ClipError, ConfigError, display_path

ARCHIVES = "archives"
MEMBERS = "files in archives"
KEPT = "archives whose first files lie here unpacked (not read)"
AGAIN = "in several places, packed or not (the first that can be used is)"
NESTED = "ignored: archives within archives (unpack the outer ones)"

_ARCHIVE_ENDINGS = frozenset({".tar", ".tgz", ".gz", ".zip", ".rar", ".7z", ".bz2", ".xz", ".tbz2", ".txz"})

#: What may stand behind the name of what an archive holds: endings, and the number of a part.
_BEHIND = re.compile(r"(\.(tar|tgz|gz|zip|bz2|xz|tbz2|txz|part))+([._-]?([0-9]{1,4}|[a-z]{2}))?$", re.IGNORECASE)

#: Endings of files that are no archives, though there may be one for every clip. Those are not opened.
_SURELY_OTHER = (
    "jpg jpeg png bmp webp tif tiff svg npy npz pt pth ckpt pkl pickle h5 hdf5 mat wav mp3 m4a aac flac opus srt "
    "vtt ass xml html htm md rst py sh ipynb yaml yml toml ini cfg log pdf docx xlsx pptx parquet arrow db jar whl"
)
SURELY_OTHER = frozenset(f".{ending}" for ending in _SURELY_OTHER.split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """How archives are looked into."""

    scratch: Scratch = field(default_factory=Scratch)
    quiet: bool = True
    """No progress on stderr."""


@dataclass(slots=True)
class PackedFiles:
    """What archives hold, by the names that unpacking would give."""

    places: dict[str, list[str]] = field(default_factory=dict)
    """Name -> `archive::member`, of every archive that has it, in the order of the archives."""
    names: list[str] = field(default_factory=list)
    """Those names that could be videos, or that say nothing by an ending."""
    texts: list[str] = field(default_factory=list)
    """Those names that could be annotations."""
    outside: list[str] = field(default_factory=list)
    """Names of members that lead out of the folder: never opened."""
    rest: list[str] = field(default_factory=list)
    """Files that are no archives."""


def look_inside(
    root: str,
    candidates: Sequence[str],
    plain: Sequence[str],
    matching: Matching,
    inside: Inside,
    names_class: Callable[[str], bool],
) -> PackedFiles:
    """Index the archives among some files of a folder, and file what they hold; count it in `matching`.

    Args:
        plain: videos that lie there unpacked. Archives of just these are left alone: many keep their downloads.
        names_class: whether an archive's own name is that of a class of the source.

    Raises:
        BuildError: an archive that cannot be indexed or inflated here.
    """
    found = find_archives(root, candidates)
    files = PackedFiles(rest=found.rest)
    for note in found.notes:
        matching.doubt(note)
    there = _Unpacked(root, plain if found.archives else ())
    archives = [archive for archive in found.archives if not there.is_all_of(archive)]
    for archive in found.archives:
        if archive not in archives:
            matching.count(KEPT, display_path(archive.path))
    indexes = index_all(root, archives, inside.scratch, quiet=inside.quiet)
    sizes: dict[str, int] = {}
    for archive, index in zip(archives, indexes, strict=True):
        with contextlib.closing(index):
            members = [member for member in index.members() if not _is_hidden(member.name, matching, archive)]
            for note in index.notes:
                matching.doubt(f"{display_path(archive.path)} {note}")
        folder = _stands_for(archive, members, names_class)
        matching.count(ARCHIVES, display_path(archive.path))
        matching.count(MEMBERS, by=len(members))
        for member in members:
            _file(folder + member.name, archive, member, files, matching, sizes)
    files.outside = [name for name in files.outside if name not in files.places]
    return files


class _Unpacked:
    """Knows archives whose first files lie unpacked in the folder: under the same names, of the same sizes."""

    FILES = 16

    def __init__(self, root: str, plain: Sequence[str]) -> None:
        self.root = root
        self._named: dict[str, list[str]] = {}
        for path in plain:
            self._named.setdefault(path[path.rfind("/") + 1 :], []).append(path)

    def is_all_of(self, archive: Archive) -> bool:
        """A zip is never: what it holds is known at once."""
        if not self._named or archive.kind == "zip":
            return False
        try:
            return begins_with(self.root, archive, self._is_here, self.FILES)
        except OSError:  # said when it is indexed
            return False

    def _is_here(self, member: Member) -> bool | None:
        if ending_of(member.name) not in VIDEO_ENDINGS or member.name.startswith(".") or "/." in member.name:
            return None
        for path in self._named.get(member.name[member.name.rfind("/") + 1 :], ()):
            with contextlib.suppress(OSError):
                if os.stat(os.path.join(self.root, path)).st_size == member.size:
                    return True
        return False


def _is_hidden(name: str, matching: Matching, archive: Archive) -> bool:
    """As in folders; macOS's tar and zip add such files (`._x.mp4`) to those that were meant."""
    if not (name.startswith(".") or "/." in name):
        return False
    matching.count("ignored: hidden files and folders", display_path(f"{archive.path}{SEPARATOR}{name}"))
    return True


def _file(
    name: str, archive: Archive, member: Member, files: PackedFiles, matching: Matching, sizes: dict[str, int]
) -> None:
    place = f"{archive.path}{SEPARATOR}{member.name}"
    ending = ending_of(name)
    if ending in _ARCHIVE_ENDINGS:
        matching.count(NESTED, display_path(place))
        return
    if member.fault == "unsafe-path":
        if ending in VIDEO_ENDINGS:
            files.outside.append(name)
        return
    places = files.places.setdefault(name, [])
    places.append(place)
    if len(places) == 1:
        sizes[name] = member.size
        (files.texts if ending in TEXT_ENDINGS else files.names).append(name)
    elif ending in VIDEO_ENDINGS:
        matching.count(AGAIN, display_path(place))
        if sizes[name] != member.size:
            matching.doubt(f"{display_path(places[0])} and {display_path(place)} are unlike files of one name")


def _stands_for(archive: Archive, members: Sequence[Member], names_class: Callable[[str], bool]) -> str:
    """The folder that the members lie in once unpacked: the archive's own, or one that is named as the archive.

    The latter where the archive's name is a split's or a class's, and the members' folders do not say it.
    """
    above, slash, name = archive.path.rpartition("/")
    stem = _BEHIND.sub("", name)
    folders = {member.name.rpartition("/")[0] for member in members if ending_of(member.name) in VIDEO_ENDINGS}
    named = False
    if split_of_folder(stem) is not None:
        said = [split_of_folder(part) for folder in [above, *folders] for part in folder.split("/")]
        named = split_of_folder(stem) not in said
    elif names_class(stem):
        named = not any(names_class(folder.rpartition("/")[2]) for folder in folders if folder)
    return above + slash + (f"{stem}/" if named else "")


def begins_as(root: str, place: str, *, follow_symlinks: bool) -> Literal["video", "archive"] | None:
    """What a member without an ending is, as far as its first bytes tell."""
    try:
        with open_source(root, path_to_text(place), follow_symlinks=follow_symlinks) as file:
            head = file.read(HEAD_BYTES)
    except (ClipError, OSError):
        return None
    if begins_as_video(head[:400]):
        return "video"
    return "archive" if kind_of(head[:FIRST_BYTES], lambda: head) is not None else None


def refuse_unclear(plain: Sequence[str], places: dict[str, list[str]]) -> None:
    """
    Raises:
        ConfigError: a file on disk is called as a member of an archive beside it.
    """
    twofold = {path for path in plain if SEPARATOR in path}
    if not twofold:
        return
    for found in places.values():
        for place in found:
            if place in twofold:
                raise ConfigError(
                    f"{display_path(place)} is both a file and a member of an archive",
                    hint="rename the file or the archive",
                )
