"""What the tests of backends across threads and forks share."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

import pytest

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def in_children(count: int, act: Callable[[int], object]) -> list[int]:
    """Runs `act` in so many forked children at once; their exit statuses, 0 for those that did not raise."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            # OpenSSL does not survive a fork beside a thread that just begins to use it: such a child hangs in C, and
            # would hold the pipes of this run for ever.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(150)
            try:
                act(number)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


POOL = 64
"""Descriptors, or threads, that the connections of a mount may take (both ends of them, if the server is in here)."""


def leaks_nothing(use: Callable[[], object], threads: int = 200) -> None:
    """Lets so many threads use something, 50 at once: more than the connections of the pool must not stay open."""
    use()
    before, alive = _descriptors(), threading.active_count()
    for _ in range(threads // 50):
        running = [threading.Thread(target=use) for _ in range(50)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    assert _descriptors() <= before + POOL
    assert threading.active_count() <= alive + POOL


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"))
