"""Versions and URLs on the command line, on a memory mount that keeps versions and on a bucket that does."""

from __future__ import annotations

import gzip
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager, StorageNode

from .conftest import Run, cloud

Configure = Callable[[list[dict[str, Any]]], Path]


@pytest.fixture(params=["mem", pytest.param("cloud", marks=pytest.mark.server)])
def file(request: pytest.FixtureRequest, tmp_path: Path, configured: Configure) -> Iterator[StorageNode]:
    """A file of three versions, ``one``, ``two2`` and ``three``."""
    if request.param == "mem":
        mount = {"type": "memory", "store": tmp_path.name + str(os.getpid()), "versioned": True}
    else:
        server = request.getfixturevalue("seaweedfs")
        bucket = server.make_bucket()
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        server.checked("PUT", bucket, query={"versioning": ""}, body=body)
        mount = {"type": "s3", **server.options(bucket)}
    with StorageManager(configured([{"name": request.param, **mount}])) as storage:
        node = storage.node(f"{request.param}:d/file.txt")
        for text in ("one", "two2", "three"):
            node.write_text(text)
        yield node


def ids(node: StorageNode) -> list[str]:
    return [version.version_id for version in node.versions]


def test_the_versions_of_a_file(file: StorageNode, cli: Run) -> None:
    ran = cli("versions", file.fullpath)
    lines = ran.out.splitlines()
    assert (ran.code, [line.split()[0] for line in lines]) == (0, ["3", "4", "5"])
    assert all(version in line for version, line in zip(ids(file), lines, strict=True))
    assert [line.endswith("  latest") for line in lines] == [False, False, True]
    told = cli("--json", "versions", file.fullpath).objects
    assert [(one["version_id"], one["size"], one["latest"], one["deleted"]) for one in told] == [
        *[(version, size, size == 5, False) for version, size in zip(ids(file), (3, 4, 5), strict=True)]
    ]
    file.unlink()
    assert cli("versions", file.fullpath).out.splitlines()[-1].split()[0] == "deleted"
    assert cli("versions", f"{file.mount_name}:none").code == 3


def test_one_version_is_read(file: StorageNode, cli: Run) -> None:
    first, second, _ = ids(file)
    assert cli("cat", "--version-id", first, file.fullpath).out == "one"
    assert cli("cat", "--version-id", second, "--range", "1-3", file.fullpath).out == "wo"
    assert cli("cat", "--version-id", "none-of-these", file.fullpath).code == 3
    assert cli("cat", "--version-id", first, file.fullpath, file.fullpath).code == 2


def test_rollback(file: StorageNode, cli: Run) -> None:
    first = ids(file)[0]
    ran = cli("versions", "--rollback", first, "--dry-run", file.fullpath)
    assert (ran.code, ran.out) == (0, f"would roll {file.fullpath} back to {first}\n")
    assert file.read_text() == "three"
    (told,) = cli("--json", "versions", "--rollback", first, file.fullpath).objects
    assert (file.read_text(), len(ids(file)), told["version_id"]) == ("one", 4, ids(file)[-1])
    for dry in ([], ["--dry-run"]):
        assert cli("versions", *dry, "--rollback", "none-of-these", file.fullpath).code == 3


def test_prune_keep(file: StorageNode, cli: Run) -> None:
    before = ids(file)
    ran = cli("versions", "--prune-keep", "1", "--dry-run", file.fullpath)
    assert (ran.code, ran.out) == (0, f"would erase 2 versions of {file.fullpath}\n")
    assert ids(file) == before
    assert cli("versions", "--prune-keep", "2", file.fullpath).out == f"erased 1 versions of {file.fullpath}\n"
    assert ids(file) == before[1:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--rollback", "x", "--prune-keep", "1"], "do not go together"),
        (["--dry-run"], "--dry-run is for"),
        (["--prune-keep", "0"], "from 1 up"),
        (["another"], "takes one PATH"),
    ],
)
def test_usage_of_versions(cli: Run, arguments: list[str], told: str) -> None:
    ran = cli("versions", "memory:x", *arguments)
    assert (ran.code, told in ran.err) == (2, True), ran.err


