"""Freed tensors leave the process; settings of the environment stay."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

LINUX = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is set")

HOLES = """
import sys
from pathlib import Path
import torch
from vidkit.train.allocator import give_memory_back

pytestmark = pytest.mark.slow  # resident memory of processes, which other load can change

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000

was_set = sys.argv[1] == "set" and give_memory_back()
before = resident()
blocks = [torch.ones(300_000) for _ in range(300)]  # 1.2 MB each
full = resident()
del blocks[::2], blocks[:-1:2]  # those that stay keep the heap from being cut off at its end
print(was_set, round(full - before), round(resident() - before), len(blocks))
"""


def holes(how: str, **environment: str) -> tuple[bool, int, int, int]:
    """(whether it was set, MB of all blocks, MB after most were freed, blocks that are left) in a new process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    clean.pop("LD_PRELOAD", None)
    command = [sys.executable, "-c", HOLES, how]
    said = subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, check=True).stdout
    was_set, full, after, left = said.split()
    return was_set == "True", int(full), int(after), int(left)


@LINUX
def test_freed_blocks_leave_the_process() -> None:
    was_set, full, after, left = holes("set")
    assert was_set
    assert full >= 340
    assert after <= 1.2 * left + 15
    # the other side of the comparison: without it most of them stay
    assert holes("default", MALLOC_MMAP_THRESHOLD_="33554432")[2] > 200


@LINUX
def test_what_the_environment_sets_stays() -> None:
    was_set, *_ = holes("set", MALLOC_TRIM_THRESHOLD_="65536")
    assert not was_set


def test_other_allocators_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from vidkit.train import allocator

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert allocator.give_memory_back() is False
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ
