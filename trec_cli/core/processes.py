"""Starting other programs so that none outlives this one."""

import ctypes
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
