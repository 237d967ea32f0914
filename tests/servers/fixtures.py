"""Fixtures of the servers other than S3: one running server per test process, started on first use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .asyncsshd import PasswordSftp
from .azure import AzureEndpoint
from .azure_versions import AzureVersions
from .azurite import Azurite
from .caddy import Caddy
from .ftp import Ftp
from .gcs.server import GcsServer
from .github import GitHubServer
from .gitrepo import GitRepository, make_repository
from .postgres import Postgres
from .process import ServerMissing
from .redis import Redis
from .running import miss, running
from .samba import Samba
from .sshd import Sshd
from .webdav import WebDav


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """Google Cloud Storage, in this process: generations, preconditions, uploads, tokens, signed URLs."""
    yield from running(GcsServer())


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzureEndpoint]:
    """Azurite: Azure Blob storage but for version ids (those: `azure_versions`)."""
    yield from (server.azure for server in running(Azurite()))


@pytest.fixture(scope="session")
def azure_versions() -> Iterator[AzureEndpoint]:
    """An Azure account with versioning, in this process; checks no key."""
    yield from (server.azure for server in running(AzureVersions()))


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    """OpenSSH serving SFTP, locked into its own folder when the tests run as root."""
    yield from running(Sshd())


@pytest.fixture(scope="session")
def password_sftp() -> Iterator[PasswordSftp]:
    """SFTP by password, from a second server."""
    yield from running(PasswordSftp())


@pytest.fixture(scope="session")
def samba() -> Iterator[Samba]:
    """Samba: a share to write and a read-only one."""
    yield from running(Samba())


@pytest.fixture(scope="session")
def ftp() -> Iterator[Ftp]:
    """FTP with a writer, a reader and the anonymous user."""
    yield from running(Ftp())


@pytest.fixture(scope="session")
def ftps() -> Iterator[Ftp]:
    """FTP that demands TLS, with a certificate nobody trusts."""
    yield from running(Ftp(tls=True))


@pytest.fixture(scope="session")
def webdav() -> Iterator[WebDav]:
    """WebDAV with Basic or bearer credentials."""
    yield from running(WebDav())


@pytest.fixture(scope="session")
def webdav_tls() -> Iterator[WebDav]:
    """WebDAV over TLS, with a certificate nobody trusts."""
    yield from running(WebDav(tls=True))


@pytest.fixture(scope="session")
def caddy() -> Iterator[Caddy]:
    """HTTP with ranges, conditions, an HTML index and places that ask for credentials."""
    yield from running(Caddy())


@pytest.fixture(scope="session")
def caddy_tls() -> Iterator[Caddy]:
    """The same over TLS, with a certificate nobody trusts."""
    yield from running(Caddy(tls=True))


@pytest.fixture(scope="session")
def github() -> Iterator[GitHubServer]:
    """GitHub's REST API over real repositories, in this process."""
    yield from running(GitHubServer())


@pytest.fixture
def git_repository(tmp_path: Path) -> GitRepository:
    """The repository of `make_repository`, made by the real git; a test may go on with it."""
    folder = tmp_path / "repository"
    folder.mkdir()
    try:
        return make_repository(folder)
    except ServerMissing as missing:
        miss(missing)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL without fsync."""
    yield from running(Postgres())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """Redis that keeps nothing."""
    yield from running(Redis())
