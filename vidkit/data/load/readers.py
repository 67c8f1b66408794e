"""How processes that read clips end: with the process that started them, and not by a signal meant for it.

A terminal's Ctrl-C, and the SIGTERM of torchrun and of many batch systems, go to whole process groups. A training
run answers both with a checkpoint after its step, for which it needs its readers: they are a group of their own.
"""

from __future__ import annotations

import os

from vidkit.data.processes import die_with


def loader_worker(number: int) -> None:
    """First thing in a worker of torch's DataLoader, which ends by itself when the main process does."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()


def pool_worker(parent: int) -> None:
    """First thing in a process that fills a cache: its pool does not notice when the main process is killed, and it
    would hold the cache's memory for ever.
    """
    os.setpgrp()
    die_with(parent)
