"""Where commands write: results on stdout, everything about the way there on stderr."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from vidkit.data.progress import Progress


def console(*, stderr: bool = False) -> Console:
    """A console that does not wrap lines where there is no terminal: logs and pipes keep whole paths."""
    from rich.console import Console  # a tenth of a second, which no --help should wait for

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    # ":b:" in a path is no picture of a letter
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, soft_wrap=not stream.isatty())


def print_json(value: Any) -> None:
    """On stdout, indented; what JSON does not know, a path for example, as its text."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def command_line() -> str:
    """This command, as it can be typed again."""
    return " ".join(["vidkit", *(shlex.quote(word) for word in sys.argv[1:])])


def first_process() -> bool:
    """Whether this is the process that prints, of those that torchrun or accelerate started."""
    return os.environ.get("RANK", "0") == "0"


def told(progress: Progress) -> Callable[[int, int], None]:
    """For work that tells (done, total) and knows its total only then."""

    def tell(done: int, total: int) -> None:
        progress.total = total
        progress.advance(by=done - progress.done)

    return tell
