"""The fault matrix: whatever call fails, a place holds its old bytes or all the new ones, and nothing is left over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from genro_storage import StorageManager, StorageNode
from genro_storage.exceptions import StorageError
from genro_storage.testing import Fault, FaultPlan
from genro_storage.testing.transfer_files import fill, held, watched
from tests.servers.s3 import S3Endpoint

CHUNK = b"chunk of the new bytes. " * 4000  # the buffer of a writer is 128 KiB: some of these are flushed early
BIG = bytes(range(256)) * 36_000  # 9 MiB: several parts


class Verb(NamedTuple):
    """One change of a tree at ``m:`` (beside ``o:``, another storage), and what there is before it."""

    act: Callable[[StorageNode], object]
    before: Mapping[str, bytes] = {"f": b"old f", "g": b"old g", "d/x": b"old x", "d/y": b"old y", "d/e/z": b"old z"}
    beside: Mapping[str, bytes] = {}
    in_place: bool = False
    """It may append where the file is, which others see bit by bit."""


def opened(root: StorageNode, mode: str, path: str = "f") -> None:
    with (root / path).open(mode) as file:
        for _ in range(4):
            file.write(CHUNK)


def through_local_path(root: StorageNode, mode: str) -> None:
    with (root / "f").local_path(mode) as path, open(path, "ab") as file:
        file.write(b" and more")


def other(root: StorageNode, path: str) -> StorageNode:
    return root.manager.node("o", path)


TREE = {"x": b"new x", "n/new": b"new n", "e/z": b"new z"}
SUB = {f"s/{path}": data for path, data in TREE.items()}
OLD = Verb._field_defaults["before"]

VERBS: dict[str, Verb] = {
    "write_bytes over": Verb(lambda m: (m / "f").write_bytes(b"new f")),
    "write_bytes new": Verb(lambda m: (m / "n/new").write_bytes(b"new")),
    "write_bytes if_absent": Verb(lambda m: (m / "n/new").write_bytes(b"new", if_absent=True)),
    "write_bytes if_match": Verb(lambda m: (m / "f").write_bytes(b"new f", if_match=(m / "f").stat())),
    "write_bytes unchanged": Verb(lambda m: (m / "f").write_bytes(b"new!!", skip_if_unchanged=True)),
    "write_text": Verb(lambda m: (m / "f").write_text("new f")),
    "write_from": Verb(lambda m: (m / "f").write_from([CHUNK] * 5)),
    "write_from large": Verb(lambda m: (m / "f").write_from([BIG[:5_000_000], BIG[5_000_000:]])),
    "open wb": Verb(lambda m: opened(m, "wb")),
    "open xb": Verb(lambda m: opened(m, "xb", "n/new")),
    "open ab": Verb(lambda m: opened(m, "ab"), in_place=True),
    "open ab new": Verb(lambda m: opened(m, "ab", "n/new"), in_place=True),
    "local_path w": Verb(lambda m: through_local_path(m, "w")),
    "local_path rw": Verb(lambda m: through_local_path(m, "rw")),
    "touch new": Verb(lambda m: (m / "n/new").touch()),
    "mkdir": Verb(lambda m: (m / "n/o/p").mkdir(parents=True)),
    "delete file": Verb(lambda m: (m / "f").delete()),
    "delete tree": Verb(lambda m: (m / "d").delete()),
    "unlink": Verb(lambda m: (m / "f").unlink()),
    "empty": Verb(lambda m: m.empty()),
    "rename": Verb(lambda m: (m / "f").rename("renamed")),
    "rename tree": Verb(lambda m: (m / "d").rename("renamed")),
    "replace": Verb(lambda m: (m / "f").replace("g")),
    "copy file": Verb(lambda m: (m / "f").copy_to(m / "n/new", retries=0)),
    "copy file over": Verb(lambda m: (m / "f").copy_to(m / "g", retries=0)),
    "copy large file over": Verb(lambda m: (m / "f").copy_to(m / "g", retries=0), {"f": BIG, "g": b"old g"}),
    "copy tree": Verb(lambda m: (m / "s").copy_to(m / "d", retries=0), {**OLD, **SUB}),
    "move file": Verb(lambda m: (m / "f").move_to(m / "n/new", retries=0)),
    "move file over": Verb(lambda m: (m / "f").move_to(m / "g", retries=0)),
    "move tree": Verb(lambda m: (m / "d").move_to(m / "n/new", retries=0)),
    "move tree into tree": Verb(lambda m: (m / "s").move_to(m / "d", retries=0), {**OLD, **SUB}),
    "copy file in": Verb(lambda m: other(m, "f").copy_to(m / "f", retries=0), beside={"f": b"new f"}),
    "copy file in, read again": Verb(
        lambda m: other(m, "f").copy_to(m / "f", retries=0, verify="read"), beside={"f": b"new f"}
    ),
    "copy large file in": Verb(lambda m: other(m, "f").copy_to(m / "f", retries=0), beside={"f": BIG}),
    "copy file out": Verb(lambda m: (m / "f").copy_to(other(m, "f"), retries=0), beside={"f": b"old other"}),
    "copy large file out": Verb(
        lambda m: (m / "f").copy_to(other(m, "f"), retries=0), {"f": BIG}, beside={"f": b"old other"}
    ),
    "copy tree in": Verb(lambda m: other(m, "s").copy_to(m / "d", retries=0), beside=SUB),
    "move file in": Verb(lambda m: other(m, "f").move_to(m / "f", retries=0), beside={"f": b"new f"}),
    "move tree in": Verb(lambda m: other(m, "s").move_to(m / "d", retries=0), beside=SUB),
    "move tree out": Verb(lambda m: (m / "d").move_to(other(m, "d"), retries=0), beside={"d/x": b"old other"}),
}
ON_S3 = (
    *("write_bytes over", "write_bytes if_absent", "write_from large", "open wb", "open ab", "touch new", "mkdir"),
    *(
        "delete tree",
        "rename",
        "copy tree",
        "copy large file over",
        "copy large file in",
        "move file over",
        "move tree out",
    ),
)
KINDS = ("fail", "lost", "truncate")


class Stage:
    """A storage under test at ``m:`` and a memory mount ``o:``; `leftovers` tells what nobody should see."""

    def __init__(self, entry: Mapping[str, Any], leftovers: Callable[[StorageManager], list[str]]) -> None:
        self.manager = StorageManager([{"name": "m", **entry}, {"name": "o", "type": "memory"}])
        self.root = self.manager.node("m:")
        self.leftovers = lambda: leftovers(self.manager)

    def prepare(self, verb: Verb) -> None:
        for root, files in ((self.root, verb.before), (self.manager.node("o:"), verb.beside)):
            root.empty()
            fill(root, files)

    def run(self, verb: Verb, plan: FaultPlan) -> StorageError | None:
        """The verb under a plan, and how it ended; anything but our own errors is let through."""
        with watched(self.manager, "m", plan), watched(self.manager, "o", plan):
            try:
                verb.act(self.root)
            except StorageError as error:
                return error
        return None

    def state(self) -> dict[str, bytes]:
        """Every file of both sides."""
        sides = {"m": self.root, "o": self.manager.node("o:")}
        return {f"{name}:{path}": data for name, root in sides.items() for path, data in held(root).items()}


def judge(
    before: dict[str, bytes], after: dict[str, bytes], now: dict[str, bytes], error: StorageError | None, in_place: bool
) -> None:
    """Every place holds what it held or what it was to hold; what was to survive survives; silence means success."""
    for path in {*before, *after, *now}:
        if (
            in_place
            and path in now
            and now[path].startswith(before.get(path, b""))
            and after[path].startswith(now[path])
        ):
            continue
        assert now.get(path) in (before.get(path), after.get(path)), (
            f"{path} is neither old nor new: {now.get(path)!r:.80}"
        )
    for data in {*before.values()} & {*after.values()}:
        assert data in now.values(), f"lost: {data!r:.80}"
    assert error is not None or now == after, "not done, and no error"


def matrix(stage: Stage, verb: Verb, kind: str) -> None:
    """Counts the calls of a clean run, then lets each of them suffer once."""
    stage.prepare(verb)
    before = stage.state()
    plan = FaultPlan()
    clean = stage.run(verb, plan)
    assert clean is None, f"without a fault: {clean}"
    after = stage.state()
    assert after != before or "mkdir" in plan.calls
    for number in range(1, len(plan.calls) + 1):
        stage.prepare(verb)
        faulty = FaultPlan(Fault(number, kind))  # type: ignore[arg-type]
        error = stage.run(verb, faulty)
        where = f"{kind} at call {number} of {plan.calls}: {faulty.struck}, then {error!r}"
        assert faulty.struck, where
        try:
            judge(before, after, stage.state(), error, verb.in_place)
            assert stage.leftovers() == []
        except AssertionError as wrong:
            raise AssertionError(f"{where}\n{wrong}") from None
        assert (stage.root / "usable").write_bytes(b"yes"), where


def hidden_files(root: Path) -> list[str]:
    return [
        os.path.join(at, name) for at, _, names in os.walk(root) for name in names if ".genro" in os.path.join(at, name)
    ]


def hidden_keys(manager: StorageManager) -> list[str]:
    backend = manager.get_backend("m")
    return [entry.path for page in backend.walk("") for entry in page if ".genro" in entry.path]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage({"type": "local", "path": str(tmp_path)}, lambda manager: hidden_files(tmp_path))
    with stage.manager:
        yield stage


@pytest.fixture
def memory() -> Iterator[Stage]:
    stage = Stage({"type": "memory"}, hidden_keys)
    with stage.manager:
        yield stage


@pytest.fixture(scope="module")
def s3(seaweedfs: S3Endpoint) -> Iterator[Stage]:
    bucket = seaweedfs.make_bucket()

    def open_uploads(manager: StorageManager) -> list[str]:
        body = seaweedfs.checked("GET", bucket, query={"uploads": ""}).body.decode()
        return [*body.split("<Upload>")[1:], *hidden_keys(manager)]

    stage = Stage({"type": "s3", **seaweedfs.options(bucket)}, open_uploads)
    with stage.manager:
        yield stage


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_local(local: Stage, verb: str, kind: str) -> None:
    matrix(local, VERBS[verb], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", VERBS)
def test_memory(memory: Stage, verb: str, kind: str) -> None:
    matrix(memory, VERBS[verb], kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("verb", ON_S3)
def test_s3(s3: Stage, verb: str, kind: str) -> None:
    matrix(s3, VERBS[verb], kind)


# --- what a second try mends ---

MENDED = (
    *("write_bytes over", "write_bytes new", "write_bytes if_absent", "write_bytes if_match", "write_bytes unchanged"),
    *(
        "write_text",
        "write_from",
        "write_from large",
        "open wb",
        "open xb",
        "local_path w",
        "local_path rw",
        "touch new",
    ),
    *("delete file", "delete tree", "unlink", "empty"),
)
UNSETTLED = ("mkdir", "rename", "replace")
"""After a lost answer these raise: what is there now may be somebody else's work."""


