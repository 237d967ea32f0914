"""The protocol of the mount store under random schedules: owners that crash, pause and are taken over at any step."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any

import pytest

from genro_storage.exceptions import (
    CommitOutcomeUnknownError,
    StorageConflictError,
    StorageExistsError,
    StorageNotFoundError,
    StorageUnavailableError,
    VersionConflictError,
)
from genro_storage.records import _mount_log
from genro_storage.records._mount_log import MountLog
from genro_storage.records.base import Change, Delete, Put
from genro_storage.records.lease import Lease
from genro_storage.records.owner import Owner

LEASE = 30.0
ITEMS = ("a", "b", "c")


class Pause:
    """Where the scheduler may go on with somebody else, or never come back; `until` a time of the clock."""

    def __init__(self, until: float = 0.0) -> None:
        self.until = until

    def __await__(self) -> Generator[Pause, None, None]:
        yield self


class World:
    """The objects that all share, and one clock."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.etags = 0
        self.time = 0.0


class SimulatedObjects:
    """One owner's view: it may be stopped before and after each effect, and answers may be lost."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def get(self, path: str) -> tuple[bytes, str]:
        await Pause()
        found = self.world.objects.get(path)
        await Pause()
        if found is None:
            raise StorageNotFoundError(path)
        return found[0], str(found[1])

    async def look(self, paths: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes | None] = {}
        for path in self.world.chance.sample(paths, len(paths)):  # they arrive as they like
            await Pause()
            there = self.world.objects.get(path)
            found[path] = None if there is None else there[0]
        await Pause()
        return [found[path] for path in paths]

    async def create(self, path: str, data: bytes) -> str:
        await Pause()
        if path in self.world.objects:
            await Pause()
            raise StorageExistsError(path)
        return await self._write(path, data)

    async def replace(self, path: str, data: bytes, etag: str) -> str:
        await Pause()
        if path not in self.world.objects or str(self.world.objects[path][1]) != etag:
            await Pause()
            raise StorageConflictError(path)
        return await self._write(path, data)

    async def _write(self, path: str, data: bytes) -> str:
        fate = self.world.chance.random()
        if path.startswith("log/") and fate < 0.02:
            raise StorageUnavailableError("not sent")
        self.world.etags += 1
        etag = self.world.etags
        self.world.objects[path] = (data, etag)
        await Pause()
        if path.startswith("log/") and fate > 0.98:
            raise StorageUnavailableError("the answer was lost")
        return str(etag)

    async def delete(self, path: str, etag: str | None = None) -> None:
        await Pause()
        found = self.world.objects.get(path)
        if found is not None and etag is not None and str(found[1]) != etag:
            await Pause()
            raise StorageConflictError(path)
        self.world.objects.pop(path, None)
        await Pause()

    async def names(self, folder: str, after: str = "") -> list[str]:
        await Pause()
        found = sorted(path.removeprefix(folder + "/") for path in self.world.objects if path.startswith(folder + "/"))
        await Pause()
        return [name for name in found if name > after]

    def monotonic(self) -> float:
        return self.world.time

    async def sleep(self, seconds: float) -> None:
        await Pause(self.world.time + seconds)


class History:
    """What was acknowledged, and what may or may not have happened."""

    def __init__(self) -> None:
        self.tags = 0
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self.versions: set[int] = set()


class Actor:
    """One owner and the program that uses it: it writes, reads and folds until it is lost."""

    def __init__(self, world: World, history: History, number: int, log: Callable[..., MountLog] = MountLog) -> None:
        self.world = world
        self.history = history
        owner = Owner("elsewhere", number, "", f"{number}")  # of another host: nobody can tell whether it lives
        objects = SimulatedObjects(world)
        self.log = log(objects, Lease(objects, owner, LEASE), lambda: 0, f"{number}")
        self.until = 0.0
        self.alive = True
        self.work: Coroutine[Any, Any, None] | None = None

    def step(self) -> None:
        """Goes on to the next pause."""
        if self.work is None:
            self.work = self.run()
        try:
            self.until = self.work.send(None).until
        except StopIteration:
            self.alive = False

    async def run(self) -> None:
        try:
            await self.log.open()
            while True:
                await self.act()
        except (StorageConflictError, StorageUnavailableError):
            return

    async def act(self) -> None:
        chance = self.world.chance.random()
        if chance < 0.5:
            await self.write()
        elif chance < 0.8:
            await self.log.fold(self.world.chance.randint(1, 4))
        elif chance < 0.9:
            await self.log.renew()
        elif chance < 0.97:
            await Pause()
        else:
            await self.log.close()
            raise StorageConflictError("ended in order")

    async def write(self) -> None:
        """Two commits at once, each a read-modify-write of the list and of one item that the list tells of."""
        try:
            batch = [changes for _ in range(self.world.chance.randint(1, 2)) if (changes := await self.changes())]
            tags = [self.tag_of(changes) for changes in batch]
        except VersionConflictError:
            return
        self.history.unknown |= set(tags)
        try:
            answers = await self.log.commit(batch)
        except CommitOutcomeUnknownError:
            return
        except StorageConflictError:
            self.history.unknown -= set(tags)
            raise
        for tag, answer in zip(tags, answers, strict=True):
            self.history.unknown.discard(tag)
            if isinstance(answer, list):
                self.history.acknowledged.add(tag)
                for version in answer:
                    assert version == 0 or version not in self.history.versions, "a version came back"
                    self.history.versions.add(version)

    async def changes(self) -> list[Change]:
        await self.log.ready()
        held = await self.log.read("s", "list")
        self.history.tags += 1
        item = self.world.chance.choice(ITEMS)
        kind = self.world.chance.choice("+-")
        tag = f"{self.history.tags}{kind}{item}"
        text = (held.data or b"").decode() if held else ""
        listed = Put("s", "list", f"{text} {tag}".encode(), expect=held.version if held else 0)
        return [listed, Put("s", item, tag.encode()) if kind == "+" else Delete("s", item)]

    @staticmethod
    def tag_of(changes: list[Change]) -> str:
        listed = changes[0]
        assert isinstance(listed, Put)
        return listed.data.decode().split()[-1]


def finished(call: Coroutine[Any, Any, Any], world: World) -> Any:
    """The result of a call that nobody interrupts."""
    while True:
        try:
            world.time = max(world.time, call.send(None).until)
        except StopIteration as end:
            return end.value


async def survey(log: MountLog) -> dict[str, str]:
    """What the records say."""
    await log.ready()
    found = {}
    for key in ("list", *ITEMS):
        held = await log.read("s", key)
        if held is not None:
            found[key] = (held.data or b"").decode()
    return found


def judge(found: dict[str, str], history: History) -> None:
    """Nothing acknowledged is missing, nothing is there twice, no commit by half."""
    tags = found.pop("list", "").split()
    assert len(set(tags)) == len(tags), "applied twice"
    assert history.acknowledged <= set(tags), "an acknowledged commit is lost"
    assert set(tags) <= history.acknowledged | history.unknown, "a refused commit was applied"
    last = {tag.lstrip("0123456789")[1]: tag for tag in tags}
    wanted = {item: tag for item, tag in last.items() if "+" in tag}
    assert found == wanted, "a commit by half, or a deleted record came back"


def schedule(seed: int, log: Callable[..., MountLog] = MountLog) -> History:
    """One random schedule; afterwards an owner that nobody disturbs looks, and again while the others wake up."""
    chance = random.Random(seed)
    world, history = World(chance), History()
    actors = [Actor(world, history, 1, log)]
    for _ in range(chance.randint(50, 400)):
        if chance.random() < 0.02 and len(actors) < 6:
            actors.append(Actor(world, history, len(actors) + 1, log))
        if chance.random() < 0.05:
            world.time += chance.choice([1.0, 5.0, 20.0, 40.0])
        awake = [actor for actor in actors if actor.alive and actor.until <= world.time]
        if not awake:
            world.time += 1.0
            continue
        actor = chance.choice(awake[-2:] if chance.random() < 0.7 else awake)  # the old ones are mostly paused
        if chance.random() < 0.005:
            actor.alive = False  # it crashed: nobody goes on with it
            continue
        for _ in range(chance.randint(1, 12)):
            if actor.alive and actor.until <= world.time:
                actor.step()
    last = Actor(world, history, 99, log)
    for _ in range(20):
        try:
            finished(last.log.open(), world)
            break
        except StorageConflictError:
            last = Actor(world, history, 99, log)
        except StorageUnavailableError:
            last = Actor(world, history, 99, log)
    judge(finished(survey(last.log), world), history)
    for _ in range(chance.randint(0, 60)):  # those that were taken for dead go on where they were
        awake = [actor for actor in actors if actor.alive and actor.until <= world.time]
        if awake:
            chance.choice(awake).step()
        if chance.random() < 0.3 and not last.log.lost:
            try:
                finished(last.log.fold(2), world)
            except StorageConflictError:
                break
    after = Actor(world, history, 100, log)
    world.time += 2 * LEASE
    while True:
        try:
            finished(after.log.open(), world)
            break
        except (StorageConflictError, StorageUnavailableError):
            after = Actor(world, history, 100, log)
    judge(finished(survey(after.log), world), history)
    for actor in actors:
        if actor.work is not None:
            actor.work.close()
    return history


@pytest.mark.timeout(900)
def test_random_schedules(soak: Callable[[int], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 of them (GENRO_SOAK=1): no lost update, no half commit, no lost acknowledgement, no version twice."""
    monkeypatch.setattr(_mount_log, "KEPT", 2)
    for seed in range(soak(20_000)):
        try:
            schedule(seed)
        except AssertionError as error:
            raise AssertionError(f"schedule {seed}: {error}") from error


