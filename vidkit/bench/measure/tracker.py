"""Live bytes of tensors while code runs, by what they are for. Works on fake tensors, which have no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class StorageTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every storage that an operation makes until it is freed, rounded up to the allocator's unit.

    torch ships such a tracker (`torch.distributed._tools.mem_tracker.MemTracker`). That one rounds tensors on a
    CUDA device only, and CUDA's fake tensors cannot run a backward pass without a GPU; it also needs a torch with
    distributed support. Without rounding the two agree, which a test holds.

    A storage counts for what `kind` was when it was made; `mark` says otherwise. `begin` starts a phase and names
    what is made in it.
    """

    def __init__(self, unit: int = 1) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unit = unit
        self.kind = "other"
        self.live: dict[str, int] = {}
        """Bytes by kind."""
        self.total = 0
        self.peak = 0
        self.at_peak: dict[str, int] = {}
        """Bytes by kind when the peak was reached."""
        self.phase = ""
        self.phases: dict[str, int] = {}
        """Highest total of each phase."""
        self._known: dict[int, tuple[Any, int, str]] = {}

    def begin(self, phase: str, kind: str) -> None:
        """Start `phase`: from now on peaks count for it, and what is made is of `kind`."""
        self.phase, self.kind = phase, kind
        self.phases[phase] = self.total
        self._raise_peak()

    def reset(self) -> None:
        """Forget the peaks, not what is alive."""
        self.peak, self.phases, self.at_peak = self.total, {}, dict(self.live)

    def mark(self, tensors: Iterable[Tensor], kind: str) -> None:
        """These are of `kind`; those made before the tracker began are counted from now on."""
        for tensor in tensors:
            self._see(tensor, kind)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value)
        return result

    def _see(self, tensor: Tensor, kind: str | None = None) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._known:
            if kind is not None:
                reference, size, before = self._known[key]
                self._known[key] = (reference, size, kind)
                self._add(before, -size)
                self._add(kind, size)
            return
        size = -(-storage.nbytes() // self.unit) * self.unit
        kind = kind or self.kind
        self._known[key] = (weakref.ref(storage, lambda _: self._forget(key)), size, kind)
        self._add(kind, size)
        self._raise_peak()

    def _forget(self, key: int) -> None:
        _, size, kind = self._known.pop(key)
        self._add(kind, -size)

    def _add(self, kind: str, size: int) -> None:
        self.live[kind] = self.live.get(kind, 0) + size
        self.total += size

    def _raise_peak(self) -> None:
        if self.phase:
            self.phases[self.phase] = max(self.phases[self.phase], self.total)
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, dict(self.live)
