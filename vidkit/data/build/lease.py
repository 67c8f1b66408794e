"""Who builds in a store: an object names its owner, who renews it. A store has no lock that ends with a process.

The others look at whether it changes, by their own clock, so that clocks of machines may differ. What is not
renewed for `LEASE_S` seconds is taken over, at once if its process ran on this machine and is gone. Shards do not
depend on it: they are published once, whoever makes them, and are the same bytes. It saves work, and tells people.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidkit.data.storage import stores
from vidkit.data.storage.places import StorePath
from vidkit.data.storage.upload import Abilities, create, remove, send
from vidkit.errors import BuildError

OWNER = "owner.json"

#: Seconds between two renewals, and without one until another may take over.
BEAT_S = 10.0
LEASE_S = 60.0

_LOOK_S = 1.0


class Lease:
    """A place in a store that this process builds in. Use `hold`."""

    def __init__(self, at: StorePath, able: Abilities) -> None:
        self.at, self.able = at, able
        self.me: dict[str, Any] = {"id": uuid.uuid4().hex, "host": platform.node(), "pid": os.getpid()}
        self.me["process"] = _process()
        self._beats = 0
        self._end = threading.Event()
        self._lost: str | None = None
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def check(self) -> None:
        """
        Raises:
            BuildError: another took over, since this one did not renew in time.
        """
        if self._lost is not None:
            raise BuildError(
                f"{self._lost}, as this one could not renew its {OWNER} in time",
                hint="wait until it ends, then run the same command again; what is done is kept",
            )

    def _renew(self) -> None:
        while not self._end.wait(BEAT_S):
            with contextlib.suppress(OSError):  # the store may be back in time
                found = _read(self.at)
                if found is None or found.get("id") != self.me["id"]:
                    self._lost = _another(found or {}, self.at)
                    return
                send(self.at, self._told())

    def _told(self) -> bytes:
        self._beats += 1
        return json.dumps({**self.me, "beats": self._beats}).encode()

    def take(self) -> None:
        """Become the owner.

        Raises:
            BuildError: another is, and is alive.
        """
        while not self._taken():
            found = _read(self.at)
            if found is not None and self._is_over(found):
                remove(self.at)
        self._thread.start()

    def _taken(self) -> bool:
        if not create(self.at, self._told(), self.able):
            return False
        if self.able.only_new:
            return True
        time.sleep(_LOOK_S)  # another may have looked at the same time: the one who wrote last is the owner
        return bool((_read(self.at) or {}).get("id") == self.me["id"])

    def _is_over(self, found: dict[str, Any]) -> bool:
        """Whether an owner is gone; waits for its lease to end where that cannot be known.

        Raises:
            BuildError: it is alive.
        """
        ours = self.me["process"].rpartition(" ")[0]
        machine, _, started = str(found.get("process", "")).rpartition(" ")
        if machine and machine == ours:
            if _started(int(found["pid"])) != started:
                return True
            raise BuildError(_another(found, self.at), hint=_WAIT)
        stores.log.warning(
            "%s: %s held it; waiting for %.0f s whether it is alive", self.at, found.get("host"), LEASE_S
        )
        until = time.monotonic() + LEASE_S
        while time.monotonic() < until:
            time.sleep(_LOOK_S)
            now = _read(self.at)
            if now is None:
                return False
            if now != found:
                raise BuildError(_another(now, self.at), hint=_WAIT)
        return True

    def release(self) -> None:
        """Let others build there."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()
        with contextlib.suppress(OSError):
            if (_read(self.at) or {}).get("id") == self.me["id"]:
                remove(self.at)


@contextlib.contextmanager
def hold(work: StorePath, able: Abilities) -> Iterator[Lease]:
    """Keep other builds out of a place in a store.

    Args:
        work: the folder of the build's state.

    Raises:
        BuildError: another build is at work there.
    """
    lease = Lease(work / OWNER, able)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


_WAIT = "wait until it ends, or give another --out"


def _another(found: dict[str, Any], at: StorePath) -> str:
    where = str(at).removesuffix(f"/.build/{OWNER}")
    return f"another build is at work in {where} (process {found.get('pid', '?')} on {found.get('host', '?')})"


def holder(work: StorePath) -> str | None:
    """Which build holds a place at the moment, by an id of its own."""
    found = _read(work / OWNER)
    return None if found is None else str(found.get("id"))


def _read(at: StorePath) -> dict[str, Any] | None:
    try:
        found = json.loads(at.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _process() -> str:
    """This machine since its start, this space of process ids, and when this process began."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux: nothing tells whether a process there is alive
        return ""
    return f"{boot} {space} {_started(os.getpid())}"


def _started(pid: int) -> str:
    """When a process began; nothing where there is none."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if told[0] in "ZX" else told[19]  # ended, and its parent has not looked yet
