"""Fixtures for the whole suite: real servers started on first use, the fault proxy, and the scale of soak tests."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest
from hypothesis import settings

from tests.servers.faultproxy import FaultProxy
from tests.servers.ministack import MiniStack
from tests.servers.moto import Moto
from tests.servers.rclone import RcloneS3
from tests.servers.running import MISSING, running
from tests.servers.s3 import S3Endpoint, S3Server
from tests.servers.seaweedfs import SeaweedFS

pytest_plugins = ("genro_storage.testing.plugin", "tests.servers.fixtures")

SERVER_FIXTURES = {
    "seaweedfs",
    "ministack",
    "moto",
    "rclone_s3",
    "gcs",
    "azurite",
    "azure_versions",
    "sshd",
    "password_sftp",
    "samba",
    "ftp",
    "ftps",
    "webdav",
    "webdav_tls",
    "caddy",
    "caddy_tls",
    "github",
    "git_repository",
    "postgres",
    "redis_server",
}
FOREIGN = (
    "AWS_",
    "AZURE_",
    "CLOUDSDK_",
    "FSSPEC_",
    "GCSFS_",
    "GENRO_STORAGE_",
    "GITHUB_",
    "GOOGLE_",
    "STORAGE_EMULATOR_",
)

HOME = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

# On a loaded machine an example's time says nothing about the code.
settings.register_profile("genro", deadline=None)
settings.load_profile("genro")


def hear_interrupts() -> None:
    """Undoes a shell's wish that background jobs ignore Ctrl-C: tests send it, and programs inherit what is ignored."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


hear_interrupts()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the developer's own cloud accounts and configuration out of every test."""
    for name in [name for name in os.environ if name.startswith(FOREIGN) or name in ("GH_TOKEN", "SSH_AUTH_SOCK")]:
        del os.environ[name]
    os.environ |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "NO_GCE_CHECK": "true"}
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    # No test can reach the files of whoever runs it: not by `~`, not by the mount `home:`.
    home = config.stash[HOME] = tempfile.TemporaryDirectory(prefix="genro-home-", ignore_cleanup_errors=True)
    os.environ["HOME"] = home.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what takes a server fixture, and what is long by its count; the latter may take as long as its scale is."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if SERVER_FIXTURES.intersection(fixtures):
            item.add_marker("server")
        if "soak" in fixtures:
            item.add_marker("soak")
            if not item.get_closest_marker("timeout"):
                item.add_marker(pytest.mark.timeout(max(240, 7200 * soak_scale())))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say loudly which servers were missing, and what that cost."""
    missed: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if MISSING in reason:
            why = reason.partition(MISSING)[2]
            missed[why] = missed.get(why, 0) + 1
    if missed:
        terminalreporter.section("SERVERS MISSING: this run proves less than it should", red=True, bold=True)
        for why, tests in sorted(missed.items()):
            terminalreporter.line(f"{why} ({tests} tests skipped)", red=True)


def soak_scale() -> float:
    """What counts of soak tests are multiplied with."""
    return float(os.environ.get("GENRO_SOAK", "0.02"))


def addresses(server: S3Server) -> Iterator[S3Endpoint]:
    """As `running`, but yields how to reach the server."""
    yield from (started.s3 for started in running(server))


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[S3Endpoint]:
    """SeaweedFS, the first choice: signatures, atomic conditions, versions. One per test process."""
    yield from addresses(SeaweedFS())


@pytest.fixture(scope="session")
def seaweedfs_bucket(seaweedfs: S3Endpoint) -> Mapping[str, str]:
    """The options of one bucket for all who take a `path` of their own in it."""
    return seaweedfs.options(seaweedfs.make_bucket())


@pytest.fixture(scope="session")
def ministack() -> Iterator[S3Endpoint]:
    """MiniStack, the second opinion: AWS listing order, sub-second times, no authentication."""
    yield from addresses(MiniStack())


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Endpoint]:
    """Moto: versions and tags, no signatures; never for throughput."""
    yield from addresses(Moto())


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[S3Endpoint]:
    """rclone `serve s3`, a weak S3: no conditional writes, no versions."""
    yield from addresses(RcloneS3())


@pytest.fixture
def s3_proxy() -> Iterator[Callable[[S3Endpoint], FaultProxy]]:
    """A function that puts a new FaultProxy before a server; reach it with `server.through(proxy.endpoint)`."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(FaultProxy(server.endpoint))


@pytest.fixture(scope="session")
def soak() -> Callable[[int], int]:
    """The count of a soak test, scaled by GENRO_SOAK (0.02 unless set) and never below 1."""
    scale = soak_scale()
    return lambda count: max(1, round(count * scale))
