"""Processes: whether others run, that none outlives this one, and which memory it keeps."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's mallopt."""
_KEPT = 1 << 30
_HIGHEST = 1 << 25
"""The highest ``M_MMAP_THRESHOLD`` that every 64-bit glibc takes; older ones refuse more."""


def keep_freed_memory() -> None:
    """Let the C library keep what arrays free, up to 1 GiB at the end of its heap.

    By default glibc hands large arrays back at once, and the next one is made of new pages that
    the kernel clears: a sixth of the time of a search that makes arrays of 16 MB block by block.
    Memory that is in use does not grow by it.  Does nothing with another C library.
    """
    with suppress(AttributeError, OSError):
        allocator = ctypes.CDLL(None)
        # Were it refused, the other setting alone would map every larger array anew.
        if allocator.mallopt(_MMAP_THRESHOLD, _KEPT) or allocator.mallopt(
            _MMAP_THRESHOLD, _HIGHEST
        ):
            allocator.mallopt(_TRIM_THRESHOLD, _KEPT)


def end_with_parent() -> Callable[[], None] | None:
    """Return the ``preexec_fn`` by which a child dies when its parent is killed.

    Only Linux can do this; elsewhere a child of a killed parent works on to its end, and
    its locks keep a second run from writing beside it.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def request() -> None:
        prctl(_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))

    return request


def is_running(pid: int) -> bool:
    """Check whether there is a process of this number; when in doubt, there is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
