"""Who goes first where both want the processor: the screen, not the worker."""

import os
from contextlib import suppress

NICENESS = 10  # keys stay as quick as when idle, for about 3 % of the speed


def stand_back(process: int = 0) -> None:
    """Let a process (this one, unless another is named) go behind those beside it; one that already does stays there.

    Linux weighs it only against programs of the same session (`sched_autogroup`): a worker must share its front end's.
    """
    with suppress(OSError):  # it is gone, or this system has its own ideas
        if os.getpriority(os.PRIO_PROCESS, process) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, process, NICENESS)
