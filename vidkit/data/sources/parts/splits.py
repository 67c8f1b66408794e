"""Which split a file or a folder is named for, and at which level of a tree the split folders lie."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

_FORMS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation"),
    "test": ("test", "testing"),
}
_OF_WORD = {form: split for split, forms in _FORMS.items() for form in forms}

# the whole name is a split's: what may stand around it is Kinetics' own number, and the size of scaled videos
_FOLDER = re.compile(
    rf"(?:(?:kinetics|k)[ _-]?[0-9]{{3}}[ _.-])?({'|'.join(_OF_WORD)})(?:[ _.-]*[0-9]{{3,4}}(?:p|px)?)?",
    re.IGNORECASE,
)


def split_of_name(name: str) -> str | None:
    """The split that an annotation file's name says, if it says exactly one.

    >>> split_of_name("something-something-v2-validation.json")
    'val'
    """
    said = {_OF_WORD[word] for word in re.split(r"[^a-z0-9]+", name.lower()) if word in _OF_WORD}
    return said.pop() if len(said) == 1 else None


def split_of_folder(name: str) -> str | None:
    """The split of a folder whose whole name is a split's. Classes have such words in their names.

    >>> split_of_folder("val_256"), split_of_folder("training dog")
    ('val', None)
    """
    match = _FOLDER.fullmatch(name)
    return _OF_WORD[match.group(1).lower()] if match else None


def split_of_folders(parts: Sequence[str], telling: Callable[[str], str | None] = split_of_folder) -> str | None:
    """The split that the innermost telling folder names."""
    return next((split for name in reversed(parts) if (split := telling(name)) is not None), None)


def split_level(folders: Iterable[Sequence[str]]) -> int | None:
    """The level at which the split folders of a tree lie; None where it has none.

    Folders named as splits, with folders below them, are split folders where two splits are named, or where one
    holds most of the videos: else a class may well be called "train". Where no folder lies below any of them, they
    are split folders only if every folder at that level is named so.

    Args:
        folders: for each video the names of its folders, outermost first.
    """
    below: Counter[tuple[int, str]] = Counter()
    deeper: Counter[int] = Counter()
    names: dict[int, set[str]] = {}
    for parts in filter(None, folders):
        for level, name in enumerate(parts):
            names.setdefault(level, set()).add(name)
            deeper[level] += 1
            if level + 1 < len(parts) and (split := split_of_folder(name)) is not None:
                below[level, split] += 1
    votes: Counter[int] = Counter()
    for (level, _), count in below.items():
        votes[level] += count
    fitting = [
        level
        for level, count in votes.items()
        if sum(at == level for at, _ in below) > 1 or 2 * count >= deeper[level]
    ]
    if fitting:
        return min(fitting, key=lambda level: (-votes[level], level))
    return next(
        (
            level
            for level, found in sorted(names.items())
            if deeper[level] == deeper[0] and all(split_of_folder(name) for name in found)
        ),
        None,
    )
