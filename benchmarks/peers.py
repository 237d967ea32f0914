"""The tools that benchmarks/transfer.py times beside ours: their command lines, and whether they are here at all."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tests.servers.process import ServerMissing, find_program

HERE = Path(__file__).resolve().parent


class Peer(NamedTuple):
    """One tool: `command(work, width, source, target)`; widths to try, None where it knows best itself.

    `missing`: why it cannot be measured, "" where it can.
    """

    name: str
    command: Callable[[str, int, str, str], list[str]]
    widths: tuple[int, ...] | None = None
    missing: str = ""

    @property
    def key(self) -> str:
        """Its name in rows and bars."""
        return self.name.partition(",")[0]


def program(name: str, widths: tuple[int, ...] | None = None, label: str = "", library: str = "") -> Peer:
    """One of programs.py, which needs a library."""

    def command(work: str, width: int, source: str, target: str) -> list[str]:
        return [sys.executable, str(HERE / "programs.py"), name, work, str(width), source, target]

    missing = f"{library} is not installed" if library and find_spec(library) is None else ""
    return Peer(label or name, command, widths, missing)


def url(place: str) -> str:
    return f"s3://{os.environ['BENCH_BUCKET']}/{place[3:]}" if place.startswith("s3:") else place


def s5cmd(work: str, width: int, source: str, target: str) -> list[str]:
    workers = ["--numworkers", str(width)] if width else []
    tree = os.path.isdir(source) or (source.startswith("s3:") and not source.endswith(".bin"))
    one = f"{url(source)}/*" if tree else url(source)
    verb = ["sync"] if work == "sync" else ["cp"]
    return [find_program("s5cmd"), "--log", "error", *workers, *verb, one, url(target) + ("/" if tree else "")]


def rclone(work: str, width: int, source: str, target: str) -> list[str]:
    def place(given: str) -> str:
        return f":s3:{os.environ['BENCH_BUCKET']}/{given[3:]}" if given.startswith("s3:") else given

    single = source.endswith(".bin")
    verb = "copyto" if single else "sync" if work == "sync" else "copy"
    wide = ["--transfers", str(width), "--checkers", str(width)] if width else []
    return [find_program("rclone"), "--config", "/dev/null", verb, *wide, place(source), place(target)]


def aws(path: str) -> Callable[[str, int, str, str], list[str]]:
    def command(work: str, width: int, source: str, target: str) -> list[str]:
        verb = ["sync"] if work == "sync" else ["cp"] if source.endswith(".bin") else ["cp", "--recursive"]
        return [path, "s3", *verb, "--quiet", url(source), url(target)]

    return command


def cp(work: str, width: int, source: str, target: str) -> list[str]:
    return ["cp", "-r", "--preserve=timestamps", source, target]


OURS = program("genro", label="genro-storage")


def absent(name: str) -> str:
    """Why a program cannot be run."""
    try:
        find_program(name)
    except ServerMissing as error:
        return str(error)
    return ""


def peers(aws_path: str | None) -> dict[str, Peer]:
    """All that are known, by name; those that are not here say so."""
    aws_path = aws_path or shutil.which("aws")
    known = [
        Peer("s5cmd", s5cmd, (32, 64, 256), absent("s5cmd")),
        Peer("rclone", rclone, (16, 32, 64), absent("rclone")),
        program("obstore", (8, 32, 64), "obstore, bare", "obstore"),
        program("s3fs", (64, 128), library="s3fs"),
        program("boto3", (8, 16), library="boto3"),
        program("smart_open", (8, 16), library="smart_open"),
        program("cloudpathlib", (8, 16), library="cloudpathlib"),
        program("upath", (8, 16), library="upath"),
        program("shutil"),
        Peer("cp", cp),
        Peer("aws", aws(aws_path or "aws"), None, "" if aws_path else "awscli is not installed; see --aws"),
    ]
    return {peer.key: peer for peer in known}
