"""The Python programs that benchmarks/transfer.py times, ours among them: one process does one piece of work.

`python benchmarks/programs.py PROGRAM WORK WIDTH SOURCE TARGET` with WORK one of up, down, copy, sync; a place in S3 is
`s3:prefix`. Bucket, endpoint and credentials come from the environment, as BENCH_BUCKET and the AWS_ variables.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BUCKET = os.environ.get("BENCH_BUCKET", "")
ENDPOINT = os.environ.get("AWS_ENDPOINT_URL", "")
KEYS = {"key": os.environ.get("AWS_ACCESS_KEY_ID", ""), "secret": os.environ.get("AWS_SECRET_ACCESS_KEY", "")}
CHUNK = 1 << 20


def in_threads(width: int, items: list[Any], work: Callable[[Any], object]) -> None:
    """`work` on each, by so many threads; the first error ends the process."""
    left = iter(items)
    lock, failures = threading.Lock(), []

    def run() -> None:
        while not failures:
            with lock:
                item = next(left, None)
            if item is None:
                return
            try:
                work(item)
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def files_below(folder: str) -> list[str]:
    """The relative paths of all files, or the one empty path if it is a file itself."""
    if os.path.isfile(folder):
        return [""]
    return [os.path.relpath(os.path.join(base, name), folder) for base, _, names in os.walk(folder) for name in names]


def joined(base: str, below: str) -> str:
    return f"{base}/{below}" if below else base


def prefix(place: str) -> str:
    return place.removeprefix("s3:")


# --- ours ---


def genro(work: str, width: int, source: str, target: str) -> None:
    from genro_storage import StorageManager

    options: dict[str, Any] = {"errors": "stop"}
    if width:
        options["concurrency"] = width
    mounts = [{"name": "disk", "type": "local", "path": "/"}]
    if work != "local":
        bucket = {"name": "s3", "type": "s3", "bucket": BUCKET, "endpoint": ENDPOINT, "region": "us-east-1"}
        mounts.append(bucket | {"access_key": KEYS["key"], "secret_key": KEYS["secret"]})
    with StorageManager(mounts) as storage:
        move = storage.sync if work == "sync" else storage.copy
        report = move(_ours(source), _ours(target), **options)
        if not report.ok:
            raise SystemExit(str(report))


def _ours(place: str) -> str:
    return place if place.startswith("s3:") else f"disk:{os.path.abspath(place).lstrip('/')}"


# --- obstore, bare: what our accelerator could do at the most, without listing twice, proof or report ---


def obstore(work: str, width: int, source: str, target: str) -> None:
    import obstore as obs
    from obstore.store import S3Store

    store = S3Store(BUCKET, endpoint=ENDPOINT, region="us-east-1", client_options={"allow_http": True})
    if work == "up":

        def send(below: str) -> None:
            with open(joined(source, below) if below else source, "rb") as file:
                if below:
                    obs.put(store, joined(prefix(target), below), file.read())
                else:
                    obs.put(store, prefix(target), file, chunk_size=8 << 20, max_concurrency=4)

        in_threads(width, files_below(source), send)
        return
    if source.endswith(".bin"):  # a listing of obstore does not show the very key it is asked for
        found = [prefix(source)]
        size = int(obs.head(store, found[0])["size"])
        ranges = [(start, min(start + (8 << 20), size)) for start in range(0, size, 8 << 20)]
        with open(target, "wb") as file:
            place = file.fileno()
            in_threads(
                4, ranges, lambda r: os.pwrite(place, obs.get_range(store, found[0], start=r[0], end=r[1]), r[0])
            )
        return
    found = [entry["path"] for page in obs.list(store, prefix(source)) for entry in page]
    made = {os.path.dirname(_landing(key, source, target)) for key in found}
    for folder in made:
        os.makedirs(folder, exist_ok=True)

    def fetch(key: str) -> None:
        with open(_landing(key, source, target), "wb") as file:
            file.write(obs.get(store, key).bytes())

    in_threads(width, found, fetch)


def _landing(key: str, source: str, target: str) -> str:
    return joined(target, key[len(prefix(source)) + 1 :])


# --- the others ---


def _s3_client(width: int) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client("s3", region_name="us-east-1", config=Config(max_pool_connections=max(10, width)))


def boto3_(work: str, width: int, source: str, target: str) -> None:
    from boto3.s3.transfer import TransferConfig

    client = _s3_client(width)
    if work == "up":
        found = files_below(source)
        config = TransferConfig(use_threads=len(found) == 1)
        send = lambda below: client.upload_file(  # noqa: E731
            joined(source, below), BUCKET, joined(prefix(target), below), Config=config
        )
        in_threads(width if len(found) > 1 else 1, found, send)
        return
    keys = list(_keys(client, prefix(source)))
    if keys == [prefix(source)]:
        client.download_file(BUCKET, keys[0], target)
        return
    for folder in {os.path.dirname(_landing(key, source, target)) for key in keys}:
        os.makedirs(folder, exist_ok=True)
    config = TransferConfig(use_threads=False)
    in_threads(width, keys, lambda key: client.download_file(BUCKET, key, _landing(key, source, target), Config=config))


def _keys(client: Any, prefix: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for entry in page.get("Contents", ()):
            yield entry["Key"]


def s3fs(work: str, width: int, source: str, target: str) -> None:
    from s3fs import S3FileSystem

    fs = S3FileSystem(endpoint_url=ENDPOINT, max_concurrency=8)
    if work == "up":
        fs.put(source, f"{BUCKET}/{prefix(target)}", recursive=os.path.isdir(source), batch_size=width)
    else:
        single = fs.isfile(f"{BUCKET}/{prefix(source)}")
        fs.get(f"{BUCKET}/{prefix(source)}", target, recursive=not single, batch_size=width)


def smart_open(work: str, width: int, source: str, target: str) -> None:
    import smart_open as so

    client = _s3_client(width)
    given = {"client": client}

    def pump(one: str, other: str) -> None:
        if not other.startswith("s3://"):
            os.makedirs(os.path.dirname(other), exist_ok=True)
        with (
            so.open(one, "rb", transport_params=given) as reader,
            so.open(other, "wb", transport_params=given) as writer,
        ):
            while data := reader.read(CHUNK):
                writer.write(data)

    if work == "up":
        url = f"s3://{BUCKET}/{prefix(target)}"
        in_threads(width, files_below(source), lambda below: pump(joined(source, below), joined(url, below)))
    else:
        keys = list(_keys(client, prefix(source)))
        goal = (lambda key: target) if keys == [prefix(source)] else (lambda key: _landing(key, source, target))
        in_threads(width, keys, lambda key: pump(f"s3://{BUCKET}/{key}", goal(key)))


def cloudpathlib(work: str, width: int, source: str, target: str) -> None:
    from cloudpathlib import S3Client

    client = S3Client(endpoint_url=ENDPOINT)
    if work == "up":
        root = client.CloudPath(f"s3://{BUCKET}/{prefix(target)}")
        send = lambda below: (root / below if below else root).upload_from(joined(source, below))  # noqa: E731
        in_threads(width, files_below(source), send)
        return
    root = client.CloudPath(f"s3://{BUCKET}/{prefix(source)}")
    if root.is_file():
        root.download_to(target)
        return
    found = [entry for entry in root.rglob("*") if entry.is_file()]
    landing = {entry: Path(target) / str(entry.relative_to(root)) for entry in found}
    for folder in {path.parent for path in landing.values()}:
        folder.mkdir(parents=True, exist_ok=True)
    in_threads(width, found, lambda entry: entry.download_to(landing[entry]))


def upath(work: str, width: int, source: str, target: str) -> None:
    from upath import UPath

    place = target if work == "up" else source
    root = UPath(f"s3://{BUCKET}/{prefix(place)}", endpoint_url=ENDPOINT)
    if work == "up":
        send = lambda below: (root / below if below else root).write_bytes(  # noqa: E731
            Path(joined(source, below)).read_bytes()
        )
        in_threads(width, files_below(source), send)
        return
    if root.is_file():
        Path(target).write_bytes(root.read_bytes())
        return
    found = [entry for entry in root.rglob("*") if entry.is_file()]
    for entry in found:
        (Path(target) / str(entry.relative_to(root))).parent.mkdir(parents=True, exist_ok=True)
    in_threads(
        width, found, lambda entry: (Path(target) / str(entry.relative_to(root))).write_bytes(entry.read_bytes())
    )


def shutil_(work: str, width: int, source: str, target: str) -> None:
    import shutil

    (shutil.copytree if os.path.isdir(source) else shutil.copy2)(source, target)


PROGRAMS = {
    "genro": genro,
    "obstore": obstore,
    "boto3": boto3_,
    "s3fs": s3fs,
    "smart_open": smart_open,
    "cloudpathlib": cloudpathlib,
    "upath": upath,
    "shutil": shutil_,
}

if __name__ == "__main__":
    name, work, width, source, target = sys.argv[1:]
    PROGRAMS[name](work, int(width), source, target)
