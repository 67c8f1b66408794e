"""Memory that tensors on a CPU have freed goes back to the system.

glibc keeps freed blocks below a threshold, which it raises up to 32 MiB as it goes, for the next request. Tensors
of many sizes come and go in a training step, so that what a process holds grows well beyond what is alive at any
moment.
"""

from __future__ import annotations

import ctypes
import os
import platform

#: `mallopt` parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: Bytes from which a block is mapped by itself. Smaller thresholds gain nothing in a step of ViT-B.
OWN_MAPPING = 512 << 10


def give_memory_back(threshold: int = OWN_MAPPING) -> bool:
    """From now on, large blocks are mapped one by one and leave the process as soon as they are freed.

    Mapping costs page faults at every allocation. So large tensors also ask for huge pages, by torch's own
    THP_MEM_ALLOC_ENABLE, unless the environment sets it otherwise; the kernel grants them where
    /sys/kernel/mm/transparent_hugepage/enabled says "madvise" or "always". torch reads the variable at its first
    allocation of 2 MiB or more, so call this before there are models. A child process inherits the variable only.

    Settings that the environment makes (MALLOC_MMAP_THRESHOLD_ and the like, GLIBC_TUNABLES) stay as they are, and
    so does an allocator that is not glibc's.

    Args:
        threshold: bytes. What is smaller stays in the heap.

    Returns:
        Whether anything was set.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _OTHERS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # each call returns 1 if it was heard; a fixed threshold also ends its growing
    return all([mallopt(_MMAP_THRESHOLD, threshold) == 1, mallopt(_TRIM_THRESHOLD, threshold) == 1])


_OTHERS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
