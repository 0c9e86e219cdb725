"""Kills a writer at any one of its changes of the disk."""

import os
import shutil
from collections.abc import Callable
from typing import Any

CALLS = ((os, "rename"), (os, "replace"), (os, "fsync"), (os, "unlink"), (shutil, "rmtree"))
KILLED = 9


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do some work in a process of its own that dies before its ``call``-th change of the disk.

    Returns:
        Whether it came so far; False when the work was done before.
    """
    child = os.fork()
    if child == 0:
        left = [call]

        def dying(real: Callable[..., Any]) -> Callable[..., Any]:
            def one(*given: Any, **named: Any) -> Any:
                if left[0] == 0:
                    os._exit(KILLED)
                left[0] -= 1
                return real(*given, **named)

            return one

        for module, name in CALLS:
            setattr(module, name, dying(getattr(module, name)))
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED
