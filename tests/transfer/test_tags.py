"""T30: tags go along if they are asked for."""

from __future__ import annotations

import pytest

from genro_storage import transfer
from genro_storage.backends.memory import MemoryBackend, MemoryOptions
from genro_storage.mount import Mount

from .trees import at


def tagged_mount(name: str) -> Mount:
    return Mount(name, MemoryBackend(MemoryOptions(metadata=True)))


@pytest.mark.parametrize("size", [1, 2 << 20])
def test_t30_tags_if_asked(local: Mount, size: int) -> None:
    here, there = tagged_mount("s"), tagged_mount("t")
    here.put("d/f", b"x" * size)
    here.backend.set_tags("d/f", {"colour": "red"})
    for server_side, preserve in ((False, ["tags"]), (False, ["mtime"]), (True, ["tags"])):
        report = transfer.copy(at(here, "d"), at(there, "e"), preserve=preserve, server_side=server_side)
        kept = there.backend.get_tags("e/f")
        assert kept == ({"colour": "red"} if "tags" in preserve else {})
        assert report.warnings == []
        there.delete("e/f")
    report = transfer.copy(at(here, "d"), at(local, "e"), preserve=["tags"])
    assert len(report.warnings) == 1
    assert "tags" in report.warnings[0]
    assert transfer.copy(at(here, "d"), at(local, "e")).warnings == []


def test_server_side_false_takes_the_bytes_through_this_process(local: Mount) -> None:
    here = tagged_mount("s")
    for mount in (here, local):
        mount.put("d/f", b"x" * 3_000_000)
        for server_side in (True, False):
            report = transfer.copy(at(mount, "d"), at(mount, f"e{server_side}"), server_side=server_side)
            assert report.bytes_server_side == (3_000_000 if server_side else 0)
            assert mount.get(f"e{server_side}/f")[0] == b"x" * 3_000_000
