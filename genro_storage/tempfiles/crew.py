"""Work done slice by slice until a deadline, by more threads only where one would mostly wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

WAIT = 0.02
"""Seconds that a thread waited in a slice, at least, for another one to be worth its switches."""


def run(slices: Iterator[T], work: Callable[[T], None], threads: int, is_over: Callable[[], bool]) -> list[T]:
    """Calls `work` with each slice, in at most `threads` threads, ours included; returns what `is_over` left undone.

    On a local disk one thread is the fastest: deleting is over before a thread could wait. So another one joins after
    a slice that waited, longer than it computed, for a slow disk or a network. `work` raises nothing.
    """
    turn = threading.Lock()
    helpers: list[threading.Thread] = []

    def toil() -> None:
        while not is_over():
            with turn:
                piece = next(slices, None)
            if piece is None:
                return
            begun, computed = time.monotonic(), time.thread_time()
            work(piece)
            busy = time.thread_time() - computed
            if time.monotonic() - begun - busy > max(WAIT, busy):
                join_in()

    def join_in() -> None:
        helper = threading.Thread(target=toil, name="genro-storage-temp-helper", daemon=True)
        with turn, suppress(RuntimeError):  # the interpreter ends: it starts no threads any more
            if len(helpers) + 1 < threads:
                helper.start()
                helpers.append(helper)

    toil()
    for helper in helpers:  # grows while we wait
        helper.join()
    return list(slices)
