"""How names, sizes and times are shown, and the progress line as text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genro_storage.cli.console import Console, escaped, human_size, local_time, unescaped, utc_time
from genro_storage.cli.parser import main_parser, verb_parser
from genro_storage.cli.progress import Progress, clock, fitted
from genro_storage.cli.registry import COMMANDS, verb
from genro_storage.exceptions import StorageNotFoundError
from genro_storage.transfer import TransferEvent

from .conftest import Run


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain name.txt", "plain name.txt"),
        ("back\\slash", "back\\slash"),
        ("schön 日本 \u202f\xa0", "schön 日本 \u202f\xa0"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31mred\x7f", "\\x1b[31mred\\x7f"),
        ("\x9b0m \u202e \u2028 \U000e0001", "\\u009b0m \\u202e \\u2028 \\U000e0001"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\\n\n", "\\\\n\\n"),
    ],
)
def test_escaped(name: str, shown: str) -> None:
    assert escaped(name) == shown


@given(st.text(st.sampled_from("\\nrtxu0a1b\x1b\n\udc80\x80é") | st.characters()))
def test_escapes_are_harmless_and_can_be_read_back(name: str) -> None:
    shown = escaped(name)
    assert shown == name or unescaped(shown) == name
    assert not [char for char in shown if not (char.isprintable() or char.isspace())]
    assert len(shown.splitlines()) <= 1


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        *[(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (1 << 20, "1.0 MiB")],
        *[((1 << 20) - 1, "1.0 MiB"), (5 << 30, "5.0 GiB"), (3 << 60, "3.0 EiB"), (3 << 70, "3072.0 EiB")],
    ],
)
def test_human_size(size: int | None, shown: str) -> None:
    assert human_size(size) == shown


def test_exact_size() -> None:
    assert human_size(1536, exact=True) == "1536"


def test_times(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert local_time(0.5) == "1970-01-01T05:30:00+05:30"
    finally:
        monkeypatch.undo()
        time.tzset()
    assert utc_time(0.5) == "1970-01-01T00:00:00.500000Z"
    assert (local_time(None), utc_time(None), utc_time(1e15)) == ("-", None, "1000000000000000.0")


@pytest.mark.parametrize(("seconds", "shown"), [(0, "0:00"), (65.4, "1:05"), (7205, "2:00:05")])
def test_clock(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def seen(**facts: Any) -> TransferEvent:
    """Half of 10 files and 100 MiB, at 10 MiB/s."""
    half = {"files_done": 5, "files_total": 10, "bytes_done": 50 << 20, "bytes_total": 100 << 20, "total_known": True}
    return TransferEvent(kind="bytes", **{**half, "rate": 10.0 * (1 << 20), "eta": 5.0, **facts})


def test_the_progress_line() -> None:
    progress = Progress("cp")
    assert progress.text(3, 80) == "cp  0:03"
    progress.update(seen(relpath="deep/er/name.txt"))
    bar = f"{'━' * 10}{'─' * 10}"
    facts = " 50%  5/10 files  50.0 MiB/100.0 MiB  10.0 MiB/s  0:05, 0:05 left"
    assert progress.text(5, 200) == f"cp  {bar}  {facts}  deep/er/name.txt"
    assert progress.text(5, 103) == f"cp  {bar}  {facts}  …/name.txt"
    assert progress.text(5, 96) == f"cp  {bar}  {facts}"
    assert progress.text(5, 79) == f"cp  {'━' * 4}{'─' * 4}  {facts}"
    assert progress.text(5, 75) == f"cp  {facts}"
    for width, shown in {
        69: f"cp  {facts}",
        68: "cp 50% 5/10 50.0 MiB/100.0 MiB 10.0 MiB/s 0:05 left",
        50: "cp 50% 5/10 50.0 MiB 10.0 MiB/s 0:05 left",
        39: "cp 50% 5/10 50.0 MiB 10.0 MiB/s -0:05",
        35: "cp 50% 50.0 MiB 10.0 MiB/s -0:05",
        30: "cp 50% 10.0 MiB/s -0:05",
        20: "cp 50% -0:05",
        8: "cp 50% -",
    }.items():
        assert progress.text(5, width) == shown
    progress.update(seen(files_done=10, bytes_done=100 << 20, eta=0.0))
    assert progress.text(20, 100).startswith(f"cp  {'━' * 20}  100%  10/10 files  100.0 MiB/100.0 MiB")


def test_progress_as_long_as_nobody_knows_the_whole() -> None:
    progress = Progress("sync", "2/3")
    progress.update(seen(total_known=False, eta=None))
    assert progress.text(5, 80) == "sync 2/3  5/10+ files  50.0 MiB/100.0 MiB+  10.0 MiB/s  0:05"


def test_progress_of_files_without_bytes() -> None:
    progress = Progress("mv")
    progress.update(seen(bytes_done=0, bytes_total=0, rate=0.0, eta=None))
    assert progress.text(5, 80) == f"mv  {'━' * 10}{'─' * 10}   50%  5/10 files  0:05"
    assert progress.text(5, 18) == "mv 50% 5/10 0:05"


def test_progress_without_news_slows_down() -> None:
    progress = Progress("cp")
    progress.update(seen())
    assert "10.0 MiB/s  0:05, 0:05 left" in progress.text(5, 80)
    assert "5.0 MiB/s  0:10, 0:10 left" in progress.text(10, 80, quiet=5)
    assert progress.text(20, 80, quiet=15).endswith("0 B/s  0:20")


@pytest.mark.parametrize(
    ("name", "room", "shown"),
    [("abc", 3, "abc"), ("abcd", 3, "…cd"), ("日本語", 6, "日本語"), ("日本語", 5, "…本語"), ("日本語", 4, "…語")],
)
def test_a_name_that_must_fit(name: str, room: int, shown: str) -> None:
    assert fitted(name, room) == shown


@given(st.text(max_size=40), st.integers(1, 30))
def test_names_fit(name: str, room: int) -> None:
    from unicodedata import east_asian_width

    shown = fitted(name, room)
    assert sum(2 if east_asian_width(char) in "WF" else 1 for char in shown) <= room
    assert name.endswith(shown.removeprefix("…"))


@given(st.integers(1, 200), st.integers(0, 12), st.booleans(), st.text(max_size=60))
def test_the_line_never_wraps(width: int, done: int, known: bool, name: str) -> None:
    progress = Progress("cp")
    progress.update(seen(files_done=done, total_known=known, relpath=name.encode("ascii", "replace").decode()))
    line = progress.text(5, width)
    assert len(line) <= width
    assert "\n" not in line


def test_an_error_as_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    error = StorageNotFoundError("gone: 'm:a'", operation="read", mount="m", path="a")
    assert Console(json=True).error(error) == 3
    assert capsys.readouterr().err == (
        '{"error": "StorageNotFoundError", "message": "gone: \'m:a\'", "exit": 3, '
        '"operation": "read", "mount": "m", "path": "a"}\n'
    )


def test_the_cause_and_the_traceback_only_if_asked(here: Path, cli: Run) -> None:
    assert len(cli("cat", "none").err.splitlines()) == 1
    assert "  caused by FileNotFoundError: " in cli("-v", "cat", "none").err


def test_names_with_control_characters(here: Path, cli: Run) -> None:
    name = "evil\x1b[2J\n"
    (here / name).write_text("x")
    shown = "evil\\x1b[2J\\n"
    assert cli("ls").out == f"{shown}\n"
    assert f"── {shown}\n" in cli("tree").out
    assert cli("stat", name).out.startswith(f"{here}/{shown}\n")
    assert shown in cli("cp", name, "copy").out
    assert cli("cat", name + "none").err.endswith(f"{shown}none'\n")
    assert cli("-v", "rm", name).out == f"deleted {here}/{shown}\n"


def test_names_that_are_no_text(here: Path, cli: Run) -> None:
    name = "byte\udcff"
    (here / name).write_text("x")
    assert cli("ls").out == "byte\\xff\n"
    sums = cli("hash", name).out
    assert sums.startswith("\\")
    assert cli("hash", "--check", "-", stdin=sums.encode()) == (0, "byte\\xff: OK\n", "")
    assert cli("--json", "ls").objects[0]["path"] == f"{here}/{name}"


def test_a_stream_that_cannot_show_a_name(process: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "日本").write_text("x")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert process("ls") == (0, "\\u65e5\\u672c\n", "")


# --- arguments ---


def test_no_command_is_a_usage_error(cli: Run) -> None:
    ran = cli()
    assert (ran.code, ran.out) == (2, "")
    assert "usage: genro-storage" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["xyzzy"], "unknown command 'xyzzy'; commands: cp, mv"),
        (["hsah"], "unknown command 'hsah'; did you mean 'hash'?"),
        (["ls", "--depth", "1"], "unrecognized arguments: --depth; see 'genro-storage ls --help'"),
        (["--jso", "ls"], "unrecognized arguments: --jso"),
        (["ls", "--rec"], "unrecognized arguments: --rec"),
        (["cp", "x"], "expected SRC… DST; see"),
        (["cat"], "expected PATH…"),
        (["hash"], "expected PATH…, or --check FILE"),
        (["hash", "--check", "x", "y"], "give no others"),
        (["mounts", "x"], "takes no path: 'x'"),
        (["mv", "-r", "a", "b"], "unrecognized arguments: -r"),
        (["ls", "--limit", "-1"], "expected a number from 0 up, not '-1'"),
        (["cat", "--range", "5-3", "x"], "the range '5-3' ends before it begins"),
        (["cat", "--range", "-", "x"], "expected A-B, A- or -N in bytes, not '-'"),
        (["ls", ""], "a path is empty; the current directory is '.'"),
        (["ls", "memory:../x"], "Parent directory traversal"),
        (["cat", ".genro-x"], "reserved"),
    ],
)
def test_usage_errors(cli: Run, arguments: list[str], told: str) -> None:
    ran = cli(*arguments)
    assert (ran.code, told in ran.err, len(ran.err.splitlines()), ran.out) == (2, True, 1, ""), ran.err


def test_usage_errors_as_json(cli: Run) -> None:
    ran = cli("--json", "nothing")
    assert ran.err.startswith('{"error": "UsageError", "message": "unknown command')


def test_options_stand_anywhere_and_two_dashes_end_them(here: Path, cli: Run) -> None:
    (here / "-l").write_text("dash")
    (here / "-5").write_text("five")
    assert cli("cat", "--", "-l", "-5").out == "dashfive"
    assert cli("cat", "./-l").out == "dash"
    before, after = cli("--json", "-q", "stat", "./-l"), cli("stat", "./-l", "--json", "-q")
    assert before == after
    assert before.out.startswith("{")
    assert cli("rm", "-v", "--", "-l").out == f"deleted {here}/-l\n"


def test_help(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = cli("--help").out
    assert all(f"  {name} " in told and summary in told for name, (_, summary) in COMMANDS.items())
    for name, (_, summary) in COMMANDS.items():
        ran = cli(name, "--help")
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"usage: genro-storage {name} [options]")
        assert f"{summary[0].upper()}{summary[1:]}." in ran.out.splitlines()
        assert max(map(len, ran.out.splitlines())) <= 78


def test_help_is_as_wide_as_the_terminal(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("120", 118), ("60", 58), ("", 78), ("x", 78)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = cli("cp", "--help").out.splitlines()
        assert width - 20 < max(map(len, lines)) <= width


def test_every_option_is_explained() -> None:
    for parser in (main_parser(), *(verb_parser(name, verb(name)) for name in COMMANDS)):
        assert [action.dest for action in parser._actions if not action.help] == []


def test_without_arguments_the_process_s_own_are_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genro_storage import __version__
    from genro_storage.cli import main

    monkeypatch.setattr(sys, "argv", ["genro-storage", "--version"])
    assert (main(), capsys.readouterr().out) == (0, f"genro-storage {__version__}\n")
