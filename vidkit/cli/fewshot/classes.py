"""Which classes and clips episodes are drawn from, as the options of both commands say it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.fewshot.episodes.class_split import ClassSplit
    from vidkit.fewshot.episodes.draw import LabelledClips


def names_of(splits: str | None) -> list[str] | None:
    """
    >>> names_of("train, val")
    ['train', 'val']
    """
    return None if splits is None else [name.strip() for name in splits.split(",")]


def class_split_of(clips: LabelledClips, seed: int, shares: str | None, file: Path | None) -> ClassSplit:
    """The division of classes that the options ask for.

    Raises:
        ConfigError: options that exclude each other, or shares that are no numbers.
        AnnotationError, DatasetError: a file that is no class split, or one of other classes.
    """
    from vidkit.fewshot.episodes.class_split import SHARES, read_class_split, split_classes

    if file is not None:
        if shares is not None:
            raise ConfigError(
                "--class-split and --shares exclude each other", hint="leave one out: the file has its own shares"
            )
        return read_class_split(file, clips)
    try:
        numbers = SHARES if shares is None else tuple(float(text) for text in shares.split(","))
    except ValueError:
        raise ConfigError(
            f"--shares {shares!r} is not three numbers", hint="for example --shares 0.64,0.16,0.2"
        ) from None
    return split_classes(clips, seed=seed, shares=numbers)
