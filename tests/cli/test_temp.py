"""`temp`: only what the dead left goes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from genro_storage.tempfiles import TempFileManager

from .conftest import Run


@pytest.fixture
def base(tmp_path: Path, configured: Callable[[list[dict[str, Any]]], Path]) -> Path:
    """The base directory of the mount `temp`, with what a dead process left."""
    base = tmp_path / "base"
    configured([{"name": name, "type": "temp", "base_dir": str(base), "min_free_bytes": 0} for name in ("temp", "two")])
    (base / "o-0000000000000001/f").mkdir(parents=True)
    (base / "o-0000000000000001/f/a").write_text("x")
    base.chmod(0o700)
    return base


def test_status(base: Path, cli: Run) -> None:
    ran = cli("temp", "status", "--json")
    assert ran.code == 0
    (told,) = ran.objects
    assert (told["status"], told["owners"], told["dead_owners"]) == ("healthy", 1, 1)
    assert str(base) in cli("temp", "status", "two:").out
    base.chmod(0o777)
    ran = cli("temp", "status")
    assert ran.code == 4
    assert "writable by others" in ran.err


@pytest.mark.parametrize(("action", "code"), [("sweep", 0), ("clear", 1)])
def test_what_a_living_process_has_stays(base: Path, cli: Run, action: str, code: int) -> None:
    """`clear` then says that it could not clear all."""
    (base / "mine").write_text("x")
    with TempFileManager(base, background=False, min_free_bytes=0) as manager:
        path = manager.create_file()
        (base / "o-0000000000000002").mkdir()
        ran = cli("temp", action, "two", "--json")
        assert ran.code == code
        assert ran.objects == [{"removed": 1, "alive": 1, "failed": {}, "left": 0}]
        assert Path(path).exists()
    assert cli("temp", action).code == 0
    assert sorted(entry.name for entry in base.iterdir()) == [".sweep", "mine"]


def test_what_is_not_reached_in_time_is_told(base: Path, cli: Run, configured: Callable[..., Path]) -> None:
    configured([{"name": "temp", "type": "temp", "base_dir": str(base), "cleanup_timeout": 0}])
    ran = cli("temp", "sweep")
    assert ran.code == 1
    assert "1 were not reached" in ran.err
    assert (base / "o-0000000000000001/f/a").exists()


@pytest.mark.parametrize(("form", "level"), [("text", "INFO"), ("json", "info")])
def test_the_log_of_a_command(
    base: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, form: str, level: str
) -> None:
    """LOG_LEVEL, LOG_FORMAT and LOG_FILE are the command's alone; without them it logs nothing."""
    assert cli("temp", "sweep").err == ""
    (base / "o-0000000000000002").mkdir()
    for name, value in {"LEVEL": level, "FORMAT": form, "FILE": str(tmp_path / "log")}.items():
        monkeypatch.setenv(f"LOG_{name}", value)
    ran = cli("temp", "sweep")
    assert (ran.code, ran.err) == (0, "")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "Cleaned up 1 directories" in line
    if form == "json":
        told = json.loads(line)
        assert (told["level"], told["logger"]) == ("INFO", "genro_storage.tempfiles")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("LOG_FILE", "/nowhere/log"),
        ("METRICS_BACKEND", "statsd"),
        ("PROMETHEUS_PORT", "http"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named(
    base: Path, cli: Run, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("METRICS_BACKEND", "prometheus")
    monkeypatch.setenv(variable, value)
    ran = cli("temp", "status")
    assert ran.code == 2
    assert variable in ran.err


def test_metrics(base: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """METRICS_BACKEND is the command's too; PROMETHEUS_PORT keeps it there to be scraped, until it is interrupted."""
    monkeypatch.setenv("METRICS_BACKEND", "prometheus")
    ran = cli("temp", "status")
    assert ran.code == 0
    assert "temp_dead_owners 1\n" in ran.out
    assert "temp_files_cleaned_total 0\n" in ran.out
    environ = {**os.environ, "PROMETHEUS_PORT": "0"}
    command = [sys.executable, "-m", "genro_storage.cli", "temp", "status"]
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr
        url = re.search(r"http://\S+", served.stderr.readline())
        assert url
        with (
            socket.create_connection(("127.0.0.1", urlsplit(url[0]).port or 0)),  # who says nothing holds nobody up
            urllib.request.urlopen(url[0], timeout=60) as answer,
        ):
            assert "version=0.0.4" in answer.headers["Content-Type"]
            assert b"temp_healthy 1\n" in answer.read()
        served.send_signal(signal.SIGTERM)
        assert served.wait(60) == 143


@pytest.mark.parametrize("arguments", [["explode"], ["sweep", "temp", "two"], []])
def test_what_makes_no_sense(base: Path, cli: Run, arguments: list[str]) -> None:
    assert cli("temp", *arguments).code == 2
    assert (base / "o-0000000000000001/f/a").exists()


def test_a_mount_of_another_type(base: Path, cli: Run, configured: Callable[[list[dict[str, Any]]], Path]) -> None:
    configured([{"name": "mem", "type": "memory"}])
    ran = cli("temp", "sweep", "mem")
    assert ran.code != 0
    assert "not of type temp" in ran.err