class ForgetsStickiness(MountLog):
    """Deleted records are really gone, so that an owner from before may bring them back."""

    def _replay(self, number: int, data: bytes | None, *, sticky: bool) -> None:
        super()._replay(number, data, sticky=False)


class TakesNoNumber(MountLog):
    """Trusts its lease: the number of the next commit is not taken, so that two owners may go on."""

    async def open(self) -> None:
        assert self.lease is not None
        await self.lease.take()
        numbers = await self._numbers("")
        self._next = (numbers[-1] if numbers else 0) + 1
        await self._replay_all(numbers, sticky=True)

    async def ready(self) -> None:
        await self._settle()


class ForgetsTheEnd(MountLog):
    """Deletes all that is folded: the next owner counts from a number that was used."""

    async def _forget(self, keep: int) -> None:
        await super()._forget(keep=0)


class FoldsWithoutConditions(MountLog):
    """Writes what it has, whatever is there."""

    async def _fold(self, held: Any) -> None:
        path = _mount_log.path_of(held.space, held.key)
        await self.objects.delete(path)
        if held.data is not None:
            await self.objects.create(path, _mount_log.encoded(held))


@pytest.mark.parametrize("wrong", [TakesNoNumber, ForgetsTheEnd])
def test_the_model_sees_what_is_wrong(wrong: type[MountLog], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the protocol is there for a reason: without it some schedule loses something."""
    monkeypatch.setattr(_mount_log, "KEPT", 2)
    with pytest.raises(AssertionError):
        for seed in range(2000):
            schedule(seed, wrong)


class Calm(random.Random):
    """No fault happens by itself."""

    def random(self) -> float:
        return 0.5


def late_fold(later: Change, log: Callable[..., MountLog], steps: int = 3) -> str | None:
    """What a record holds in the end: its first owner stops in the middle of folding it, and goes on much later."""
    world, history = World(Calm()), History()
    first, second, third = (Actor(world, history, number, log).log for number in (1, 2, 3))
    finished(first.open(), world)
    finished(first.commit([[Put("s", "k", b"old")]]), world)
    fold = first.fold(1)
    for _ in range(steps):  # after three it has looked, found nothing, and is about to create the object
        fold.send(None)
    world.time += 2 * LEASE
    finished(second.open(), world)
    for change in (later, *(Put("s", f"{n}", b"") for n in range(_mount_log.KEPT))):  # its entry is forgotten too
        finished(second.commit([[change]]), world)
    finished(second.fold(100), world)
    with pytest.raises((StopIteration, StorageConflictError)):
        while True:
            fold.send(None)
    world.time += 2 * LEASE
    finished(third.open(), world)
    held = finished(third.read("s", "k"), world)
    return None if held is None else held.data.decode()


def test_entries_go_while_later_ones_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a load that never ends the log stays short; what a later entry overwrote is not waited for."""
    monkeypatch.setattr(_mount_log, "KEPT", 0)
    world = World(Calm())
    log = Actor(world, History(), 1).log
    finished(log.open(), world)
    for key in ("a", "b", "a", "c"):
        finished(log.commit([[Put("s", key, b"")]]), world)

    def entries() -> list[int]:
        return [int(path[4:]) for path in sorted(world.objects) if path.startswith("log/")]

    assert entries() == [1, 2, 3, 4, 5]  # the first takes over
    finished(log.fold(1), world)  # the newest of a
    assert entries() == [3, 4, 5]
    finished(log.fold(1), world)
    assert entries() == [5]


def test_a_late_fold_brings_nothing_back() -> None:
    assert late_fold(Delete("s", "k"), MountLog) is None
    assert late_fold(Delete("s", "k"), ForgetsStickiness) == "old"


def test_a_late_fold_overwrites_nothing() -> None:
    for steps in (1, 2, 3):
        assert late_fold(Put("s", "k", b"new"), MountLog, steps) == "new"
    assert late_fold(Put("s", "k", b"new"), FoldsWithoutConditions, 1) == "old"


def test_the_schedules_are_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """They commit a lot, and many are taken over."""
    monkeypatch.setattr(_mount_log, "KEPT", 2)
    histories = [schedule(seed) for seed in range(100)]
    assert sum(len(history.acknowledged) for history in histories) > 1000
    assert sum(bool(history.unknown) for history in histories) > 10
