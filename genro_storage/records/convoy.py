"""What the tasks of one event loop ask of a server travels together: one round trip, and one commit, for many."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence, Set
from functools import partial
from typing import Any, Generic, NamedTuple, TypeVar

from .._bridge import Outcome

Q = TypeVar("Q")
R = TypeVar("R")

LEAST = 8
"""Requests that are not spread over several lines: fewer are not worth a round trip more."""
LOOKS = 64
"""Requests that may be passed over, because what they name is under way, before a batch is closed."""

Carry = Callable[[Sequence[Q]], Coroutine[Any, Any, Sequence[R | BaseException]]]
"""Does a batch; an answer or an error for each. What it raises is the error of all."""


class _Asked(NamedTuple):
    what: Any
    weight: int
    names: Set[Any]
    answer: asyncio.Future[Any]


class Convoy(Generic[Q, R]):
    """The requests of one loop. One that is alone goes at once; those of one turn of the loop, and those that come
    while all lines are busy, go together.

    `lines`: batches under way at once. `most`: weight of one batch; a request above it goes by itself, and at once.
    """

    def __init__(self, carry: Carry[Q, R], *, lines: int, most: int) -> None:
        self._carry = carry
        self._lines = lines
        self._most = most
        self._waiting: deque[_Asked] = deque()
        self._tasks: set[asyncio.Task[Sequence[R | BaseException]]] = (
            set()
        )  # kept: a loop forgets tasks that nobody holds
        self._busy = 0
        self._asking = 0
        self._crowded = False
        self._called = False

    async def ask(self, what: Q, *, weight: int, names: Set[Any] = frozenset(), settle: bool = False) -> R:
        """The answer to a request, or its error.

        Args:
            names: requests that share one never travel in one batch.
            settle: cancelled, it waits for its outcome first; otherwise nobody waits for it any more.
        """
        self._asking += 1
        try:
            alone = self._asking == 1 and not self._crowded
            if alone and not settle:
                return await self._by_itself(what)
            loop = asyncio.get_running_loop()
            future: asyncio.Future[R] = Outcome(loop=loop) if settle else loop.create_future()
            asked = _Asked(what, weight, names, future)
            if weight > self._most:
                self._send([asked], 0)
            elif alone:
                self._send([asked], 1)
            else:
                self._waiting.append(asked)
                self._call()
            return await future
        finally:
            self._asking -= 1

    async def _by_itself(self, what: Q) -> R:
        """Without a task in between."""
        self._busy += 1
        try:
            (answer,) = await self._carry([what])
        finally:
            self._busy -= 1
            if self._waiting:
                self._call()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _call(self) -> None:
        """The batches leave when all tasks had their turn that are about to ask."""
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._depart)

    def _depart(self) -> None:
        self._called = False
        while self._waiting and self._busy < self._lines:
            share = max(LEAST, -(-len(self._waiting) // (self._lines - self._busy)))
            batch = self._batch(share)
            self._crowded = len(batch) > 1 or bool(self._waiting)
            self._send(batch, 1)

    def _batch(self, share: int) -> list[_Asked]:
        batch: list[_Asked] = []
        passed: list[_Asked] = []
        weight, names = 0, set[Any]()
        while self._waiting and len(batch) < share and len(passed) < LOOKS:
            asked = self._waiting[0]
            if batch and weight + asked.weight > self._most:
                break
            self._waiting.popleft()
            if not names.isdisjoint(asked.names):
                passed.append(asked)
                continue
            batch.append(asked)
            weight += asked.weight
            names |= asked.names
        self._waiting.extendleft(reversed(passed))
        return batch

    def _send(self, batch: Sequence[_Asked], line: int) -> None:
        self._busy += line
        task = asyncio.get_running_loop().create_task(self._carry([asked.what for asked in batch]))
        self._tasks.add(task)
        # Not in the task itself: cancelled before its first step, it would never tell.
        task.add_done_callback(partial(self._arrived, batch, line))

    def _arrived(self, batch: Sequence[_Asked], line: int, task: asyncio.Task[Sequence[R | BaseException]]) -> None:
        self._tasks.discard(task)
        self._busy -= line
        if task.cancelled():  # the loop goes down
            _end([*batch, *self._waiting])
            self._waiting.clear()
            return
        error = task.exception()
        _resolve(batch, task.result() if error is None else [error] * len(batch))
        if self._waiting:
            self._call()  # after those who were just answered had their turn


def _resolve(batch: Sequence[_Asked], answers: Sequence[Any]) -> None:
    for asked, answer in zip(batch, answers, strict=True):
        if asked.answer.done():  # cancelled
            continue
        if isinstance(answer, BaseException):
            asked.answer.set_exception(answer)
            asked.answer.exception()  # a caller that was cancelled does not ask for it
        else:
            asked.answer.set_result(answer)


def _end(asked: Sequence[_Asked]) -> None:
    """Lets go of those who wait, because there will be no answer."""
    for one in asked:
        if isinstance(one.answer, Outcome):
            one.answer.end()
        else:
            one.answer.cancel()
