"""Every verb over local, memory and S3 mounts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar

import pytest

from .conftest import Run, Space

T = TypeVar("T")
TIME = 1_600_000_000.25


@pytest.fixture
def tree(here: Path) -> Path:
    """Four files in three directories, one of them empty."""
    for name, text in {"tree/a.txt": "one", "tree/sub/b.txt": "two", "tree/sub/c.bin": "", "tree/.dot": "x"}.items():
        file = here / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        os.utime(file, (TIME, TIME))
    (here / "tree/empty").mkdir()
    return here / "tree"


@pytest.fixture
def filled(space: Space, tree: Path, cli: Run) -> Space:
    assert cli("cp", "-r", tree, space.name("t")).code == 0
    return space


def implied(space: Space, entry: T) -> list[T]:
    """A directory without a marker is no line of a recursive listing of an object store."""
    return [] if space.kind == "cloud" else [entry]


# --- cp, mv, cat ---


def test_a_file_goes_there_and_back(space: Space, here: Path, cli: Run) -> None:
    (here / "one.txt").write_bytes(b"\xff\x00 data\n")
    os.utime(here / "one.txt", (TIME, TIME))
    ran = cli("cp", "one.txt", space.name("deep/er/two.txt"))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"copy {here}/one.txt → {space.name('deep/er/two.txt')}: 1 file, 8 B in ")
    assert cli("cat", space.name("deep/er/two.txt")).out.encode("utf-8", "surrogateescape") == b"\xff\x00 data\n"
    assert cli("cp", space.name("deep/er/two.txt"), "back.txt").code == 0
    assert (here / "back.txt").read_bytes() == b"\xff\x00 data\n"
    assert (here / "back.txt").stat().st_mtime == TIME


def test_a_tree_goes_there_and_back(filled: Space, here: Path, cli: Run) -> None:
    assert filled.files() == ["t/.dot", "t/a.txt", "t/sub/b.txt", "t/sub/c.bin"]
    assert filled.node("t/empty").is_dir
    ran = cli("cp", "-r", filled.name("t"), "back")
    assert (ran.code, ran.err) == (0, "")
    for file in [path for path in (here / "tree").rglob("*") if path.is_file()]:
        copied = here / "back" / file.relative_to(here / "tree")
        assert (copied.read_bytes(), copied.stat().st_mtime) == (file.read_bytes(), TIME)
    assert (here / "back/empty").is_dir()


def test_the_report_as_json(space: Space, tree: Path, cli: Run) -> None:
    report = cli("--json", "cp", "-r", "tree", space.name("t")).report
    assert (report["operation"], report["source"], report["destination"]) == ("copy", str(tree), space.name("t"))
    assert (report["files_copied"], report["bytes_copied"], report["ok"], report["failures"]) == (4, 7, True, [])


def test_a_file_goes_into_a_directory(filled: Space, here: Path, cli: Run) -> None:
    (here / "x").write_text("x")
    assert cli("cp", "x", filled.name("t/sub")).code == 0
    assert cli("cp", "x", filled.name("new/")).code == 0
    assert {"t/sub/x", "new/x"} < set(filled.files())


def test_several_sources_go_into_a_directory(space: Space, tree: Path, cli: Run) -> None:
    ran = cli("cp", "-r", "tree/a.txt", "tree/sub", space.name("both/"))
    assert (ran.code, len(ran.out.splitlines())) == (0, 2)
    assert space.files() == ["both/a.txt", "both/sub/b.txt", "both/sub/c.bin"]


def test_mv_moves_files_and_trees(filled: Space, here: Path, cli: Run) -> None:
    assert cli("mv", filled.name("t"), filled.name("u")).code == 0
    assert filled.files() == ["u/.dot", "u/a.txt", "u/sub/b.txt", "u/sub/c.bin"]
    assert not filled.node("t").exists
    ran = cli("mv", filled.name("u/sub"), filled.name("u/a.txt"), "home")
    assert ran.code == 1
    assert "several sources need a directory" in ran.err
    assert cli("mv", filled.name("u/sub"), filled.name("u/a.txt"), "home/").code == 0
    assert sorted(str(path.relative_to(here / "home")) for path in (here / "home").rglob("*.*")) == [
        *["a.txt", "sub/b.txt", "sub/c.bin"]
    ]
    assert filled.files() == ["u/.dot"]


def test_cp_of_a_directory_needs_r(filled: Space, here: Path, cli: Run) -> None:
    ran = cli("cp", filled.name("t"), "back")
    assert (ran.code, ran.err) == (2, f"genro-storage: '{filled.name('t')}' is a directory; -r takes directories too\n")
    assert not (here / "back").exists()


def test_standard_input_is_stored_and_read(space: Space, cli: Run) -> None:
    data = bytes(range(256)) * 5000
    ran = cli("cp", "-", space.name("x.bin"), stdin=data)
    assert (ran.code, ran.out) == (0, f"stored {space.name('x.bin')}: {len(data)} bytes\n")
    for read in (["cat", space.name("x.bin")], ["cp", space.name("x.bin"), "-"]):
        assert cli(*read).out.encode("utf-8", "surrogateescape") == data
    ran = cli("cp", "--no-overwrite", "-", space.name("x.bin"), stdin=b"other")
    assert ran.code == 1
    assert space.node("x.bin").read_bytes() == data


@pytest.mark.parametrize(
    ("asked", "told"),
    [("2-5", "cde"), ("7-", "hij"), ("-3", "hij"), ("0-0", ""), ("8-99", "ij"), ("-0", ""), ("-99", "abcdefghij")],
)
def test_cat_of_a_range(space: Space, cli: Run, asked: str, told: str) -> None:
    space.node("x").write_text("abcdefghij")
    assert cli("cat", "--range", asked, space.name("x")) == (0, told, "")


def test_cat_of_several_goes_on_after_a_failure(space: Space, cli: Run) -> None:
    space.node("x").write_text("first ")
    space.node("z").write_text("last")
    ran = cli("cat", space.name("x"), space.name("y"), space.name("z"))
    assert (ran.code, ran.out) == (3, "first last")
    assert ran.err.startswith("genro-storage: No such file")
    assert ran.err.endswith(f": '{space.name('y')}'\n")


# --- ls, tree, du, stat ---


def test_ls(filled: Space, cli: Run) -> None:
    assert cli("ls", filled.name("t")) == (0, "a.txt\nempty/\nsub/\n", "")
    assert cli("ls", "-a", filled.name("t")).out == ".dot\na.txt\nempty/\nsub/\n"
    assert cli("ls", "-R", filled.name("t")).out.splitlines() == [
        *["a.txt", "empty/", *implied(filled, "sub/"), "sub/b.txt", "sub/c.bin"]
    ]
    assert cli("ls", filled.name("t/a.txt")).out == "a.txt\n"
    assert cli("ls", filled.name("t/none")).code == 3


def test_ls_long(filled: Space, cli: Run) -> None:
    lines = cli("ls", "-l", filled.name("t")).out.splitlines()
    assert [line[0] for line in lines] == ["-", "d", "d"]
    assert [line.split()[-1] for line in lines] == ["a.txt", "empty/", "sub/"]
    assert "3 B" in lines[0]
    exact = cli("ls", "-l", "--bytes", filled.name("t")).out.splitlines()[0]
    assert "3 B" not in exact
    assert " 3 " in exact


def test_ls_limit(filled: Space, cli: Run) -> None:
    ran = cli("ls", "--limit", "2", filled.name("t"))
    assert (ran.out, ran.err) == ("a.txt\nempty/\n", f"genro-storage: {filled.name('t')} has more than 2 entries\n")
    assert cli("ls", "--limit", "3", filled.name("t")).err == ""
    assert cli("ls", "-q", "--limit", "2", filled.name("t")).err == ""


def test_ls_of_several(filled: Space, cli: Run) -> None:
    ran = cli("ls", filled.name("t/sub"), filled.name("t/empty"))
    assert ran.out == f"{filled.name('t/sub')}:\nb.txt\nc.bin\n{filled.name('t/empty')}:\n"


def test_ls_as_json(filled: Space, cli: Run) -> None:
    entries = cli("--json", "ls", "-R", filled.name("t")).objects
    assert [(entry["path"], entry["type"], entry["size"]) for entry in entries] == [
        (filled.name("t/a.txt"), "file", 3),
        (filled.name("t/empty"), "directory", None),
        *implied(filled, (filled.name("t/sub"), "directory", None)),
        (filled.name("t/sub/b.txt"), "file", 3),
        (filled.name("t/sub/c.bin"), "file", 0),
    ]
    assert entries[0]["mtime"].endswith("Z")


def test_tree(filled: Space, cli: Run) -> None:
    assert cli("tree", filled.name("t")).out.splitlines() == [
        *[filled.name("t"), "├── a.txt", "├── empty/", "└── sub/", "    ├── b.txt", "    └── c.bin"],
        *["", "2 directories, 3 files"],
    ]
    assert "├── .dot\n" in cli("tree", "-a", filled.name("t")).out
    assert "b.txt" not in cli("tree", "--depth", "1", filled.name("t")).out
    assert "├── a.txt  (3 B)\n" in cli("tree", "--sizes", filled.name("t")).out
    assert "├── a.txt  (3)\n" in cli("tree", "--sizes", "--bytes", filled.name("t")).out
    assert [entry["path"] for entry in cli("--json", "tree", filled.name("t")).objects] == [
        filled.name(f"t/{path}") for path in ("a.txt", "empty", "sub", "sub/b.txt", "sub/c.bin")
    ]


def test_du(filled: Space, cli: Run) -> None:
    assert cli("du", filled.name("t")).out.split() == ["7", "B", "4", "files", "2", "directories", filled.name("t")]
    assert cli("du", "--bytes", filled.name("t/a.txt")).out.split()[:3] == ["3", "1", "files"]
    deep = cli("--json", "du", "--depth", "1", filled.name("t")).objects
    assert [(line["path"], line["files"], line["bytes"]) for line in deep] == [
        *[(filled.name("t"), 4, 7), (filled.name("t/empty"), 0, 0), (filled.name("t/sub"), 2, 3)]
    ]


def test_stat(filled: Space, cli: Run) -> None:
    ran = cli("stat", filled.name("t/a.txt"), filled.name("t/sub"))
    told = [line.split(maxsplit=1) for line in ran.out.splitlines()]
    assert told[1:3] == [["type", "file"], ["size", "3 B"]]
    assert ["type", "directory"] in told
    facts, _ = cli("--json", "stat", filled.name("t/a.txt"), filled.name("t/sub")).objects
    assert (facts["path"], facts["size"], facts["mtime"]) == (filled.name("t/a.txt"), 3, "2020-09-13T12:26:40.250000Z")
    assert facts["capabilities"]["write"] is True
    assert ["size", "3"] in [line.split(maxsplit=1) for line in cli("stat", "--bytes", facts["path"]).out.splitlines()]
    assert cli("stat", filled.name("nothing")).code == 3


# --- hash ---


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256", "sha512", "blake2b"])
def test_the_algorithms(tree: Path, cli: Run, algorithm: str) -> None:
    digest = hashlib.new(algorithm, b"one").hexdigest()
    assert cli("hash", "--algorithm", algorithm, "tree/a.txt").out == f"{digest}  tree/a.txt\n"


@pytest.mark.parametrize("algorithm", ["sha256", "crc32c"])
def test_hash_and_check(filled: Space, here: Path, cli: Run, algorithm: str) -> None:
    names = [filled.name("t/a.txt"), filled.name("t/sub/b.txt"), "tree/a.txt"]
    ran = cli("hash", "--algorithm", algorithm, *names)
    assert [line.split("  ")[1] for line in ran.out.splitlines()] == names
    (here / "sums").write_text(ran.out)
    check = ("hash", "--algorithm", algorithm, "--check", "sums")
    assert cli(*check) == (0, "".join(f"{name}: OK\n" for name in names), "")
    assert cli("-q", *check).out == ""
    filled.node("t/a.txt").write_text("changed")
    ran = cli("-q", *check)
    assert (ran.code, ran.out) == (6, f"{names[0]}: FAILED\n")
    assert [answer["ok"] for answer in cli("--json", *check).objects] == [False, True, True]
    filled.node("t/sub/b.txt").unlink()
    assert cli(*check).code == 1


def test_check_reads_the_standard_input(filled: Space, cli: Run) -> None:
    sums = cli("hash", filled.name("t/a.txt")).out
    assert cli("hash", "--check", "-", stdin=sums.encode()).code == 0


def test_hash_of_a_directory_is_refused(filled: Space, cli: Run) -> None:
    ran = cli("hash", filled.name("t"), filled.name("t/a.txt"))
    assert ran.code != 0
    assert filled.name("t/a.txt") in ran.out
    assert f"'{filled.name('t')}'" in ran.err


# --- mkdir, touch ---


def test_mkdir(space: Space, cli: Run) -> None:
    assert cli("mkdir", space.name("new")) == (0, "", "")
    assert space.node("new").is_dir
    ran = cli("mkdir", space.name("new"))
    assert (ran.code, space.name("new") in ran.err) == (1, True)
    assert cli("mkdir", "-p", space.name("new"), space.name("x/y/z")).code == 0
    assert space.node("x/y/z").is_dir
    if space.kind == "disk":
        assert cli("mkdir", space.name("no/parent")).code == 3
    space.node("file").write_text("")
    assert cli("mkdir", "-p", space.name("file")).code == 1


def test_touch(space: Space, cli: Run) -> None:
    assert cli("touch", space.name("a"), space.name("d/b")).code == 0
    assert space.files() == ["a", "d/b"]
    space.node("a").write_text("kept")
    again = cli("touch", space.name("a"))
    assert again.code == (4 if space.kind == "cloud" else 0)  # an object's time is its upload's
    assert space.node("a").read_text() == "kept"
