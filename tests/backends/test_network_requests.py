"""Requests are counted, verb by verb; the pages of the types tell how many are expected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from genro_storage import StorageNode
from tests.backends.network import TABLE, Place, opened

PAGES = Path(__file__).parents[2] / "docs" / "backends"
MIB = 1 << 20

Act = Callable[[StorageNode], object]


def stream(node: StorageNode, size: int) -> None:
    node.write_from(iter([bytes(size)]))


def through(node: StorageNode, mode: str) -> None:
    with node.open(mode) as file:
        file.write(b"6") if mode == "ab" else file.read()


VERBS: dict[str, Act] = {
    "stat": lambda root: (root / "d/f").stat(),
    "size": lambda root: (root / "d/f").size,
    "mtime": lambda root: (root / "d/f").mtime,
    "exists": lambda root: (root / "d/f").exists,
    "exists of a directory": lambda root: (root / "d").exists,
    "exists of nothing": lambda root: (root / "d/absent").exists,
    "is_file": lambda root: (root / "d/f").is_file,
    "is_dir": lambda root: (root / "d").is_dir,
    "read_bytes": lambda root: (root / "d/f").read_bytes(),
    "read_bytes of a range": lambda root: (root / "d/f").read_bytes(1, 3),
    "read_bytes of the last bytes": lambda root: (root / "d/f").read_bytes(-2),
    "open to read": lambda root: through(root / "d/f", "rb"),
    "write_bytes": lambda root: (root / "d/new").write_bytes(b"1"),
    "write_bytes over a file": lambda root: (root / "d/f").write_bytes(b"1"),
    "write_bytes below a new directory": lambda root: (root / "new/f").write_bytes(b"1"),
    "write_bytes with if_absent": lambda root: (root / "d/new").write_bytes(b"1", if_absent=True),
    "write_bytes with mtime": lambda root: (root / "d/new").write_bytes(b"1", mtime=1e9),
    "a stream of 17 MiB": lambda root: stream(root / "d/new", 17 * MIB),
    "open to append": lambda root: through(root / "d/f", "ab"),
    "children": lambda root: (root / "d").children(),
    "iterdir": lambda root: list((root / "d").iterdir()),
    "scan": lambda root: list((root / "d").scan()),
    "scan of two levels": lambda root: list((root / "d").scan(recursive=True)),
    "walk of two levels": lambda root: list((root / "d").walk()),
    "mkdir": lambda root: (root / "made").mkdir(),
    "rmdir": lambda root: (root / "e").rmdir(),
    "unlink": lambda root: (root / "d/f").unlink(),
    "a rename by the server": lambda root: root.mount.rename_from(root.mount, "d/f", "d/new"),
    "a copy by the server": lambda root: root.mount.copy_from(root.mount, "d/f", "d/new"),
    "versions": lambda root: (root / "d/f").versions,
    "hash of md5": lambda root: (root / "d/f").hash("md5"),
    "hash of sha256": lambda root: (root / "d/f").hash("sha256"),
    "get_tags": lambda root: (root / "d/f").get_tags(),
    "set_tags": lambda root: (root / "d/f").set_tags({"a": "b"}),
    "set_metadata": lambda root: (root / "d/f").set_metadata({"a": "b"}),
    "touch with mtime": lambda root: (root / "d/f").touch(mtime=1e9),
    "sign": lambda root: (root / "d/f").sign("GET"),
    "url": lambda root: (root / "d/f").url(),
}


COUNTED = tuple(row for row in TABLE if row.type != "s3")
"""S3 has its own tables, in `test_s3_requests.py`."""
READING = {
    *("stat", "size", "mtime", "exists", "exists of a directory", "exists of nothing", "is_file", "is_dir"),
    *("read_bytes", "read_bytes of a range", "read_bytes of the last bytes", "open to read"),
    *("children", "iterdir", "scan", "scan of two levels", "walk of two levels"),
}
"""What every page tells."""
CHANGING = {
    *("write_bytes", "write_bytes over a file", "write_bytes below a new directory", "a stream of 17 MiB"),
    *("open to append", "mkdir", "rmdir", "unlink"),
}
"""What every page of a type that writes tells."""


def told(page: str) -> dict[str, Counter[str]]:
    """The table of a page, row by row: verb → requests by kind."""
    table = page.partition("\nRequests per verb\n")[2]
    found = {}
    for verbs, requests in re.findall(r"^   \* - (.*?)\n     - (.*?)$", table, re.DOTALL | re.MULTILINE)[1:]:
        counts = Counter({kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", requests)})
        assert counts or requests == "none"
        for verb in " ".join(verbs.replace("``", "").split()).split(", "):
            assert verb not in found
            found[verb] = counts
    return found


EXPECTED = {row.type: told((PAGES / f"{row.type}.rst").read_text()) for row in COUNTED}
CASES = [
    pytest.param(row, verb, counts, id=f"{row.type}-{verb}", marks=pytest.mark.server)
    for row in COUNTED
    for verb, counts in EXPECTED[row.type].items()
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row.type) for row in COUNTED])
def test_the_page_tells_all(row: type[Place]) -> None:
    verbs = set(EXPECTED[row.type])
    assert verbs <= set(VERBS)
    assert READING | (CHANGING if row.writes else set()) <= verbs


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from opened(request.param, request.getfixturevalue(request.param.fixture))


@pytest.mark.parametrize(("place", "verb", "expected"), CASES, indirect=["place"])
def test_requests(place: Place, verb: str, expected: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if place.writes:
        with place.mounted(place.port) as other:
            other.node("m:e").mkdir()
    with place.mounted(place.proxy_port) as manager:
        root = manager.node("m:")
        assert (root / "d/g").read_bytes() == b"6"  # connected, and has its token
        count = place.counting(monkeypatch)
        VERBS[verb](root)
        assert count() == expected
