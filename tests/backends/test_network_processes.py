"""Every type behind a network across threads, forks and pickles."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from genro_storage import StorageManager, StorageNode
from tests.backends.network import FILES, TABLE, Place, opened
from tests.backends.processes import forks, in_children, leaks_nothing

LARGE = 9 << 20
"""More than what any driver reads at once."""


@pytest.fixture(params=[pytest.param(row, id=row.type, marks=pytest.mark.server) for row in TABLE])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from opened(request.param, request.getfixturevalue(request.param.fixture))


@pytest.fixture
def manager(place: Place) -> Iterator[StorageManager]:
    with place.mounted(place.port) as manager:
        yield manager


@forks
@pytest.mark.timeout(200)
def test_children_open_connections_of_their_own(place: Place, manager: StorageManager) -> None:
    """R37: eight at once, while a connection of the parent is in use; and the parent goes on."""
    root = manager.node("m:")

    def child(number: int) -> None:
        assert (root / "d/f").read_bytes() == FILES["d/f"]
        assert [node.name for node in (root / "d").children()] == ["f", "g", "sub"]
        if place.writes:
            (root / f"child/{number}").write_bytes(b"%d" % number)
            assert (root / f"child/{number}").read_bytes() == b"%d" % number
        manager.close()

    (root / "d/f").read_bytes()  # connected
    if not place.writes:
        assert in_children(8, child) == [0] * 8
    else:
        data = os.urandom(LARGE)
        (root / "large").write_bytes(data)
        with (root / "large").open("rb") as file:
            head = file.read(1000)
            assert in_children(8, child) == [0] * 8
            assert head + file.read() == data
        assert sorted(node.name for node in (root / "child").children()) == [str(number) for number in range(8)]
    assert (root / "d/f").read_bytes() == FILES["d/f"]


@pytest.mark.timeout(240)
def test_threads_leak_no_descriptor(place: Place) -> None:
    """R36."""
    with place.mounted(place.port, max_connections=16) as manager:
        file = manager.node("m:d/f")

        def use() -> None:
            assert file.read_bytes() == FILES["d/f"]
            assert file.exists

        leaks_nothing(use)


def read(node: StorageNode) -> bytes:
    return node.read_bytes()


def size(manager: StorageManager) -> int | None:
    return manager.node("m:d/f").size


def test_nodes_and_managers_go_to_other_processes(manager: StorageManager) -> None:
    """To new ones, which have inherited nothing."""
    node = manager.node("m:d/f")
    assert node.read_bytes() == FILES["d/f"]  # connected
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(read, [node] * 4)) == [FILES["d/f"]] * 4
        assert pool.submit(size, manager).result() == len(FILES["d/f"])


@forks
@pytest.mark.parametrize(
    "place", [pytest.param(row, id=row.type, marks=pytest.mark.server) for row in TABLE if row.last], indirect=True
)
def test_a_killed_writer(place: Place, manager: StorageManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the last byte and the name: hidden from all listings, found and removed by who asks for it."""
    mount = manager.node("m:").mount

    def killed(number: int) -> None:
        assert place.last is not None
        monkeypatch.setattr(*place.last, lambda *args, **keys: os.kill(os.getpid(), signal.SIGKILL))
        mount.put("d/sub/new", b"never seen")

    assert in_children(1, killed) == [-signal.SIGKILL]
    assert [node.path for node, _ in manager.node("m:").scan(recursive=True) if node.is_file] == sorted(FILES)
    assert mount.unfinished("", older_than=3600) == []
    (found,) = mount.unfinished("", older_than=-60)
    assert found.path == f"d/sub/{found.token}"
    assert mount.unfinished("d", older_than=-60) == [found]
    assert mount.unfinished("d/f", older_than=-60) == mount.unfinished("absent", older_than=-60) == []
    assert mount.get(found.path)[0] == b"never seen"
    mount.delete(found.path)
    assert mount.unfinished("", older_than=-60) == []
