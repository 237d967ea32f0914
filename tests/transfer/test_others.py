"""Results checked by others: rclone finds our copies identical, boto3 reads what we wrote, and the reverse."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from genro_storage import StorageManager
from genro_storage.testing.reading import payload
from tests.servers.process import find_program
from tests.servers.s3 import S3Endpoint

LARGE = 33 * 1024 * 1024 + 17
"""Several parts of ours, and of rclone with its parts of 8 MiB."""
COMMON = ("--config", "/dev/null", "--retries", "1", "--no-unicode-normalization")
PICTURES = {0x2409: "\t", 0x240A: "\n"}
"""How rclone prints control characters."""
MTIME = 1_234_567_890.25
NAMES = (
    *("plain.txt", "page.html", "no extension", "no.such-type", "dir/deep/er/data.json", "a", "a-/1", "a.txt"),
    *("sp ace/ lead and trail ", "plus+and&amp=;,@:", "hash#?query=%20%2F", "quo'te\"s`"),
    *(
        "[x]*",
        "{a,b}",
        "-dash",
        ".hidden",
        "..two",
        "~tilde",
        "$HOME",
        "caf\u00e9",
        "cafe\u0301",
        "\u65e5\u672c/\u8a9e",
    ),
    *("\U0001f40d", "tab\there", "line\nend", "n" * 255),
)


def tree() -> dict[str, bytes]:
    """Hostile but legal names, an empty file, and one of several parts."""
    return {**{name: name.encode() * 7 for name in NAMES}, "empty": b"", "large.bin": payload(LARGE)}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for number, (path, data) in enumerate(files.items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        os.utime(folder / path, (MTIME + number, MTIME + number))
    return folder


def facts(folder: Path) -> dict[str, tuple[str, float]]:
    """Relative path → (SHA-256, mtime)."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def bucket(seaweedfs: S3Endpoint) -> str:
    return seaweedfs.make_bucket()


@pytest.fixture
def storage(seaweedfs: S3Endpoint, bucket: str, tmp_path: Path) -> Iterator[StorageManager]:
    entries = [
        {"name": "files", "type": "local", "path": str(tmp_path)},
        {"name": "memory", "type": "memory", "metadata": True},
        {"name": "s3", "type": "s3", **seaweedfs.options(bucket)},
    ]
    with StorageManager(entries) as manager:
        yield manager


