"""Plain functions as tasks of a Ray cluster, behind the interface of `concurrent.futures`.

A pool hands Ray a window of tasks, as many as it has room for, so that a million of them cost the driver no more
than a line each. Who does not ask for a cluster does not import ray.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

from vidkit import extras
from vidkit.errors import ConfigError, VidkitError

log = logging.getLogger("vidkit.cluster")

EXECUTORS = ("local", "ray")

INSTALL = extras.install("ray")

#: How often a task is begun before it is taken to be what kills its workers, or meets a disk that does not recover.
TRIES = 5
_PAUSE_S = 1.0  # before a task is begun again after an error of a disk; doubled each time

#: Errors that no second try mends.
_LASTING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

_STORE = 128 << 20  # bytes of a cluster of our own: results are small, and nothing else goes through it

#: How often a cluster of our own is begun.
STARTS = 4

_CONNECT_S = 10.0
_TICK_S = 0.5
_LOOK_S = 2.0  # between looks at the nodes

#: For the last seconds of so many, more tasks are handed to Ray than it has room for: what waits is what a cluster
#: that grows by need goes by. Not always, since two of Ray's processes take 3 % of a processor each for as long as
#: something waits, and the driver a little.
_MORE_EVERY_S, _MORE_S = 60.0, 10.0


def check_executor(name: str, ray_address: str | None) -> None:
    """
    Raises:
        ConfigError: there is none of that name, or an address for another.
    """
    if name not in EXECUTORS:
        raise ConfigError(f"--executor is {name!r}; expected {' or '.join(EXECUTORS)}")
    if ray_address is not None and name != "ray":
        raise ConfigError("--ray-address is of a cluster, and the work is done here", hint="add --executor ray")


@dataclass(frozen=True, kw_only=True, slots=True)
class Nodes:
    """What a cluster is at the moment, and what it did."""

    alive: int
    """That can take a task."""
    at_once: int
    """Tasks that fit on them together."""
    again: int = 0
    """Tasks begun again, after a node was lost or a disk failed."""

    def __str__(self) -> str:
        words = f"{self.alive} node{'s' * (self.alive != 1)}"
        return f"{words}  {self.again} begun again" if self.again else words


@contextlib.contextmanager
def connected(address: str | None, *, cpus: int | None = None) -> Iterator[None]:
    """In a cluster: the one at `address`; else the one at $RAY_ADDRESS; else one of its own, on this machine.

    Ray by itself would join whatever cluster it finds here, which may be another user's, or a dead one.

    Args:
        address: host:port, or ray://host:port.
        cpus: of a cluster that has to be started here; by default all.

    Raises:
        ConfigError: ray is not installed, no cluster there, or one of another version.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("--executor ray needs the package ray", hint=INSTALL) from None
    if ray.is_initialized():  # the caller's own: it stays
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a build tells nobody about itself
    address = address or os.environ.get("RAY_ADDRESS") or None
    how: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # as without it; 15 is meant for nodes that serve others
        how |= {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": _STORE}
    else:
        _must_answer(address)
    with _own_signals():
        try:
            if address is None:
                _start_here(how)
            else:
                ray.init(address=address, **how)
        except Exception as error:  # ray has no kind of its own for this: other versions, no room, no answer
            raise _unreachable(address, error) from error
    try:
        yield
    finally:
        ray.shutdown()


def _start_here(how: Mapping[str, Any]) -> None:
    """Start a cluster of our own. Ray gives its processes 30 s, which a machine with much else to do may not: what
    has been loaded by then is in the memory, and the next try is quicker.
    """
    import ray

    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # the one wait that can be set
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", **how)
            return
        except Exception as error:
            ray.shutdown()
            _end_begun(error)
            if not left:
                raise
            log.warning("Ray did not start here (%s); trying again", _lines(error)[0][:200])


def _end_begun(error: Exception) -> None:
    """End the processes of a start that failed: Ray would leave them to the end of this one."""
    from ray._private.node import Node

    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is Node.__init__.__code__:
            with contextlib.suppress(Exception):
                frame.f_locals["self"].kill_all_processes(check_alive=False, allow_graceful=False)


def _lines(error: Exception) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]