def test_versions_where_there_are_none(here: Path, cli: Run) -> None:
    (here / "f").write_text("x")
    for arguments in (
        *[["versions", "f"], ["ls", "--versions", "f"], ["rm", "--all-versions", "f"]],
        ["rm", "--all-versions", "--dry-run", "f"],
    ):
        ran = cli(*arguments)
        assert (ran.code, "version" in ran.err) == (4, True), ran
    assert (here / "f").exists()


def test_ls_versions(file: StorageNode, cli: Run) -> None:
    (file.parent / "other").write_text("x")
    lines = cli("ls", "--versions", file.parent.fullpath).out.splitlines()
    assert [line.split()[-1] for line in lines] == ["file.txt"] * 3 + ["other"]
    assert [version in line for version, line in zip(ids(file), lines, strict=False)] == [True] * 3
    told = cli("--json", "ls", "-R", "--versions", f"{file.mount_name}:").objects
    assert [one["version_id"] for one in told if one["path"] == file.fullpath] == ids(file)


def test_rm_all_versions(file: StorageNode, cli: Run) -> None:
    other = file.parent / "other"
    other.write_text("x")
    assert cli("rm", file.fullpath).code == 0
    assert len(ids(file)) == 3, "a deletion keeps what was"
    assert cli("rm", "--all-versions", "--dry-run", file.fullpath).out == f"would delete {file.fullpath}\n"
    assert cli("rm", "--all-versions", file.fullpath) == (0, "", "")
    assert (file.list_versions(), other.read_text()) == ([], "x")
    assert cli("rm", "--all-versions", file.fullpath).code == 3
    assert cli("rm", "-f", "--all-versions", file.fullpath).code == 0
    ran = cli("rm", "--all-versions", file.parent.fullpath)
    assert (ran.code, "-r deletes directories too" in ran.err, other.read_text()) == (2, True, "x")
    assert cli("rm", "-r", "-y", "--all-versions", file.parent.fullpath).code == 0
    assert other.list_versions() == []


# --- cat --decompress ---


def test_decompress(here: Path, cli: Run) -> None:
    (here / "a.txt.gz").write_bytes(gzip.compress(b"content " * 100_000))
    assert cli("cat", "--decompress", "a.txt.gz").out == "content " * 100_000
    (here / "plain").write_text("x")
    ran = cli("cat", "--decompress", "plain")
    assert (ran.code, "does not end as a compressed file" in ran.err) == (2, True)
    assert cli("cat", "--decompress", "--range", "1-2", "a.txt.gz").code == 2
    (here / "bad.gz").write_text("no gzip")
    assert cli("cat", "--decompress", "bad.gz").code == 1


# --- url ---


@pytest.mark.server
def test_a_signed_url(here: Path, cli: Run, configured: Configure, seaweedfs: Any) -> None:
    configured([{"name": "cloud", **cloud(seaweedfs)}])
    (here / "f").write_text("content")
    assert cli("cp", "f", "cloud:f").code == 0
    (url,) = cli("url", "--expires", "5m", "--download-name", "näme.txt", "cloud:f").out.splitlines()
    assert "X-Amz-Expires=300" in url
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"content"
    (put,) = cli("--json", "url", "--method", "PUT", "cloud:new").objects
    with urllib.request.urlopen(urllib.request.Request(put["url"], b"sent", method="PUT")):
        pass
    assert cli("cat", "cloud:new").out == "sent"
    ran = cli("url", "--expires", "30d", "cloud:f")
    assert (ran.code, "expires_in" in ran.err) == (2, True)


def test_a_url_below_a_base(here: Path, cli: Run, configured: Configure) -> None:
    (here / "a b").write_text("x")
    configured([
        {"name": "web", "type": "local", "path": str(here), "base_url": "https://example.org/files"},
        {"name": "bare", "type": "local", "path": str(here)},
    ])  # fmt: skip
    assert cli("url", "web:a b").out == "https://example.org/files/a%20b\n"
    ran = cli("url", "bare:a b", "web:a b")
    assert (ran.code, "nobody reaches 'bare:a b'" in ran.err, ran.out.count("\n")) == (4, True, 1)
    assert cli("url", "--expires", "soon", "web:a b").code == 2
