"""What a reader needs to judge a number: machine, versions, commit. Nothing that names the machine or its folders.

Importing this module brings no torch along.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import vidkit
from vidkit import processor

#: Distributions whose version can change a measured number.
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "av", "webdataset")


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory (10^9 bytes), system, Python, vidkit, commit, load."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "vidkit": vidkit.__version__,
        "git": git_commit(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def versions() -> dict[str, str | None]:
    """Installed versions of `PACKAGES`, read without importing them; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def accelerator() -> dict[str, Any] | None:
    """The current CUDA device; None where torch sees none. Imports torch."""
    import torch

    if not torch.cuda.is_available():
        return None
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    cudnn: Any = torch.backends.cudnn
    return {
        "name": about.name,
        "memory_gb": round(about.total_memory / 1e9, 1),
        "compute_capability": f"{about.major}.{about.minor}",
        "devices": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
    }


def cpu_model() -> str:
    """The processor's model as the system names it; its architecture where there is no name."""
    return processor.fields().get("model name") or platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The checkout's commit, with "+changes" where the package differs from it; None outside a checkout.

    An installed vidkit may lie below some other project's checkout, whose commit says nothing about it: the commit
    counts only where git tracks the package.
    """
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=here.parents[3], capture_output=True, text=True, check=False)
        return found.stdout.strip() if found.returncode == 0 else ""

    try:
        if not git("ls-files", "--", "vidkit/__init__.py"):
            return None
    except OSError:  # no git program
        return None
    commit = git("rev-parse", "HEAD")
    return commit + ("+changes" if commit and git("status", "--porcelain", "vidkit") else "") or None
