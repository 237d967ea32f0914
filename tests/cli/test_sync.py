"""sync and check: what they do, what they ask, what they refuse, and what they tell programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from genro_storage.cli.failures import Refused
from genro_storage.cli.guards import guard_clearing
from genro_storage.cli.places import Places

from .conftest import Run, Space

OLD = 1_500_000_000


@pytest.fixture
def tree(here: Path) -> Path:
    for name in ("a.txt", "b.log", "sub/c.txt"):
        file = here / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        os.utime(file, (OLD, OLD))
    return here / "tree"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- sync ---


def test_sync_copies_what_changed(space: Space, tree: Path, cli: Run) -> None:
    ran = cli("sync", "tree", space.name("t"))
    assert (ran.code, ran.err) == (0, "")
    assert space.files() == ["t/a.txt", "t/b.log", "t/sub/c.txt"]
    (tree / "a.txt").write_text("new and longer")
    report = cli("--json", "sync", "tree", space.name("t")).report
    assert (report["operation"], report["files_copied"], report["files_skipped"]) == ("sync", 1, 2)
    assert space.node("t/a.txt").read_text() == "new and longer"


def test_sync_deletes_only_if_asked_and_answered(space: Space, tree: Path, cli: Run) -> None:
    assert cli("sync", "tree", space.name("t")).code == 0
    space.node("t/extra").write_text("x")
    (tree / "b.log").unlink()
    assert cli("sync", "tree", space.name("t")).code == 0
    ran = cli("sync", "--delete", "tree", space.name("t"), stdin=b"y\n")
    assert (ran.code, "nobody is there to answer; use -y, or --dry-run" in ran.err) == (7, True)
    assert space.files() == ["t/a.txt", "t/b.log", "t/extra", "t/sub/c.txt"]
    ran = cli("sync", "--delete", "--dry-run", "tree", space.name("t"))
    assert ran.code == 0
    assert {f"would delete {space.name(f't/{name}')}" for name in ("extra", "b.log")} < set(ran.out.splitlines())
    assert space.files() == ["t/a.txt", "t/b.log", "t/extra", "t/sub/c.txt"]
    assert cli("sync", "--delete", "-y", "tree", space.name("t")).code == 0
    assert space.files() == ["t/a.txt", "t/sub/c.txt"]


def test_a_guard_of_sync_is_exit_7(here: Path, tree: Path, cli: Run) -> None:
    (here / "out").mkdir()
    for number in range(3):
        (here / "out" / str(number)).write_text("x")
    sync = ("sync", "--delete", "-y")
    ran = cli(*sync, "--max-delete", "2", "tree", "out")
    assert (ran.code, ran.err) == (
        7,
        "genro-storage: would delete 3 of 3 files, more than --max-delete 2 allows\n",
    )
    ran = cli(*sync, "--max-delete", "2", "--dry-run", "tree", "out")
    assert (ran.code, ran.err.count("would delete 3 of 6 files, more than --max-delete 2")) == (7, 1)
    (here / "empty").mkdir()
    ran = cli(*sync, "empty", "out")
    assert (ran.code, "the source is empty" in ran.err, "--allow-empty-source deletes" in ran.err) == (7, True, True)
    assert {"0", "1", "2"} < set(files(here / "out"))
    ran = cli("--json", *sync, "empty", "out")
    told = json.loads(ran.err)
    assert (ran.code, told["error"], told["exit"]) == (7, "Refused", 7)
    assert cli(*sync, "--max-delete", "3", "tree", "out").code == 0
    assert files(here / "out") == ["a.txt", "b.log", "sub/c.txt"]
    assert cli(*sync, "--allow-empty-source", "empty", "out").code == 0
    assert files(here / "out") == []


def test_delete_excluded(here: Path, tree: Path, cli: Run) -> None:
    cli("sync", "tree", "out")
    assert cli("sync", "--delete", "-y", "--exclude", "*.log", "tree", "out").code == 0
    assert files(here / "out") == ["a.txt", "b.log", "sub/c.txt"]
    assert cli("sync", "--delete", "-y", "--delete-excluded", "--exclude", "*.log", "tree", "out").code == 0
    assert files(here / "out") == ["a.txt", "sub/c.txt"]


def test_backup(here: Path, tree: Path, cli: Run) -> None:
    cli("sync", "tree", "out")
    (tree / "a.txt").write_text("changed")
    (here / "out/extra").write_text("extra")
    assert cli("sync", "--delete", "-y", "--backup", "kept", "tree", "out").code == 0
    assert {name: (here / "kept" / name).read_text() for name in files(here / "kept")} == {
        "a.txt": "a.txt",
        "extra": "extra",
    }
    ran = cli("cp", "-r", "--backup", "out/inside", "tree", "out")
    assert (ran.code, "out/inside" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-delete", "3", "tree", "out"], "--max-delete: only with --delete"),
        (["--delete-excluded", "--allow-empty-source", "tree", "out"], "--delete-excluded, --allow-empty-source: only"),
        (["--delete", "-y", "--max-delete", "x", "tree", "out"], "max_delete is a number of files or text like '50%'"),
        (["tree", "sub", "out"], "one SRC and one DST"),
        (["tree", "-"], "one SRC and one DST"),
        (["--concurrency", "0", "tree", "out"], "from 1 up, or 'auto'"),
        (["--bandwidth", "fast", "tree", "out"], "bandwidth is bytes per second"),
        (["--skip", "custom", "tree", "out"], "invalid choice: 'custom'"),
    ],
)
def test_usage_of_sync(here: Path, tree: Path, cli: Run, arguments: list[str], told: str) -> None:
    ran = cli("sync", *arguments)
    assert (ran.code, told in ran.err) == (2, True), ran.err
    assert not (here / "out").exists()


def test_sync_of_a_file_or_nothing(here: Path, tree: Path, cli: Run) -> None:
    assert cli("sync", "tree/a.txt", "out").code == 1
    assert cli("sync", "none", "out").code == 3
    assert not (here / "out").exists()


# --- the guard: nothing here deletes ---


def test_what_sync_never_clears(here: Path, tmp_path: Path) -> None:
    (here / "up").symlink_to(tmp_path)
    places = Places()
    try:
        for text in ("/", "~", "..", str(tmp_path), f"file://{tmp_path}/home"):
            with pytest.raises(Refused, match="a home directory"):
                guard_clearing(places.node(text))
        for text in (".", "new", "memory:", "memory:a", "~/mine", "s3://bucket"):
            guard_clearing(places.node(text))
    finally:
        places.close()


# --- the options of all three ---


@pytest.mark.parametrize(
    ("how", "copied"),
    [("never", 3), ("exists", 1), ("size", 2), ("mtime", 3), ("newer", 1), ("hash", 2)],
)
def test_skip(here: Path, tree: Path, cli: Run, how: str, copied: int) -> None:
    """Of two files that are there, later than their sources, one has the same content; sizes and times differ."""
    (here / "out").mkdir()
    (here / "out/a.txt").write_text("a.txt")
    (here / "out/b.log").write_text("something else")
    report = cli("--json", "cp", "-r", "--skip", how, "tree", "out").report
    assert report["files_copied"] == copied


def test_if_absent(space: Space, tree: Path, cli: Run, here: Path) -> None:
    assert cli("cp", "--if-absent", "tree/a.txt", space.name("x")).code == 0
    assert cli("cp", "--if-absent", "tree/b.log", space.name("x")).code == 1
    assert cli("cp", "--if-absent", "-", space.name("x"), stdin=b"other").code == 1
    assert space.node("x").read_text() == "a.txt"


def test_if_absent_where_no_storage_can_judge_it(tree: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from genro_storage.mount import Mount
    from genro_storage.types import Features

    monkeypatch.setattr(Mount, "features", Features(if_absent="advisory"))
    ran = cli("cp", "--if-absent", "tree/a.txt", "copy")
    assert (ran.code, "use --no-overwrite" in ran.err) == (4, True)


def test_content_type(space: Space, tree: Path, cli: Run) -> None:
    assert cli("cp", "--content-type", "text/x-odd", "-", space.name("x.bin"), stdin=b"data").code == 0
    facts = cli("--json", "stat", space.name("x.bin")).report
    assert facts.get("content_type") == (None if space.kind == "disk" else "text/x-odd")
    for verb in (["cp", "-r"], ["sync"], ["mv"]):
        assert cli(*verb, "--content-type", "text/x-odd", "tree", space.name(f"t-{verb[0]}")).code == 0
        facts = cli("--json", "stat", space.name(f"t-{verb[0]}/a.txt")).report
        assert facts.get("content_type") == (None if space.kind == "disk" else "text/x-odd")
    assert cli("cp", "--content-type", "odd", space.name("t-cp/a.txt"), space.name("y")).code == 2


@pytest.mark.parametrize("verb", [["cp", "-r"], ["mv"], ["sync"]], ids=["cp", "mv", "sync"])
def test_dry_run(tree: Path, here: Path, cli: Run, verb: list[str]) -> None:
    ran = cli(*verb, "--dry-run", "--exclude", "*.log", "tree", "out")
    done = "move" if verb == ["mv"] else "copy"
    expected = {f"would {done} {tree}/{name} → {here}/out/{name}" for name in ("a.txt", "sub/c.txt")}
    assert ran.code == 0
    assert expected <= set(ran.out.splitlines())
    assert "(dry run)" in ran.out.splitlines()[-1]
    assert (
        f"would skip {tree}/b.log: excluded\n" in cli("-v", *verb, "--dry-run", "--exclude", "*.log", "tree", "out").out
    )
    assert cli("-q", *verb, "--dry-run", "tree", "out").out == ""
    assert len(files(tree)) == 3
    assert not (here / "out").exists()


def test_bandwidth_and_concurrency_are_passed_on(tree: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from genro_storage import StorageManager

    given: dict[str, object] = {}

    def copy(manager: StorageManager, source: object, end: object, **options: object) -> object:
        given.update(options)
        return original(manager, source, end, **options)  # type: ignore[arg-type]

    original = StorageManager.copy
    monkeypatch.setattr(StorageManager, "copy", copy)
    assert cli("cp", "--bandwidth", "20MiB/s", "--concurrency", "3", "tree/a.txt", "copy").code == 0
    assert (given["bandwidth"], given["concurrency"]) == ("20MiB/s", 3)
    assert cli("cp", "--concurrency", "auto", "tree/a.txt", "copy2").code == 0
    assert given["concurrency"] == "auto"


# --- events for programs ---


def test_events(here: Path, tree: Path, cli: Run) -> None:
    (here / "out/a.txt").mkdir(parents=True)
    ran = cli("--json", "cp", "-r", "--exclude", "*.log", "tree", "out")
    *events, report = ran.objects
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1], ran.code) == ("start", "end", 1)
    (done,) = [event for event in events if event["event"] == "file_done"]
    assert (done["source"], done["destination"], done["path"]) == (
        *(f"{tree}/sub/c.txt", f"{here}/out/sub/c.txt", "sub/c.txt"),
    )
    (failed,) = [event for event in events if event["event"] == "error"]
    assert (failed["path"], failed["error"]["error"]) == ("a.txt", "StorageIsADirectoryError")
    (skipped,) = [event for event in events if event["event"] == "skip"]
    assert (skipped["path"], skipped["reason"]) == ("b.log", "excluded")
    assert (events[-1]["files_done"], events[-1]["files_total"], events[-1]["total_known"]) == (3, 3, True)
    assert report["files_copied"] == 1


@pytest.mark.parametrize("silent", ["--no-progress", "-q"])
def test_no_events_if_not_wanted(tree: Path, cli: Run, silent: str) -> None:
    ran = cli("--json", silent, "cp", "-r", "tree", "out")
    assert [told.get("operation") for told in ran.objects] == ([] if silent == "-q" else ["copy"])


# --- check ---


@pytest.fixture
def two(space: Space, tree: Path, cli: Run) -> Space:
    """The tree on a mount too."""
    assert cli("cp", "-r", "tree", space.name("t")).code == 0
    return space


def test_check_of_equals(two: Space, cli: Run) -> None:
    for by in ("hash", "size", "mtime"):
        ran = cli("check", "--by", by, "tree", two.name("t"))
        if by != "mtime" or two.kind != "cloud":
            assert (ran.code, ran.err) == (0, "")
            assert "3 same, 0 differ" in ran.out
    assert cli("-q", "check", "tree", two.name("t")) == (0, "", "")


def test_check_of_differences(two: Space, tree: Path, cli: Run) -> None:
    two.node("t/a.txt").write_text("A.TXT")
    two.node("t/extra").write_text("x")
    (tree / "more").write_text("x")
    before = two.files()
    ran = cli("check", "tree", two.name("t"))
    assert ran.code == 6
    assert ran.err == ""
    *lines, summary = ran.out.splitlines()
    assert sorted(lines) == ["differs: a.txt", "only in the first: more", "only in the second: extra"]
    assert "2 same, 1 differ, 1 only in the first, 1 only in the second" in summary
    assert cli("check", "--by", "size", "tree", two.name("t")).code == 6
    assert cli("check", "--by", "size", "--exclude", "more", "--one-way", "tree", two.name("t")).code == 0
    assert cli("check", "--include", "c.*", "tree", two.name("t")).code == 0
    *found, report = cli("--json", "check", "tree", two.name("t")).objects
    assert {(one["path"], one["difference"]) for one in found} == {
        *[("a.txt", "differ"), ("more", "only_source"), ("extra", "only_destination")]
    }
    assert (report["differ"], report["only_source"], report["only_destination"]) == (1, 1, 1)
    assert two.files() == before


def test_check_of_two_files(two: Space, tree: Path, cli: Run) -> None:
    assert cli("check", "tree/a.txt", two.name("t/a.txt")).code == 0
    ran = cli("check", "tree/a.txt", two.name("t/b.log"))
    assert (ran.code, ran.out.splitlines()[0]) == (6, "differs: a.txt")
    assert cli("check", "tree", two.name("none")).code in (3, 6)
    assert cli("check", "none", two.name("t")).code == 3


def test_what_cannot_be_read_is_an_error(tree: Path, here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from genro_storage.backends.local import LocalStorage

    cli("cp", "-r", "tree", "out")
    reader = LocalStorage.reader

    def denied(self: LocalStorage, path: str, *rest: object, **how: object) -> object:
        if path.endswith("tree/a.txt"):
            raise PermissionError(13, "denied")
        return reader(self, path, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(LocalStorage, "reader", denied)
    ran = cli("check", "tree", "out")
    assert (ran.code, ran.out.count("\n")) == (1, 1)
    assert all(told in ran.out for told in ("0 differ", "1 failed"))
    assert all(told in ran.err for told in ("denied", "a.txt"))
    assert cli("check", "tree/a.txt", "out/a.txt").code == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["a", "b", "c"], "two places"), (["-", "b"], "two places"), (["--include", "../x", "tree", "tree"], "'..'")],
)
def test_usage_of_check(tree: Path, cli: Run, arguments: list[str], told: str) -> None:
    ran = cli("check", *arguments)
    assert (ran.code, told in ran.err) == (2, True), ran.err
