"""The place that a build works in, held against other builds: a folder with its lock, a store with its lease."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from vidkit.data import dataset as folder
from vidkit.data.build.lease import hold
from vidkit.data.build.state import BuildState, lock
from vidkit.data.build.store_state import StoreState
from vidkit.data.storage import stores
from vidkit.data.storage.places import Place, StorePath
from vidkit.data.storage.upload import Abilities, abilities, abort_half_made
from vidkit.errors import BuildError, ConfigError

#: Raises a BuildError where the place is not ours any more.
Check = Callable[[], None]


@contextlib.contextmanager
def held(out: Place) -> Iterator[tuple[BuildState, Check]]:
    """What lies there, for as long as this build may change it.

    Raises:
        BuildError: another build is at work there, or it cannot be written.
        ConfigError: a web server, which takes nothing.
    """
    if not isinstance(out, StorePath):
        with lock(out):
            yield BuildState(out), lambda: None
        return
    if not out.listed:
        raise ConfigError(f"{out} is a web server's, which takes no files", hint="give a folder, or s3:// or gs://")
    work = out / folder.BUILD_STATE
    with writing(out):
        able = abilities(work)
    with tempfile.TemporaryDirectory(prefix="vidkit-build-") as scratch, _leased(out, able) as check:
        with writing(out):
            abort_half_made(out)
        yield StoreState(out, able, Path(scratch)), check


@contextlib.contextmanager
def _leased(out: StorePath, able: Abilities) -> Iterator[Check]:
    with contextlib.ExitStack() as stack:
        with writing(out):
            lease = stack.enter_context(hold(out / folder.BUILD_STATE, able))
        yield lease.check


@contextlib.contextmanager
def writing(out: Place) -> Iterator[None]:
    """What fails while a build writes, as an error that says how to go on.

    Raises:
        BuildError: it does.
    """
    try:
        yield
    except OSError as error:
        in_store = isinstance(out, StorePath) and error.filename is not None and "://" in str(error.filename)
        raise BuildError(
            f"cannot write to {out}: {error.strerror or error}",
            hint=f"{stores.hint(error)}; what is done is kept"
            if in_store
            else "make room (or mend the disk) and run the same command again; what is done is kept",
        ) from error
