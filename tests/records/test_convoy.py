"""Requests that travel together: alone at once, in a crowd by few batches, and never for each other's faults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from genro_storage.records.convoy import Convoy


class Server:
    """Answers with the double of each number, when it is let; an odd name of a hundred is an error."""

    def __init__(self, patience: float = 60) -> None:
        self.patience = patience
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.most = 0
        self._now = 0

    async def carry(self, batch: Sequence[int]) -> list[int | BaseException]:
        self.batches.append(list(batch))
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            await asyncio.wait_for(self.open.wait(), self.patience)
            await asyncio.sleep(0)
        finally:
            self._now -= 1
        if -1 in batch:
            raise ConnectionError("all of it")
        return [ValueError(str(number)) if number == 13 else 2 * number for number in batch]


async def turns() -> None:
    """Lets everybody do what can be done now."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_who_is_alone_goes_at_once() -> None:
    async def use() -> None:
        server = Server()
        convoy = Convoy(server.carry, lines=2, most=100)
        assert [await convoy.ask(number, weight=1, settle=number % 2 == 1) for number in range(6)] == [
            0,
            2,
            4,
            6,
            8,
            10,
        ]
        assert server.batches == [[number] for number in range(6)]

    asyncio.run(use())


def test_a_crowd_travels_in_few_batches() -> None:
    async def use() -> None:
        server = Server()
        convoy = Convoy(server.carry, lines=2, most=1000)

        async def work(start: int) -> None:
            for number in range(start, 6400, 64):
                if number != 13:
                    assert await convoy.ask(number, weight=1, settle=number % 3 == 0) == 2 * number

        await asyncio.gather(*(work(start) for start in range(64)))
        assert sorted(number for batch in server.batches for number in batch) == [n for n in range(6400) if n != 13]
        assert len(server.batches) < 6400 / 20
        assert server.most == 2

    asyncio.run(use())


def test_the_fault_of_one_is_nobody_elses() -> None:
    async def use() -> None:
        convoy = Convoy(Server().carry, lines=1, most=100)
        calls = (convoy.ask(number, weight=1, settle=bool(number % 2)) for number in range(10, 20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [repr(answer) for answer in answers if isinstance(answer, Exception)] == ["ValueError('13')"]
        assert answers[4:] == [28, 30, 32, 34, 36, 38]
        with pytest.raises(ValueError, match="13"):
            await convoy.ask(13, weight=1)
        with pytest.raises(ValueError, match="13"):
            await convoy.ask(13, weight=1, settle=True)

    asyncio.run(use())


def test_what_ends_a_batch_ends_all_in_it() -> None:
    async def use() -> None:
        server = Server()
        convoy = Convoy(server.carry, lines=1, most=100)
        first = asyncio.ensure_future(convoy.ask(0, weight=1))
        calls = (convoy.ask(number, weight=1) for number in (1, -1, 2))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionError] * 3
        assert await first == 0
        assert await convoy.ask(3, weight=1) == 6

    asyncio.run(use())


def test_who_names_the_same_does_not_travel_together() -> None:
    async def use() -> None:
        server = Server()
        convoy = Convoy(server.carry, lines=3, most=10_000)
        calls = (convoy.ask(number, weight=1, names={number % 7, -number}) for number in range(14, 300))
        assert await asyncio.gather(*calls) == [2 * number for number in range(14, 300)]
        assert all(len({number % 7 for number in batch}) == len(batch) for batch in server.batches)
        assert max(map(len, server.batches)) == 7

    asyncio.run(use())


def test_what_is_heavy_goes_by_itself_and_waits_for_nobody() -> None:
    async def use() -> None:
        server = Server()
        server.open.clear()
        convoy = Convoy(server.carry, lines=1, most=10)
        light = [asyncio.ensure_future(convoy.ask(number, weight=4)) for number in range(9)]
        await turns()
        heavy = asyncio.ensure_future(convoy.ask(100, weight=11))
        await turns()
        assert server.batches == [[0], [100]]
        server.open.set()
        assert await asyncio.gather(*light, heavy) == [*(2 * number for number in range(9)), 200]
        assert max(map(len, server.batches)) == 2

    asyncio.run(use())


def test_who_is_cancelled_leaves_the_others_alone() -> None:
    async def use() -> None:
        server = Server()
        server.open.clear()
        convoy = Convoy(server.carry, lines=1, most=100)
        tasks = [asyncio.ensure_future(convoy.ask(number, weight=1, settle=number == 3)) for number in range(6)]
        await turns()
        for number in (2, 3):
            tasks[number].cancel()
        await turns()
        assert tasks[2].cancelled()
        assert not tasks[3].done()  # its outcome comes first
        server.open.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, int, *[asyncio.CancelledError] * 2, int, int]
        assert await convoy.ask(7, weight=1) == 14

    asyncio.run(use())


@pytest.mark.parametrize("turns", range(5))
def test_the_loop_can_go_down(turns: int) -> None:
    """Whoever waits for an outcome that will not come must not hold up the end of the program."""
    ended = []

    async def use() -> None:
        server = Server(patience=0.2)  # as every driver: what leaves late is cut off by nobody else
        server.open.clear()
        convoy = Convoy(server.carry, lines=1, most=100)

        async def one(number: int) -> None:
            try:
                await convoy.ask(number, weight=1, settle=True)
            finally:
                ended.append(number)

        tasks = [asyncio.ensure_future(one(number)) for number in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        assert len(tasks) > len(ended) == 0

    asyncio.run(use())
    assert len(ended) == 20
