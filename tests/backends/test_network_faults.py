"""Every type behind a network against the same faults: the right class of error, in time, never False, never empty."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from genro_storage import StorageNode
from genro_storage.backends import _pages as pages
from genro_storage.emulate import walk
from genro_storage.exceptions import StoragePermissionError, StorageTimeoutError, StorageUnavailableError
from tests.backends.network import DATED, FILES, TABLE, Gcs, Place, opened
from tests.servers.gcs.server import GcsServer
from tests.servers.process import free_ports
from tests.servers.tcpproxy import BlackHole

MIB = 1 << 20
WAIT = 0.4
"""The mounts' `connect_timeout`, in seconds."""
SLACK = 15.0
"""Seconds that a loaded machine may take on top."""
ANSWERED = 10.0
"""`connect_timeout` where somebody answers, however slow the machine."""

Act = Callable[[StorageNode], object]
READS: dict[str, Act] = {
    "exists": lambda root: (root / "d/f").exists,
    "is_file": lambda root: (root / "d/f").is_file,
    "is_dir": lambda root: (root / "d").is_dir,
    "children": lambda root: (root / "d").children(),
    "stat": lambda root: (root / "d/f").stat(),
    "read": lambda root: (root / "d/f").read_bytes(),
}
WRITES: dict[str, Act] = {
    "write": lambda root: (root / "d/f").write_bytes(b"new"),
    "write new": lambda root: (root / "d/new").write_bytes(b"new"),
    "mkdir": lambda root: (root / "made").mkdir(),
    "delete": lambda root: (root / "d/f").unlink(),
}
VERBS = READS | {"write": WRITES["write"]}


def each(needed: str = "keys", rows: Sequence[type[Place]] = TABLE) -> Any:
    """Parametrises `place` with the rows that have this method."""
    having = [row for row in rows if callable(getattr(row, needed, None))]
    params = [pytest.param(row, id=row.type, marks=pytest.mark.server) for row in having]
    return pytest.mark.parametrize("place", params, indirect=True)


def cases(verbs: dict[str, Act]) -> Any:
    """Parametrises `place` and `verb`; what changes anything only for types that write."""
    found = [(row, verb) for row in TABLE for verb in verbs if row.writes or verb in READS]
    params = [pytest.param(row, verb, id=f"{row.type}-{verb}", marks=pytest.mark.server) for row, verb in found]
    return pytest.mark.parametrize(("place", "verb"), params, indirect=["place"])


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    row = request.param
    yield from opened(row, request.getfixturevalue(row.fixture))


@pytest.fixture(scope="module")
def hole() -> Iterator[int]:
    with BlackHole() as hole:
        yield hole.port


def told(place: Place, verb: str, port: int, keys: Any = None, wait: float = WAIT, **more: Any) -> Any:
    """What the verb raises on a mount that reaches the place by this port (or by these keys), told in time."""
    with place.mounted(port, keys, connect_timeout=wait, **more) as manager:
        began = time.monotonic()
        with pytest.raises(Exception) as caught:
            (VERBS | WRITES)[verb](manager.node("m:"))
        assert time.monotonic() - began < wait + SLACK
    error: Any = caught.value
    assert error.mount == "m"
    return error


@cases(VERBS)
def test_refused(place: Place, verb: str) -> None:
    (port,) = free_ports(1)
    error = told(place, verb, port)
    assert isinstance(error, StorageUnavailableError)
    assert error.retryable


@cases(VERBS)
def test_black_hole(place: Place, verb: str, hole: int) -> None:
    """Whose packets nobody answers: `connect_timeout` ends it, however long `timeout` is."""
    error = told(place, verb, hole, timeout=60)
    assert isinstance(error, StorageTimeoutError)
    assert error.retryable


@each()
def test_silence(place: Place) -> None:
    """Who takes the connection and never says a word."""
    place.mute()
    for verb in ("exists", "children", "read"):
        error = told(place, verb, place.proxy_port, timeout=WAIT)
        assert isinstance(error, StorageTimeoutError)
        assert error.retryable


@each()
def test_silence_later(place: Place) -> None:
    """Who answered, and answers no more: `timeout` ends each request, and the mount's end waits for nobody."""
    with place.mounted(place.proxy_port, timeout=1, connect_timeout=1) as manager:
        root = manager.node("m:")
        assert (root / "d/f").exists
        place.mute()
        for verb, act in VERBS.items():
            if verb != "write" or place.writes:
                began = time.monotonic()
                with pytest.raises(StorageTimeoutError):
                    act(root)
                # A write that failed also tries to take away what it sent: a request more, on another connection.
                assert time.monotonic() - began < (4 if verb == "write" else 1) + SLACK, verb
        began = time.monotonic()
    assert time.monotonic() - began < SLACK
    place.proxy.clear()
    assert {path: data for path, data in contents(place).items() if ".genro-" not in path} == FILES


@cases(VERBS)
def test_wrong_credentials(place: Place, verb: str) -> None:
    """R54."""
    error = told(place, verb, place.port, place.wrong(), ANSWERED)
    assert isinstance(error, StoragePermissionError)
    assert "wrong-secret" not in str(error)