@pytest.fixture
def rclone(seaweedfs: S3Endpoint, tmp_path: Path) -> Callable[..., str]:
    """Runs rclone, to which the server is `far:`; returns what it printed."""
    keys = {
        "TYPE": "s3", "PROVIDER": "SeaweedFS", "ENDPOINT": seaweedfs.endpoint, "REGION": seaweedfs.region,
        "ACCESS_KEY_ID": seaweedfs.access_key, "SECRET_ACCESS_KEY": seaweedfs.secret_key, "CHUNK_SIZE": "8M",
        "UPLOAD_CUTOFF": "8M",
    }  # fmt: skip
    environment = {**os.environ, **{f"RCLONE_CONFIG_FAR_{name}": value for name, value in keys.items()}}

    def run(*arguments: str) -> str:
        command = [find_program("rclone"), *COMMON, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture
def client(seaweedfs: S3Endpoint) -> Iterator[Any]:
    made = boto3.client(
        "s3", endpoint_url=seaweedfs.endpoint, region_name=seaweedfs.region,
        aws_access_key_id=seaweedfs.access_key, aws_secret_access_key=seaweedfs.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    yield made
    made.close()


@pytest.mark.parametrize("engine", ["auto", "exact"])
def test_others_find_our_copy_identical(
    seaweedfs: S3Endpoint, bucket: str, storage: StorageManager, rclone: Callable[..., str], client: Any,
    tmp_path: Path, engine: str,
) -> None:  # fmt: skip
    files = tree()
    here = written(tmp_path / "here", files)
    storage.add_mount({"name": "up", "type": "s3", **seaweedfs.options(bucket), "engine": engine})
    report = storage.copy("files:here", "up:a b/copy")
    assert (report.files_copied, report.ok, report.warnings) == (len(files), True, [])
    rclone("check", str(here), f"far:{bucket}/a b/copy")
    rclone("check", "--download", str(here), f"far:{bucket}/a b/copy")
    times = {path: mtime for path, (_, mtime) in facts(here).items()}
    for name, data in files.items():
        told = client.get_object(Bucket=bucket, Key=f"a b/copy/{name}")
        assert told["Body"].read() == data
        assert float(told["Metadata"]["mtime"]) == times[name]
        expected = {"txt": "text/plain", "html": "text/html", "json": "application/json"}
        assert told["ContentType"] == expected.get(name.rpartition(".")[2], "application/octet-stream"), name
    seen = json.loads(rclone("lsjson", "-R", "--files-only", "--no-mimetype", f"far:{bucket}/a b/copy"))
    assert {one["Path"].translate(PICTURES): one["Size"] for one in seen} == {
        name: len(data) for name, data in files.items()
    }
    assert next(one["ModTime"] for one in seen if one["Path"] == "plain.txt").startswith("2009-02-13T23:31:30.25")


def test_boto3_reads_the_type_and_metadata_we_keep(bucket: str, storage: StorageManager, client: Any) -> None:
    for name, data in {"f": b"small", "large": payload(LARGE)}.items():
        node = storage.node(f"memory:d/{name}")
        node.write_bytes(data, content_type="text/x-own", metadata={"colour": "red", "of": "caf\u00e9"}, mtime=MTIME)
    storage.node("memory:d").copy_to("s3:d")
    for name in ("f", "large"):
        told = client.get_object(Bucket=bucket, Key=f"d/{name}")
        assert told["Body"].read() == storage.node(f"memory:d/{name}").read_bytes()
        assert told["ContentType"] == "text/x-own"
        assert told["Metadata"]["colour"] == "red"
        assert float(told["Metadata"]["mtime"]) == MTIME
        assert set(told["Metadata"]) == {"colour", "of", "mtime"}


def test_what_rclone_uploaded_comes_down_identical(
    bucket: str, storage: StorageManager, rclone: Callable[..., str], client: Any, tmp_path: Path
) -> None:
    files = tree()
    here = written(tmp_path / "here", files)
    rclone("copy", str(here), f"far:{bucket}/from/rclone")
    rclone("check", "--download", str(here), f"far:{bucket}/from/rclone")
    told = [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert {key.removeprefix("from/rclone/") for key in told} == set(files)
    report = storage.copy("s3:from/rclone", "files:back")
    assert (report.files_copied, report.ok) == (len(files), True)
    assert facts(tmp_path / "back") == facts(here)
    rclone("check", "--download", str(tmp_path / "back"), f"far:{bucket}/from/rclone")
    again = storage.sync("s3:from/rclone", "files:back")
    assert (again.files_copied, again.files_skipped) == (0, len(files))
    assert storage.compare("files:here", "s3:from/rclone").same == len(files)


def test_what_boto3_uploaded_comes_down_identical(
    bucket: str, storage: StorageManager, client: Any, tmp_path: Path
) -> None:
    files = tree()
    here = written(tmp_path / "here", files)
    extra = {"ContentType": "text/x-theirs", "Metadata": {"colour": "red", "mtime": repr(MTIME)}}
    for name in files:
        client.upload_file(str(here / name), bucket, f"from boto3/{name}", ExtraArgs=extra)
    assert storage.copy("s3:from boto3", "files:back").files_copied == len(files)
    assert facts(tmp_path / "back") == {name: (digest, MTIME) for name, (digest, _) in facts(here).items()}
    assert storage.copy("s3:from boto3", "memory:back").files_copied == len(files)
    for name, data in files.items():
        node = storage.node("memory:back", name)
        assert node.read_bytes() == data
        assert (node.stat().content_type, node.get_metadata()["colour"]) == ("text/x-theirs", "red")
        assert node.mtime == MTIME