def gone_for_a_moment() -> Exception:
    return ConnectionError("injected fault")


@pytest.mark.parametrize(
    ("verb", "kind"), [*product(MENDED, ["fail", "lost", "truncate"]), *product(UNSETTLED, ["fail"])]
)
@pytest.mark.parametrize("type_", ["local", "memory"])
def test_a_second_try_mends_it(tmp_path: Path, type_: str, verb: str, kind: str) -> None:
    """A moment without connection at any call, before or after the call was done: the verb does what it was to do."""
    keys = {"path": str(tmp_path)} if type_ == "local" else {}
    stage = Stage({"type": type_, **keys, "retry_max_delay": 0.001}, lambda manager: hidden_files(tmp_path))
    with stage.manager:
        change = VERBS[verb]
        stage.prepare(change)
        plan = FaultPlan()
        assert stage.run(change, plan) is None
        after = stage.state()
        for number in range(1, len(plan.calls) + 1):
            stage.prepare(change)
            faulty = FaultPlan(Fault(number, kind, gone_for_a_moment))  # type: ignore[arg-type]
            error = stage.run(change, faulty)
            where = f"{kind} at call {number} of {plan.calls}: {faulty.struck}"
            assert error is None, f"{where}, then {error!r}"
            assert stage.state() == after, where
            assert stage.leftovers() == []


