"""The cases about writing: atomic, exact, with all that was asked to be kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import ClassVar

import pytest

from ..backends.base import StorageBackend
from ..exceptions import (
    StorageCorruptedError,
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
)
from ..mount import Mount
from ..types import WriteOptions
from .conditions import Put, both_ways, by_writer
from .reading import Cases, entries, payload
from .suite import needs

NAMES = (
    *[
        "data*.txt",
        "report[1].txt",
        "what?.txt",
        "a b.txt",
        " lead",
        "trail ",
        "#hash",
        "100%",
        "%20",
        "%2F",
        "a&b",
        "a+b",
    ],
    *[
        "-dash",
        "--",
        "dot.",
        ".hidden",
        ".genropy",
        "...",
        "~",
        "~user",
        "$HOME",
        "${x}",
        "`id`",
        "'q'",
        '"q"',
        "<t>",
        "a|b",
    ],
    *[
        "a;b",
        "a:b",
        "a,b",
        "a=b",
        "{x,y}",
        "!x",
        "(x)",
        "caf\u00e9",
        "cafe\u0301",
        "\u65e5\u672c\u8a9e",
        "\U0001f600",
        "\u00a0",
    ],
    *["tab\there", "line\nbreak", "cr\rhere", "\x7f", "\x01", "[!a]", "[", "]", "*", "**", "?", "CON", "x" * 200],
)


class Writing(Cases):
    names: ClassVar[tuple[str, ...]] = NAMES

    # --- atomic ---

    def test_nothing_is_visible_before_commit(self, mount: Mount) -> None:
        writer = mount.writer("new.bin")
        for _ in range(5):
            writer.write(payload(2 * 1024 * 1024))
        assert not mount.exists("new.bin")
        assert entries(mount.scan("")) == []
        assert entries(mount.walk("")) == []
        with pytest.raises(StorageNotFoundError):
            mount.get("new.bin")
        writer.commit()
        assert [entry.path for entry in entries(mount.scan(""))] == ["new.bin"]

    @pytest.mark.parametrize("size", [10, 6 * 1024 * 1024])
    def test_old_bytes_stay_until_commit(self, mount: Mount, size: int) -> None:
        mount.put("f", b"old")
        writer = mount.writer("f")
        writer.write(payload(size))
        assert mount.get("f")[0] == b"old"
        with closing(mount.reader("f")) as reader:
            writer.commit()
            assert reader.read() in (b"old", payload(size))
        assert mount.get("f")[0] == payload(size)

    @pytest.mark.parametrize("size", [0, 10, 6 * 1024 * 1024])
    def test_discard(self, mount: Mount, size: int) -> None:
        """Old bytes stay, nothing new appears; again and again without a word; and no way back."""
        mount.put("f", b"old")
        for path in ("f", "g"):
            writer = mount.writer(path)
            writer.write(payload(size))
            writer.discard()
            writer.discard()
            with pytest.raises(StorageError):
                writer.commit()
        assert mount.get("f")[0] == b"old"
        assert [entry.path for entry in entries(mount.scan(""))] == ["f"]

    def test_discard_after_commit_does_nothing(self, mount: Mount) -> None:
        writer = mount.writer("f")
        writer.write(b"new")
        writer.commit()
        writer.discard()
        assert mount.get("f")[0] == b"new"

    @pytest.mark.parametrize(("announced", "given"), [(10, 9), (10, 11), (0, 1), (1, 0)])
    def test_announced_size_is_held(self, mount: Mount, announced: int, given: int) -> None:
        mount.put("f", b"old")
        writer = mount.writer("f", WriteOptions(size=announced))
        with pytest.raises(StorageCorruptedError):
            writer.write(payload(given))
            writer.commit()
        writer.discard()
        assert mount.get("f")[0] == b"old"

    def test_buffers_are_taken_over(self, mount: Mount) -> None:
        """Any bytes-like is written, and its memory is the caller's again as soon as write returns."""
        buffer = bytearray(100_000)
        writer = mount.writer("f")
        for value in (1, 2, 3):
            buffer[:] = bytes([value]) * len(buffer)
            writer.write(memoryview(buffer) if value == 2 else buffer)
        buffer[:] = bytes(len(buffer))
        writer.commit()
        whole = mount.get("f")[0] == b"\1" * 100_000 + b"\2" * 100_000 + b"\3" * 100_000
        assert whole  # told like this, a failure shows no difference of 300,000 bytes, which takes minutes
        mount.put("g", memoryview(b"abcdef")[2:4])
        mount.put("h", bytearray(b"xy"))
        assert (mount.get("g")[0], mount.get("h")[0]) == (b"cd", b"xy")

    @both_ways
    def test_replace(self, mount: Mount, write: Put) -> None:
        for data in (b"long" * 1000, b"short", b""):
            write(mount, "d/f", data, WriteOptions())
            assert mount.get("d/f")[0] == data
            assert mount.stat("d/f").size == len(data)

    # --- exact names ---

    def test_names_are_kept_exactly(self, mount: Mount) -> None:
        """R01: no name is a pattern, an escape or an option; NFC and NFD differ unless the storage folds them."""
        for number, name in enumerate(self.names):
            mount.put(f"dir/{name}", name.encode() + b"%d" % number)
        for number, name in enumerate(self.names):
            assert mount.get(f"dir/{name}")[0] == name.encode() + b"%d" % number
            assert mount.stat(f"dir/{name}").path == f"dir/{name}"
        assert sorted(entry.path for entry in entries(mount.scan("dir"))) == sorted(
            f"dir/{name}" for name in self.names
        )
        for name in self.names:
            mount.put(f"dirs/{name}/{name}", b"1")
        listed = entries(mount.walk("dirs"))
        files = sorted(entry.path for entry in listed if not entry.is_dir)
        assert files == sorted(f"dirs/{name}/{name}" for name in self.names)

    @pytest.mark.parametrize("pattern", ["data*.txt", "report[1].txt", "what?.txt", "**", "{a,b}"])
    def test_delete_takes_exactly_one(self, mount: Mount, pattern: str) -> None:
        """R01: what a glob of that name would also match stays."""
        others = {"data1.txt", "data.txt", "report1.txt", "whats.txt", "a", "b", "x", f"{pattern}x", f"{pattern}.bak"}
        for name in {*others, pattern}:
            mount.put(f"d/{name}", b"1")
        mount.delete(f"d/{pattern}")
        assert {entry.path for entry in entries(mount.scan("d"))} == {f"d/{name}" for name in others}

    @needs("surrogates")
    def test_undecodable_names(self, mount: Mount) -> None:
        name = "d/caf\udce9.txt"
        mount.put(name, b"1")
        assert mount.get(name)[0] == b"1"
        mount.put("d/other", b"2")
        assert {entry.path for entry in entries(mount.scan("d"))} == {name, "d/other"}
        mount.delete(name)
        assert [entry.path for entry in entries(mount.scan("d"))] == ["d/other"]

    def test_longest_names(self, backend: StorageBackend, mount: Mount) -> None:
        """The stated limits hold a name of that length, and one byte more is refused before anything is written."""
        features = backend.features
        if features.max_segment is not None:
            name = "n" * (features.max_segment - 2) + "\u00e9"
            by_writer(mount, name, b"1")
            assert mount.get(name)[0] == b"1"
            with pytest.raises(StoragePathError):
                mount.put(f"{name}x", b"1")
        if features.max_key is not None:
            root = f"{backend.root}/" if backend.root else ""
            room = features.max_key - len(root.encode())
            key = "/".join(["k" * 99] * 60)[: room - 2].rstrip("/")
            key += "l" * (room - len(key))
            mount.put(key, b"1")
            assert mount.get(key)[0] == b"1"
            with pytest.raises(StoragePathError):
                mount.put(f"{key}x", b"1")

    # --- kinds in the way ---

    @needs("real_dirs")
    @both_ways
    def test_a_directory_is_not_overwritten(self, mount: Mount, write: Put) -> None:
        mount.put("d/x", b"1")
        with pytest.raises(StorageIsADirectoryError):
            write(mount, "d", b"2", WriteOptions())
        assert mount.get("d/x")[0] == b"1"

    @needs("real_dirs")
    @both_ways
    def test_nothing_is_written_below_a_file(self, mount: Mount, write: Put) -> None:
        mount.put("f", b"1")
        for path in ("f/x", "f/x/y"):
            with pytest.raises((StorageNotADirectoryError, StorageExistsError)):
                write(mount, path, b"2", WriteOptions())
        assert mount.get("f")[0] == b"1"

    @needs("implied_dirs")
    def test_file_and_directory_of_one_name(self, mount: Mount) -> None:
        mount.put("e", b"file")
        mount.put("e/f", b"below")
        assert mount.get("e")[0] == b"file"
        assert mount.is_file("e")
        assert mount.is_dir("e")
        listed = [(entry.path, entry.is_dir) for entry in entries(mount.scan(""))]
        assert sorted(listed) == [("e", False), ("e", True)]
        mount.delete("e")
        assert mount.get("e/f")[0] == b"below"

    # --- what is kept with the bytes ---

    @needs("content_type")
    @both_ways
    def test_content_type(self, mount: Mount, write: Put) -> None:
        write(mount, "f.bin", b"1", WriteOptions(content_type="text/x-strange; charset=utf-8"))
        assert mount.stat("f.bin").content_type == "text/x-strange; charset=utf-8"

    @needs("metadata")
    @both_ways
    def test_metadata(self, mount: Mount, write: Put) -> None:
        """Plain text in and out, whatever the wire makes of it; a new write starts anew."""
        given = {"key": "value", "with-dash_1.x": "two words", "name": "caf\u00e9 \u65e5\u672c"}
        write(mount, "f", b"1", WriteOptions(metadata=given, content_type="text/plain"))
        stat = mount.stat("f")
        assert dict(stat.metadata or {}) == given
        assert mount.get("f")[1].metadata == stat.metadata
        write(mount, "f", b"2", WriteOptions())
        assert not mount.stat("f").metadata

    @needs("keeps_mtime")
    @both_ways
    def test_mtime_is_kept(self, backend: StorageBackend, mount: Mount, write: Put) -> None:
        for mtime in (1_234_567_890.123456, 0.0, 1_900_000_000.5):
            write(mount, "d/f", b"1", WriteOptions(mtime=mtime))
            stat = mount.stat("d/f")
            assert stat.mtime == pytest.approx(mtime, abs=max(1e-6, backend.features.mtime_resolution or 0))
            assert (entries(mount.scan("d"))[0].mtime == stat.mtime) is backend.features.lists_mtime

    @needs("keeps_mode")
    @both_ways
    def test_mode_is_kept(self, mount: Mount, write: Put) -> None:
        for mode in (0o640, 0o755):
            write(mount, "f", b"1", WriteOptions(mode=mode))
            assert mount.stat("f").mode == mode

    @needs("set_mode")
    def test_set_mode(self, mount: Mount) -> None:
        mount.put("d/f", b"1")
        for mode in (0o600, 0o755):
            mount.use("set_mode", "d/f", mode)
            assert mount.stat("d/f").mode == mode
        assert mount.get("d/f")[0] == b"1"
        with pytest.raises(StorageNotFoundError):
            mount.use("set_mode", "d/absent", 0o600)

    @needs("set_mtime")
    def test_set_mtime(self, mount: Mount) -> None:
        mount.put("d/f", b"1")
        mount.set_mtime("d/f", 1_234_567_890.0)
        assert mount.stat("d/f").mtime == pytest.approx(1_234_567_890.0)
        assert mount.get("d/f")[0] == b"1"
        with pytest.raises(StorageNotFoundError):
            mount.set_mtime("d/absent", 1.0)

    # --- threads ---

    def test_threads(self, mount: Mount) -> None:
        """Sixteen threads on their own keys of one backend never meet."""

        def work(number: int) -> None:
            for turn in range(8):
                path, data = f"t/{number}/{turn % 3}", payload(500 + number, turn)
                mount.put(path, data)
                assert mount.get(path)[0] == data
                assert mount.stat(path).size == len(data)
                assert path in {entry.path for entry in entries(mount.scan(f"t/{number}"))}
                mount.delete(path)
                assert not mount.exists(path)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(16))) == [None] * 16
