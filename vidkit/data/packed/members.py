"""What an archive holds, as its index has it, and the names that members may have."""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace

#: Between an archive and its member in a path: "train/part_0.tar::abseiling/x.mp4".
SEPARATOR = "::"

#: An archive with more members is no dataset's; its index alone would fill a disk.
MOST_MEMBERS = 20_000_000

#: Video hardly shrinks: what inflates to so many times its size is made to fill a disk. Small ones may.
MOST_RATIO = 250
FREE_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A file in an archive."""

    name: str
    """As it would be called once unpacked, with `/` between the parts (surrogate escapes allowed)."""
    offset: int
    """Of its bytes within a tar, of its local header within a zip."""
    size: int
    """Bytes, once inflated."""
    stored: int
    """Bytes that it takes in the archive."""
    method: int = 0
    """0: as it is; 8: deflated."""
    crc: int | None = None
    """Of its bytes, where the archive says it."""
    fault: str | None = None
    """A key of `CLIP_ERRORS` where it cannot be read, with `message` as its last words."""
    message: str | None = None

    def failed(self, fault: str, message: str) -> Member:
        """The same member, as one that cannot be read."""
        return replace(self, fault=fault, message=message)


@dataclass(frozen=True, slots=True)
class Link:
    """A link in an archive; what it means is known once all members are."""

    name: str
    target: str | None
    """Name of the member that it leads to; None: it leads out of the archive."""


#: What a reader of archives hands its finds to.
Add = Callable[[Member | Link], None]


def clean_name(name: str) -> tuple[str | None, bool]:
    """(a member's name as it is called once unpacked, whether it stays inside), None for a folder's own entry.

    Slashes in front go, as with tar and unzip; `..` that leads out goes too, and the name is marked.

    >>> clean_name("./a/x.mp4"), clean_name("../../x.mp4")
    (('a/x.mp4', True), ('x.mp4', False))
    """
    plain = posixpath.normpath(name.lstrip("/")) if name.strip("/") else "."
    inside = plain != ".." and not plain.startswith("../")
    while plain.startswith("../"):
        plain = plain[3:]
    return (None if plain in ("", ".", "..") else plain), inside


def link_target(name: str, target: str) -> str | None:
    """The member that a symbolic link means, as `Link.target`."""
    if target.startswith("/"):
        return None
    plain = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    return None if plain == ".." or plain.startswith("../") else plain