@pytest.mark.parametrize("kind", ["fail", "truncate"])
@pytest.mark.parametrize("list_", ["scan", "walk", "children", "glob"])
def test_a_listing_never_ends_early(kind: str, list_: str) -> None:
    """A page that fails is asked for again, or the listing raises; nothing is missing and nothing comes twice."""
    listings: dict[str, Callable[[StorageNode], list[str]]] = {
        "scan": lambda root: [node.path for node, _ in root.scan()],
        "walk": lambda root: [node.path for node, _ in root.scan(recursive=True)],
        "children": lambda root: [node.path for node in root.children()],
        "glob": lambda root: [node.path for node in root.glob("**/*")],
    }
    stage = Stage({"type": "memory", "retry_max_delay": 0.001}, hidden_keys)
    with stage.manager:
        fill(
            stage.root,
            dict.fromkeys(("a-", "a/b/c", "a/b-", "a.txt", "a0/x"), b"") | {f"m/{n:04}": b"" for n in range(2100)},
        )
        clean = listings[list_](stage.root)
        with watched(stage.manager, "m", plan := FaultPlan()):
            assert listings[list_](stage.root) == clean
        for number in range(1, len(plan.calls) + 1):
            for error in (gone_for_a_moment, lambda: OSError(5, "injected fault")):
                with watched(stage.manager, "m", FaultPlan(Fault(number, kind, error))):  # type: ignore[arg-type]
                    found = listed(listings[list_], stage.root)
                    assert found == clean or (found is None and error is not gone_for_a_moment), number


def listed(list_: Callable[[StorageNode], list[str]], root: StorageNode) -> list[str] | None:
    """The listing; None if it raised."""
    try:
        return list_(root)
    except StorageError:
        return None


def test_delays_change_nothing(memory: Stage) -> None:
    """A slow call is a call."""
    verb = VERBS["copy tree in"]
    memory.prepare(verb)
    plan = FaultPlan(Fault(3, "delay", times=4, seconds=0.02))
    assert memory.run(verb, plan) is None
    assert len(plan.struck) == 4
    assert memory.state()["m:d/n/new"] == b"new n"


def test_faults_by_name(memory: Stage) -> None:
    """`on` counts the calls of one name; the plan tells what was called and what was struck."""
    memory.prepare(VERBS["write_bytes over"])
    plan = FaultPlan(Fault(2, on="put"))
    with watched(memory.manager, "m", plan):
        (memory.root / "f").write_bytes(b"1")
        assert (memory.root / "f").read_bytes() == b"1"
        with pytest.raises(StorageError, match=r"injected fault.*m:f"):
            (memory.root / "f").write_bytes(b"2")
        (memory.root / "f").write_bytes(b"3")
    assert plan.struck == ["put"]
    assert plan.calls.count("put") == 3
    assert (memory.root / "f").read_bytes() == b"3"
