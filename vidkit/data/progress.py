"""Progress of long work: a bar with an ETA on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, TextIO

_LINE_EVERY_S = 10.0


class Progress:
    """Counts finished units by outcome. `advance` may be called from any thread.

    Args:
        stage: what is being done, as a participle ("building").
        total: units in all.
        unit: what is counted, in the plural.
        stream: where to write; stderr by default, so that stdout stays for results.
        quiet: write nothing.
    """

    def __init__(
        self, stage: str, total: int, *, unit: str = "clips", stream: TextIO | None = None, quiet: bool = False
    ) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.counts: Counter[str] = Counter()
        self.note = ""
        """What else a line says."""
        self._lock = threading.Lock()
        self._started = self._last_line = time.monotonic()
        self._skipped = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and self.stream.isatty():
            self._bar, self._task = _rich_bar(self)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self.quiet and kind is None:
            self._write_line()

    @property
    def done(self) -> int:
        """Units that are finished, by this run or an earlier one."""
        return sum(self.counts.values())

    @property
    def worked(self) -> int:
        """Units that this run finished itself."""
        return self.done - self._skipped

    def already(self, status: str, by: int = 1) -> None:
        """Count units that an earlier run finished; they say nothing about speed."""
        with self._lock:
            self.counts[status] += by
            self._skipped += by
            self._show()

    def advance(self, status: str = "ok", by: int = 1) -> None:
        """Count units that this run finished, whatever became of them (`status`), and show it."""
        with self._lock:
            self.counts[status] += by
            self._show()

    def rate(self) -> float:
        """Units per second of this run."""
        return self.worked / max(1e-9, time.monotonic() - self._started)

    def line(self) -> str:
        """The line as it is shown: stage, done of total, units a second, time left, what did not go well."""
        rate = self.rate()
        left = self.total - self.done
        eta = f"ETA {_clock(left / rate)}" if rate > 0 and left else ""
        others = [f"{status} {n:,}" for status, n in sorted(self.counts.items()) if status != "ok" and n]
        parts = [f"{self.done:,}/{self.total:,} {self.unit}", f"{rate:.1f} {self.unit}/s", eta, *others, self.note]
        return f"{self.stage}: " + "  ".join(p for p in parts if p)

    def _show(self) -> None:
        if self.quiet:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, words=self.line())
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._write_line()

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        print(self.line(), file=self.stream, flush=True)


def _rich_bar(progress: Progress) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}"),
        console=Console(file=progress.stream),
        refresh_per_second=4,
    )
    return bar, bar.add_task(progress.stage, total=progress.total or None, words=progress.stage)


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