@pytest.mark.parametrize("verb", WRITES)
@each("readonly")
def test_read_only(place: Place, verb: str) -> None:
    """What may not be changed can be read, and says why it is not changed."""
    keys = place.readonly()
    with place.mounted(place.port, keys) as manager:
        assert [node.name for node in manager.node("m:d").children()] == ["f", "g", "sub"]
        assert manager.node("m:d/f").read_bytes() == FILES["d/f"]
    error = told(place, verb, place.port, keys, ANSWERED)
    assert isinstance(error, StoragePermissionError)
    assert not error.retryable
    with place.mounted(place.port, keys) as manager:
        assert {node.path: node.read_bytes() for node in manager.node("m:").glob("**") if node.is_file} == FILES


# --- half-way ---


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries a page, where a listing has pages."""
    monkeypatch.setattr(pages, "PAGE", 2)


def listed(root: StorageNode) -> list[str]:
    return [node.path for node, _ in root.scan(recursive=True)]


def listing_error(place: Place, keys: Any = None) -> Any:
    """What a listing raises that has begun well."""
    with place.mounted(place.proxy_port, keys) as manager, pytest.raises(Exception) as caught:
        listed(manager.node("m:"))
    error: Any = caught.value
    assert (error.mount, error.operation) == ("m", "list")
    return error


@each("deny_listing")
def test_a_second_page_that_is_denied(place: Place, short_pages: None) -> None:
    place.deny_listing()
    assert isinstance(listing_error(place), StoragePermissionError)


@each("guarded")
def test_a_second_directory_that_is_denied(place: Place) -> None:
    keys = place.guarded()
    with place.mounted(place.port, keys) as manager:
        assert "d/sub/h" in listed(manager.node("m:"))
    place.local("d/sub").chmod(0)
    assert isinstance(listing_error(place, keys), StoragePermissionError)


@each("fail_listing")
def test_a_second_page_that_fails(place: Place, short_pages: None) -> None:
    place.fail_listing()
    error = listing_error(place)
    assert isinstance(error, StorageUnavailableError)
    assert error.retryable


@each("cut_listing")
def test_a_listing_that_is_cut(place: Place) -> None:
    with place.mounted(place.proxy_port) as manager:
        assert manager.node("m:d/f").exists  # connected
        place.cut_listing()
        with pytest.raises(StorageUnavailableError):
            manager.node("m:d").children()
        place.proxy.clear()
        assert manager.node("m:d/f").exists


def contents(place: Place) -> dict[str, bytes]:
    """Every file of the place, the hidden ones that a write may have left too."""
    with place.mounted(place.port) as manager:
        backend = manager.node("m:").mount.backend
        return {stat.path: backend.get(stat.path)[0] for page in walk(backend, "") for stat in page if stat.is_file}


def stopped(place: Place, stop: Callable[[], object], keys: Any = None) -> Any:
    """What a long write raises for whose second half the place is spoiled by `stop`."""

    def halves() -> Iterator[bytes]:
        yield bytes(9 * MIB)
        stop()
        yield bytes(9 * MIB)

    with place.mounted(place.proxy_port, keys) as manager, pytest.raises(Exception) as caught:
        manager.node("m:d/f").write_from(halves())
    error: Any = caught.value
    assert error.mount == "m"
    return error


@each("deny_write")
def test_a_write_that_is_denied_half_way(place: Place) -> None:
    assert isinstance(stopped(place, place.deny_write), StoragePermissionError)
    assert contents(place) == FILES


@each("guarded")
def test_a_directory_that_is_closed_between_send_and_rename(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent cannot be removed either; it stays hidden, and the old bytes stay seen."""
    keys, folder = place.guarded(), place.local("d")
    folder.chmod(0o777)
    send = place.session.send

    def sent(*args: Any) -> None:
        send(*args)
        folder.chmod(0o555)

    monkeypatch.setattr(place.session, "send", sent)
    assert isinstance(stopped(place, lambda: None, keys), StoragePermissionError)
    found = contents(place)
    assert {path: data for path, data in found.items() if ".genro-" not in path} == FILES
    assert len(found) == len(FILES) + 1


@each("cut_write")
def test_a_write_that_is_cut(place: Place) -> None:
    error = stopped(place, place.cut_write)
    assert isinstance(error, StorageUnavailableError)
    assert error.retryable
    place.proxy.clear()
    assert {path: data for path, data in contents(place).items() if ".genro-" not in path} == FILES


# --- clocks ---


@each(rows=DATED)
@pytest.mark.parametrize("hours", [-30, 30])
def test_a_clock_that_is_wrong(place: Place, hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    place.set_clock(monkeypatch, hours)
    for verb in VERBS:
        error = told(place, verb, place.port, wait=ANSWERED)
        assert isinstance(error, StoragePermissionError), verb


def test_the_server_of_tokens_in_a_black_hole(gcs: GcsServer, hole: int) -> None:
    """Google's own client would wait for two minutes."""
    with Gcs(gcs) as place:
        keys = place.keys(place.port)
        keys["credentials"] |= {"token_uri": f"{place.at(hole)}/token"}
        assert isinstance(told(place, "exists", place.port, keys), StorageUnavailableError)