def _must_answer(address: str) -> None:
    """Ray itself would wait for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from None


def _unreachable(address: str | None, error: Exception) -> ConfigError:
    said = " ".join(_lines(error))[:400]
    if address is None:
        return ConfigError(
            f"no Ray cluster could be started on this machine, in {STARTS} tries: {said}",
            hint="often the machine has too much else to do, or no room in /tmp or /dev/shm: start one by hand, "
            "`ray start --head`, and give its address with --ray-address; or use --executor local",
        )
    return ConfigError(
        f"no Ray cluster to use at {address}: {said}",
        hint="start one: ray start --head, with the same Python and ray on every node; or leave out --ray-address. "
        "One that asks for a token: RAY_AUTH_MODE=token, and the head's ~/.ray/auth_token here",
    )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray replaces what a process does on SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@dataclass(slots=True, eq=False)
class _Item:
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    tries: int = 0


class RayPool(Executor):
    """Tasks of a cluster. Be `connected` while it is used.

    A task whose node or worker is lost is begun again, elsewhere; so is one after an `OSError` that may pass.
    Another exception is that of its future.

    Args:
        needs: of Ray's `options`: num_cpus, num_gpus.
        grace_s: what tasks that are stopped have to leave things in order, after a KeyboardInterrupt; 0: they are
            killed.
        on_nodes: told of the cluster now and then, from a thread.
        on_tick: called about twice a second, from the same.
        on_lost: called with the arguments of a task that is begun again, from the same.
    """

    def __init__(
        self,
        needs: Mapping[str, float],
        *,
        grace_s: float = 0.0,
        on_nodes: Callable[[Nodes], None] = lambda nodes: None,
        on_tick: Callable[[], None] = lambda: None,
        on_lost: Callable[[tuple[Any, ...]], None] = lambda arguments: None,
    ) -> None:
        self._needs = {"num_cpus": 1, **needs}
        self._grace_s = grace_s
        self._on_nodes, self._on_tick, self._on_lost = on_nodes, on_tick, on_lost
        self._remotes: dict[Callable[..., Any], Any] = {}
        self._queue: deque[_Item] = deque()
        self._later: list[tuple[float, _Item]] = []
        self._flying: dict[Any, _Item] = {}
        self._wake = threading.Event()
        self._closing = self._stopping = False
        self._again = 0
        self._pump = threading.Thread(target=self._run, name="ray tasks", daemon=True)
        self._pump.start()

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> Future[Any]:  # type: ignore[override]
        """`work(*arguments)` on some node. Both are pickled; `work` by its name."""
        if self._closing:
            raise RuntimeError("the pool is closed")
        item = _Item(work, arguments)
        self._queue.append(item)
        self._wake.set()
        return item.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all tasks; or, with `cancel_futures`, end those at work at once and forget the others."""
        self._closing = True
        self._stopping = self._stopping or cancel_futures
        self._wake.set()
        if wait:
            self._pump.join()

    # --- of the pump's thread ---

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # nobody may wait for ever
            self._give_up(error)
        else:
            self._give_up(None)

    def _loop(self) -> None:
        import ray

        nodes, looked, ticked = Nodes(alive=0, at_once=0), 0.0, 0.0
        began = time.monotonic()
        while not self._stopping:
            if not (self._queue or self._flying or self._later):
                if self._closing:
                    self._on_nodes(self.look())  # how it was in the end
                    return
                self._wake.wait(_TICK_S)
                self._wake.clear()
                continue
            now = time.monotonic()
            if now - looked > _LOOK_S:
                nodes, looked = self.look(), now
                self._on_nodes(nodes)
            if now - ticked > _TICK_S:
                ticked = now
                self._on_tick()
            self._fill(window(nodes.at_once, now - began))
            if not self._flying:
                time.sleep(_TICK_S / 10)
                continue
            # the first that ends, and then all that have
            if ray.wait(list(self._flying), timeout=_TICK_S)[0]:
                flying = list(self._flying)
                for ref in ray.wait(flying, num_returns=len(flying), timeout=0)[0]:
                    self._take(ref)

    def _fill(self, most: int) -> None:
        import ray

        now = time.monotonic()
        ready = [item for when, item in self._later if when <= now]
        self._later = [(when, item) for when, item in self._later if when > now]
        self._queue.extendleft(ready)
        while self._queue and len(self._flying) < most:
            item = self._queue.popleft()
            if item.tries == 0 and not item.future.set_running_or_notify_cancel():
                continue
            try:
                if item.work not in self._remotes:
                    self._remotes[item.work] = ray.remote(item.work).options(max_retries=0, **self._needs)
            except Exception as error:  # such as a function that Ray does not take
                item.future.set_exception(error)
                continue
            item.tries += 1
            self._flying[self._remotes[item.work].remote(*item.arguments)] = item

    def _take(self, ref: Any) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError, TaskCancelledError

        item = self._flying.pop(ref)
        try:
            result = ray.get(ref)
        except RayTaskError as error:  # raised by the work itself
            cause = error.cause if isinstance(error.cause, (VidkitError, OSError)) else error
            if isinstance(cause, OSError) and cause.errno not in _LASTING and item.tries < TRIES:
                self._later.append((time.monotonic() + _PAUSE_S * 2 ** (item.tries - 1), item))
                self._begun_again(item)
            else:
                item.future.set_exception(cause)
        except TaskCancelledError as error:
            item.future.set_exception(error)
        except RayError as error:  # its worker, its node, or what it had to say is gone
            if item.tries < TRIES:
                self._queue.appendleft(item)
                self._begun_again(item)
            else:
                item.future.set_exception(_lost(item, error))
        else:
            item.future.set_result(result)

    def _begun_again(self, item: _Item) -> None:
        self._again += 1
        self._on_nodes(self.look())
        self._on_lost(item.arguments)

    def look(self) -> Nodes:
        """The cluster as it is now."""
        import ray

        alive = at_once = 0
        for node in ray.nodes():  # type: ignore[no-untyped-call]
            fits = [int(node["Resources"].get(_RESOURCE[name], 0) // n) for name, n in self._needs.items() if n]
            if node["Alive"] and min(fits, default=0) > 0:
                alive += 1
                at_once += min(fits)
        return Nodes(alive=alive, at_once=at_once, again=self._again)

    def _give_up(self, error: BaseException | None) -> None:
        import ray

        with contextlib.suppress(Exception):  # nothing can be told to a cluster that is gone
            left = list(self._flying)
            if self._grace_s and left:
                for ref in left:
                    ray.cancel(ref, force=False)
                # a task that has ended may still be in Ray's books; cancelled then, Ray ends this whole process
                _, left = ray.wait(left, num_returns=len(left), timeout=self._grace_s)
            for ref in left:
                ray.cancel(ref, force=True)
        for item in self._flying.values():
            item.future.set_exception(error or TaskStopped())
        for item in (*self._queue, *(item for _, item in self._later)):
            if item.tries or item.future.set_running_or_notify_cancel():
                item.future.set_exception(error or TaskStopped())


def window(at_once: int, seconds: float) -> int:
    """How many tasks to have in Ray's hands, so many seconds after the pool began, where `at_once` fit."""
    more = seconds % _MORE_EVERY_S >= _MORE_EVERY_S - _MORE_S
    return 2 * at_once + 2 if more or not at_once else at_once


_RESOURCE = {"num_cpus": "CPU", "num_gpus": "GPU"}


class TaskStopped(Exception):  # noqa: N818 - not an error
    """The pool was shut down before the task had ended."""


def _lost(item: _Item, error: Exception) -> VidkitError:
    words = (str(error).strip().splitlines() or [""])[0]
    return VidkitError(
        f"a task was begun {item.tries} times, and each time its worker or node was lost: "
        f"{type(error).__name__}: {words[:300]}",
        hint="look at the nodes (`ray status`, memory above all), and run the same command again: it goes on",
    )
