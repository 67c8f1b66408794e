"""Source folders in a store, as folders of this machine that hold their names.

Readers of sources look at names and annotations alone, and open no video. So the store's listing becomes a tree of
empty files, with the annotation files copied into it; what is planned is then looked for in the store itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vidkit.data.sources.parts.endings import TEXT_ENDINGS, ending_of
from vidkit.data.storage import stores
from vidkit.data.storage.places import PARALLEL, Place, StorePath, address_of
from vidkit.errors import ConfigError, VidkitError

log = logging.getLogger("vidkit.data")


@dataclass(frozen=True, slots=True)
class Mirror:
    """Folders of this machine, and what they stand for."""

    folders: dict[str, Path]
    stands_for: dict[str, StorePath]
    """Real path of such a folder -> the folder in a store."""

    def root(self, folder: str | os.PathLike[str]) -> str:
        """Where the videos of a folder really are: itself, or an address."""
        found = self.stands_for.get(os.fspath(folder))
        return os.fspath(folder) if found is None else address_of(found)


@contextlib.contextmanager
def mirrored(folders: Mapping[str, Place]) -> Iterator[Mirror]:
    """Folders to read names and annotations in, until the context ends. Errors name the store.

    Raises:
        ConfigError: a store that does not answer, a folder in which nothing lies, or a web server.
    """
    with tempfile.TemporaryDirectory(prefix="vidkit-names-") as scratch:
        local: dict[str, Path] = {}
        stands_for: dict[str, StorePath] = {}
        for name, at in folders.items():
            if isinstance(at, StorePath):
                local[name] = Path(os.path.realpath(scratch)) / name / (at.name or name)
                stands_for[str(local[name])] = at
                with of_store(at):
                    _write(at, local[name])
            else:
                local[name] = at
        try:
            yield Mirror(local, stands_for)
        except VidkitError as error:
            for mirror, at in stands_for.items():
                if error.file is not None and error.file.startswith(mirror):
                    error.file = f"{at}{error.file[len(mirror) :]}"
            raise


@contextlib.contextmanager
def of_store(at: Place) -> Iterator[None]:
    """Errors of a store that holds a source, as ones that say what to do.

    Raises:
        ConfigError: it refuses, or does not answer.
    """
    try:
        yield
    except OSError as error:
        if not isinstance(at, StorePath):
            raise
        raise ConfigError(error.strerror or str(error), file=at, hint=stores.hint(error)) from None


def _write(at: StorePath, to: Path) -> None:
    if not at.listed:
        raise ConfigError(
            f"{at}: a web server does not say which files it has", hint="give a folder, or s3:// or gs://"
        )
    if at.is_file():  # of annotations
        to.parent.mkdir(parents=True)
        at.download(to)
        return
    to.mkdir(parents=True)
    unfit, texts = [], []
    for name in sorted(at.names()):
        if name.endswith("/"):  # stands for a folder
            continue
        if not _touch(to, name):
            unfit.append(name)
        elif ending_of(name) in TEXT_ENDINGS:
            texts.append(name)
    if unfit:
        log.warning(
            "%s: %d objects are passed over, as no file can be called so, such as %r", at, len(unfit), unfit[0]
        )
    with ThreadPoolExecutor(PARALLEL) as pool:
        for _ in pool.map(lambda name: (at / name).download(to / name), texts):
            pass


def _touch(to: Path, name: str) -> bool:
    """Make an empty file of an object's name, if there can be one."""
    if {"", ".", ".."} & set(name.split("/")) or "\0" in name:
        return False
    path = to / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except OSError:  # too long, or an object where another one needs a folder
        return False
    return True
