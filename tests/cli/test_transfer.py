"""The options of cp and mv, each seen to have its effect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genro_storage.backends import local
from genro_storage.exceptions import StorageUnavailableError

from .conftest import Run

Configure = Callable[[list[dict[str, Any]]], Path]


@pytest.fixture
def tree(here: Path) -> Path:
    for name in ("a.py", "b.txt", "sub/c.py", "sub/d.txt"):
        file = here / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        file.chmod(0o600)
    return here / "tree"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


VERBS = pytest.mark.parametrize("verb", [["cp", "-r"], ["mv"]], ids=["cp", "mv"])


@VERBS
@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["--include", "*.py"], ["a.py", "sub/c.py"]),
        (["--exclude", "sub/"], ["a.py", "b.txt"]),
        (["--include", "*.py", "--include", "d.*", "--exclude", "a.*"], ["sub/c.py", "sub/d.txt"]),
    ],
)
def test_include_and_exclude(
    tree: Path, here: Path, cli: Run, verb: list[str], patterns: list[str], expected: list[str]
) -> None:
    ran = cli(*verb, *patterns, "tree", "out")
    assert (ran.code, ran.err) == (0, "")
    assert files(here / "out") == expected
    assert len(files(tree)) == (4 if verb[0] == "cp" else 4 - len(expected))


@VERBS
def test_into(tree: Path, here: Path, cli: Run, verb: list[str]) -> None:
    assert cli(*verb, "--into", "tree", "new").code == 0
    assert len(files(here / "new/tree")) == 4
    (here / "more").mkdir()
    assert cli(*verb, "new/tree", "more").code == 0  # merges, as on every pair of storages
    assert "a.py" in files(here / "more")


@VERBS
def test_no_overwrite(tree: Path, here: Path, cli: Run, verb: list[str]) -> None:
    (here / "out").mkdir()
    (here / "out/b.txt").write_text("old")
    ran = cli(*verb, "--no-overwrite", "tree", "out")
    assert ran.code == 1
    assert f"'{here}/out/b.txt'" in ran.err
    assert (here / "out/b.txt").read_text() == "old"
    assert (tree / "b.txt").exists()
    assert files(here / "out") == ["a.py", "b.txt", "sub/c.py", "sub/d.txt"]
    assert "3 files" in ran.out
    assert "1 failed" in ran.out


@pytest.mark.parametrize(
    ("how", "counts"), [("none", (0, 0)), ("size", (0, 1)), ("checksum", (0, 1)), ("read", (1, 0))]
)
def test_verify(tree: Path, cli: Run, how: str, counts: tuple[int, int]) -> None:
    report = cli("--json", "cp", "--verify", how, "tree/a.py", "copy").report
    assert (report["verified_checksum"], report["verified_size"]) == counts


def test_mv_is_always_verified(tree: Path, cli: Run) -> None:
    ran = cli("mv", "--verify", "none", "tree/a.py", "x")
    assert (ran.code, "invalid choice: 'none'" in ran.err) == (2, True)
    assert (tree / "a.py").exists()


@pytest.mark.parametrize(
    ("kept", "mtime", "mode"),
    [([], True, False), (["--preserve", "mtime,mode"], True, True), (["--preserve", "none"], False, False)],
)
def test_preserve(tree: Path, here: Path, cli: Run, kept: list[str], mtime: bool, mode: bool) -> None:
    os.utime(tree / "a.py", (1e9, 1e9))
    assert cli("cp", *kept, "tree/a.py", "copy").code == 0
    facts = (here / "copy").stat()
    assert ((facts.st_mtime == 1e9), (facts.st_mode & 0o777 == 0o600)) == (mtime, mode)


@pytest.mark.parametrize(
    "arguments",
    [
        *[["--preserve", "owner"], ["--preserve", ""], ["--include", "../x"], ["--include", ""], ["--exclude", "[a"]],
        *[["--retries", "-1"], ["--retries", "x"], ["--verify", "md5"], ["--symlinks", "keep"], ["--on-error", "ask"]],
    ],
)
def test_a_bad_value_is_a_usage_error_before_any_work(tree: Path, here: Path, cli: Run, arguments: list[str]) -> None:
    ran = cli("cp", "-r", *arguments, "tree", "out")
    assert (ran.code, len(ran.err.splitlines()), ran.out) == (2, 1, "")
    assert not (here / "out").exists()


# --- links ---


@pytest.fixture
def linked(tree: Path) -> Path:
    """Also a link to a file and one to a directory, both inside the tree."""
    (tree / "file").symlink_to("a.py")
    (tree / "dir").symlink_to("sub")
    return tree


def links(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_symlink())


@pytest.mark.parametrize(
    ("how", "there", "still_links"),
    [
        ([], ["dir", "file"], []),
        (["--symlinks", "follow"], ["dir", "file"], []),
        (["--symlinks", "skip"], [], []),
        (["--symlinks", "copy"], ["dir", "file"], ["dir", "file"]),
    ],
)
def test_symlinks(linked: Path, here: Path, cli: Run, how: list[str], there: list[str], still_links: list[str]) -> None:
    assert cli("cp", "-r", *how, "tree", "out").code == 0
    assert [name for name in ("dir", "file") if (here / "out" / name).exists()] == there
    assert links(here / "out") == still_links


def test_mv_moves_links_as_links(linked: Path, here: Path, cli: Run) -> None:
    """Also those that lead elsewhere, whose other end is none of mv's business."""
    (here / "elsewhere").mkdir()
    (here / "elsewhere/f").write_text("stays")
    (linked / "out").symlink_to(here / "elsewhere")
    (linked / "broken").symlink_to("nowhere")
    ran = cli("mv", "tree", "moved")
    assert (ran.code, ran.err) == (0, "")
    assert links(here / "moved") == ["broken", "dir", "file", "out"]
    assert not linked.exists()
    assert (here / "elsewhere/f").read_text() == "stays"
    assert cli("mv", "moved/file", "name").code == 0
    assert (here / "name").is_symlink()


