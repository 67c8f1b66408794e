"""Scratch of attempts at a shard, and how one of them is published.

A process that holds the folder's lock works in the shard's `.part` files: when it dies, so does its lock, and the
next one goes on there. A task on another node holds no lock, and one that was given up may still be running. So
each has a folder of its own, in which it makes the whole shard; the one build that holds the lock then moves the
first that is whole to its place. Nothing of two attempts can mix.

out/.build/attempts/train-000000/ID/000000.tar, train-000000.jsonl    and their .part while they are made
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from vidkit.data import shards
from vidkit.data.plan.layout import Slot
from vidkit.files import sync_folder

_FOLDER = "attempts"


def scratch(work: Path, slot: Slot, attempt: str) -> tuple[Path, Path]:
    """(tar, journal) of an attempt, as they are called once it is whole."""
    folder = _attempts(work, slot) / attempt
    return folder / Path(slot.name).name, folder / slot.journal


def publish(tar: Path, journal: Path, made_tar: Path, made_journal: Path) -> bool:
    """Move a whole attempt to the shard's place, the journal last: with it, the shard counts as finished.

    May be called again after it was killed anywhere. Hold the build's lock.

    Returns:
        Whether the shard is there: False where the attempt is not whole.
    """
    if not made_journal.exists():
        return shards.finished(tar, journal)
    if not shards.finished(tar, journal):
        for path in (tar, journal):  # half a shard that nobody needs any more
            _part(path).unlink(missing_ok=True)
        if made_tar.exists():
            tar.parent.mkdir(parents=True, exist_ok=True)
            made_tar.replace(tar)
        elif shards.is_empty(made_journal):
            tar.unlink(missing_ok=True)
        if not shards.finished(tar, made_journal):  # its tar was lost
            return False
        if tar.parent.exists():
            sync_folder(tar.parent)
        made_journal.replace(journal)
        sync_folder(journal.parent)
    shutil.rmtree(made_journal.parent, ignore_errors=True)
    return True


def settle(work: Path, slot: Slot, tar: Path, journal: Path) -> None:
    """Publish what an earlier build's attempts had made whole, if anything."""
    for folder in _folders(work, slot):
        publish(tar, journal, folder / tar.name, folder / slot.journal)


def take_over(work: Path, slot: Slot, tar: Path, journal: Path) -> None:
    """Begin where the best of the other attempts at a shard has come to, if this one (`tar`, `journal`) is new.

    Copied, as the other may still be running. `ShardWriter` finds out how much of it is good.
    """
    tar_part, journal_part = _part(tar), _part(journal)
    if journal_part.exists() and tar_part.exists():
        return
    others = [work / slot.journal, *(folder / slot.journal for folder in _folders(work, slot))]
    begun = [path for path in map(_part, others) if path.exists() and path != journal_part]
    if not begun:
        return
    best = max(begun, key=lambda path: path.stat().st_size)
    place = work.parent / slot.name if best.parent == work else best.parent / tar.name
    with contextlib.suppress(FileNotFoundError):  # it was finished meanwhile, or removed
        for path in (tar_part, journal_part):
            path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(best, journal_part)
        shutil.copyfile(_part(place), tar_part)  # second: it holds at least what the journal says


def _attempts(work: Path, slot: Slot) -> Path:
    return work / _FOLDER / slot.journal.removesuffix(".jsonl")


def _folders(work: Path, slot: Slot) -> Iterator[Path]:
    folder = _attempts(work, slot)
    if folder.is_dir():
        yield from sorted(folder.iterdir())


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
