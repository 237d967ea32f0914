"""Compression of one stream: by name or by a file's suffix, in ordinary formats that other tools read."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from .exceptions import StorageCorruptedError, StorageDriverError, StorageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from .backends.base import BackendWriter
    from .types import Stat

SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}
ALGORITHMS = tuple(SUFFIXES.values())
_PACKAGES = {"zstd": ("zstandard", "genro-storage[zstd]"), "lz4": ("lz4.frame", "lz4")}


class Compressor(Protocol):
    """Bytes in, fewer bytes out."""

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes: ...
    def flush(self) -> bytes: ...


def algorithm(name: str | None, path: str) -> str | None:
    """What `compression=` means for a path: ``"infer"`` goes by its suffix; an unknown name is a `ValueError`."""
    if name == "infer":
        return next((found for suffix, found in SUFFIXES.items() if path.lower().endswith(suffix)), None)
    if name is not None and name not in ALGORITHMS:
        raise ValueError(f"compression is None, 'infer', {', '.join(map(repr, ALGORITHMS))}, not {name!r}")
    return name


def _package(name: str) -> Any:
    module, remedy = _PACKAGES[name]
    try:
        return import_module(module)
    except ImportError as error:
        raise StorageDriverError(f"compression '{name}' needs '{module}': pip install '{remedy}'") from error


def compressor(name: str) -> Compressor:
    """A new stream of one format, at its own default level."""
    if name == "gzip":
        import zlib

        return zlib.compressobj(wbits=31)
    if name == "bz2":
        import bz2

        return bz2.BZ2Compressor()
    if name == "xz":
        import lzma

        return lzma.LZMACompressor()
    if name == "zstd":
        made: Compressor = _package("zstd").ZstdCompressor().compressobj()
        return made
    return _Lz4(_package("lz4").LZ4FrameCompressor())


class _Lz4:
    """lz4's compressor, which wants to be told that it begins."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._head: bytes = frame.begin()

    def compress(self, data: bytes | bytearray | memoryview, /) -> bytes:
        head, self._head = self._head, b""
        return head + bytes(self._frame.compress(bytes(data)))

    def flush(self) -> bytes:
        return self.compress(b"") + bytes(self._frame.flush())


class CompressedWriter:
    """A backend writer that compresses on its way."""

    def __init__(self, writer: BackendWriter, name: str) -> None:
        self._writer = writer
        self._compressor = compressor(name)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if smaller := self._compressor.compress(data):
            self._writer.write(smaller)

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._writer.write(self._compressor.flush())
        return self._writer.commit()

    def discard(self) -> None:
        self._writer.discard()


def decompressed(file: BinaryIO, name: str) -> io.BufferedReader:
    """The plain bytes of a compressed file, which is closed with them; damage is a `StorageCorruptedError`."""
    return io.BufferedReader(_Decompressed(_opened(file, name), file), 1 << 17)


def _opened(file: BinaryIO, name: str) -> Any:
    if name == "zstd":
        return _Zstd(file, _package("zstd").ZstdDecompressor())
    if name == "lz4":
        return _package("lz4").LZ4FrameFile(file)
    if name == "gzip":
        import gzip

        return gzip.GzipFile(fileobj=file)
    if name == "bz2":
        import bz2

        return bz2.BZ2File(file)
    import lzma

    return lzma.LZMAFile(file)


class _Zstd:
    """Frames of zstd one after the other; unlike the library's own reader it tells one that ends too early."""

    def __init__(self, file: BinaryIO, decompressor: Any) -> None:
        self._file, self._decompressor = file, decompressor
        self._frame: Any = None
        self._plain = b""
        self._position = 0

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        while not self._plain and (packed := self._packed()):
            self._plain = self._frame.decompress(packed)
        taken, self._plain = self._plain[:size], self._plain[size:]
        self._position += len(taken)
        return taken

    def _packed(self) -> bytes:
        """The next compressed bytes, for the frame they belong to; b"" at the end of the last one."""
        done = self._frame is None or self._frame.eof
        packed = (self._frame.unused_data if done and self._frame else b"") or self._file.read(1 << 17)
        if not packed and not done:
            raise EOFError("it ends too early")
        if packed and done:
            self._frame = self._decompressor.decompressobj()
        return packed

    def close(self) -> None:
        self._plain = b""


class _Decompressed(io.RawIOBase):
    def __init__(self, plain: Any, file: BinaryIO) -> None:
        self._plain, self._file = plain, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._plain.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._plain.seek(offset, whence))

    def tell(self) -> int:
        return int(self._plain.tell())

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:
            data = self._plain.read(len(view))
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # each library tells damage in its own way; an error of the file has a number
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise StorageCorruptedError(f"the compressed data is damaged ({error})") from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._plain.close()
            self._file.close()