def test_mv_follows_links_where_the_target_has_none(linked: Path, cli: Run, configured: Configure) -> None:
    configured([])
    ran = cli("mv", "tree", "memory:tree")
    assert (ran.code, ran.err) == (0, "")
    assert not linked.exists()
    assert "7 files" in ran.out


# --- failures ---


@pytest.mark.parametrize(("how", "lines"), [([], 2), (["--on-error", "continue"], 2), (["--on-error", "report"], 0)])
def test_on_error_goes_on(tree: Path, here: Path, cli: Run, how: list[str], lines: int) -> None:
    for name in ("a.py", "b.txt"):
        (here / "out" / name).mkdir(parents=True)
    ran = cli("cp", "-r", *how, "tree", "out")
    assert (ran.code, len(ran.err.splitlines())) == (1, lines)
    assert "2 files" in ran.out
    assert "2 failed" in ran.out
    assert files(here / "out") == ["sub/c.py", "sub/d.txt"]


def test_on_error_stop(tree: Path, here: Path, cli: Run) -> None:
    (here / "out/a.py").mkdir(parents=True)
    for number in range(500):
        (tree / f"more{number}").write_text("x")
    ran = cli("cp", "-r", "--on-error", "stop", "tree", "out")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert len(files(here / "out")) < 400


def test_failures_as_json(tree: Path, here: Path, cli: Run) -> None:
    (here / "out/a.py").mkdir(parents=True)
    ran = cli("--json", "cp", "-r", "tree", "out")
    (failure,) = (report := ran.report)["failures"]
    assert (failure["relpath"], failure["error"], report["files_copied"]) == ("a.py", "StorageIsADirectoryError", 3)
    assert failure["message"].endswith(f"'{here}/out/a.py'")
    assert f'"message": "{failure["message"]}"' in ran.err


@pytest.mark.parametrize(("retries", "code"), [("2", 0), ("1", 1)])
def test_retries(tree: Path, here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, retries: str, code: int) -> None:
    copy_from, left = local.LocalStorage.copy_from, [2]

    def failing(self: Any, *arguments: Any, **how: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise StorageUnavailableError("away for a moment")
        return copy_from(self, *arguments, **how)

    monkeypatch.setattr(local.LocalStorage, "copy_from", failing)
    monkeypatch.setattr("random.random", lambda: 0.0)
    ran = cli("cp", "--retries", retries, "tree/a.py", "copy")
    assert (ran.code, (here / "copy").exists()) == (code, code == 0)
    assert ran.err == ("" if code == 0 else f"genro-storage: away for a moment: '{here}/copy'\n")


def test_verbose_and_quiet(tree: Path, here: Path, cli: Run) -> None:
    assert cli("-q", "cp", "-r", "tree", "quiet") == (0, "", "")
    assert len(cli("cp", "-r", "tree", "plain").out.splitlines()) == 1
    told = cli("-v", "cp", "-r", "--exclude", "*.py", "tree", "told").out.splitlines()
    assert told[1:] == [
        "  verified by checksum 0, by size 2; retries 0",
        *["  directories made 0; bytes moved by the storage 0", "  skipped 2: excluded"],
    ]


def test_a_copy_onto_itself_is_told_and_does_nothing(tree: Path, cli: Run) -> None:
    ran = cli("-v", "mv", "tree/a.py", "./tree/../tree/a.py")
    assert (ran.code, "same place" in ran.out) == (0, True)
    assert (tree / "a.py").read_text() == "a.py"


def test_a_tree_into_itself_is_refused(tree: Path, cli: Run) -> None:
    ran = cli("cp", "-r", "tree", "tree/sub/copy")
    assert (ran.code, "cannot be copied into itself" in ran.err) == (1, True)
    assert len(files(tree)) == 4


# --- standard input and output ---


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["mv", "-", "x"], "mv cannot use '-'"),
        (["mv", "tree/a.py", "-"], "mv cannot use '-'"),
        (["cp", "-", "-"], "not both"),
        (["cp", "-", "tree/a.py", "x"], "not both"),
        (["cp", "--verify", "read", "-", "x"], "no option but --no-overwrite, --if-absent and"),
        (["cp", "--no-overwrite", "tree/a.py", "-"], "those only to store"),
        (["cp", "-r", "tree", "-"], "no option but"),
        (["cp", "-", "tree"], "the standard input has no name; write"),
        (["cp", "-", "new/"], "/new/NAME'"),
    ],
)
def test_what_makes_no_sense_with_streams(tree: Path, here: Path, cli: Run, arguments: list[str], told: str) -> None:
    ran = cli(*arguments, stdin=b"data")
    assert (ran.code, told in ran.err, ran.out) == (2, True, ""), ran
    assert not (here / "x").exists()
    assert len(files(tree)) == 4


def test_the_standard_input_may_have_a_large_descriptor(here: Path) -> None:
    """As in a process that has many files open."""
    code = (
        "import os, resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "os.dup2(0, 1500)\n"
        "sys.stdin = open(1500)\n"
        "from genro_storage.cli import main\n"
        "sys.exit(main(['cp', '-', 'stored']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], input=b"data", capture_output=True, timeout=200, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert (here / "stored").read_bytes() == b"data"


def test_cp_of_several_to_the_standard_output(tree: Path, cli: Run) -> None:
    assert cli("cp", "tree/a.py", "tree/b.txt", "-").out == "a.pyb.txt"
