"""Other processes: whether they run, and that none outlives this one."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PARENT_DEATH_SIGNAL = 1
"""``PR_SET_PDEATHSIG`` of Linux's prctl."""


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
