"""`open`: real `io` objects for every mode."""

from __future__ import annotations

import io
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..backends.base import BackendWriter
from ..compression import CompressedWriter, algorithm, decompressed
from ..exceptions import StorageNotFoundError, UnsupportedOperation
from ..streams import READ_AHEAD, BinaryWriter, RawEditor, RawReader, TextWriter
from . import content, versions
from .versions import Which

if TYPE_CHECKING:
    from ..nodes import StorageNode


class Text(NamedTuple):
    """How bytes become text; None is UTF-8, strict, any line end."""

    encoding: str | None = None
    errors: str | None = None
    newline: str | None = None

    def wrapped(self, file: Any) -> io.TextIOWrapper:
        """A text file over a binary one."""
        encoding, errors = self.encoding or "utf-8", self.errors or "strict"
        if hasattr(file, "abandon"):  # what is written becomes the content in one step
            return TextWriter(file, encoding, errors, self.newline)
        return io.TextIOWrapper(file, encoding, errors, self.newline)


def open_file(
    node: StorageNode, mode: str, buffering: int, text: Text, compression: str | None, options: dict[str, Any]
) -> IO[Any]:
    """A file object for `mode`; see `StorageNode.open`."""
    kind, binary, plus = _parsed(mode)
    if binary and text != Text():
        raise ValueError("binary mode takes no encoding, errors or newline")
    packing = algorithm(compression, node.path)
    if packing and (plus or kind == "a"):
        raise ValueError(f"mode {mode!r} cannot be used on compressed data; use 'r', 'w' or 'x'")
    if kind == "r" and not plus:
        if any(options.values()):
            raise ValueError(f"{', '.join(key for key, value in options.items() if value)}: only for writing")
        file = _reading(node, buffering if binary and not packing else -1)
        file = decompressed(file, packing) if packing else file
    else:
        file = _editing(node, kind, plus, options) if plus else _writing(node, kind, options, packing)
    return file if binary else text.wrapped(file)


def open_version(
    node: StorageNode, mode: str, which: Which | None, as_of: datetime | float | None, **text: Any
) -> IO[Any]:
    """One version for reading; the past is not written."""
    if _parsed(mode)[0] != "r" or "+" in mode:
        raise UnsupportedOperation(
            f"Cannot write to historical versions: '{node.fullpath}'",
            operation="open", mount=node.mount_name, path=node.path,
        )  # fmt: skip
    return versions.at(node, which, as_of).open(mode, **text)


def _parsed(mode: str) -> tuple[str, bool, bool]:
    if not isinstance(mode, str):
        raise TypeError(f"mode is a str, not {type(mode).__name__}")
    kinds = [char for char in mode if char in "rwxa"]
    rest = sorted(char for char in mode if char not in "rwxa")
    if len(kinds) != 1 or len(set(rest)) != len(rest) or set(rest) - set("tb+") or {"t", "b"} <= set(rest):
        raise ValueError(f"invalid mode: {mode!r}")
    return kinds[0], "b" in rest, "+" in rest


def _reading(node: StorageNode, buffering: int) -> Any:
    mount, path, version = node.mount, node.path, node.version
    raw = RawReader(lambda start, end, etag: mount.reader(path, start, end, version=version, if_match=etag))
    return raw if buffering == 0 else io.BufferedReader(raw, buffering if buffering > 1 else READ_AHEAD)


def _writing(node: StorageNode, kind: str, options: dict[str, Any], packing: str | None) -> io.BufferedWriter:
    mount = node.mount
    if kind == "a":
        if mount.can("edit") and not any(options.values()):
            content.refuse_snapshot(node)
            return io.BufferedWriter(RawEditor(mount.edit(node.path, "a"), reads=False))
        return _appending(node, options)
    how = content.options_for(node, **{**options, "if_absent": options["if_absent"] or kind == "x"})
    if kind == "x" and node.exists:  # tells at once; the commit decides
        raise node.already_exists()
    writer: BackendWriter = mount.writer(node.path, how)
    return BinaryWriter(CompressedWriter(writer, packing) if packing else writer, node.fullpath)


def _appending(node: StorageNode, options: dict[str, Any]) -> BinaryWriter:
    """Old and new bytes as a new object, on condition that the old ones are still there."""
    mount, features = node.mount, node.mount.features
    try:
        reader = mount.reader(node.path)
    except StorageNotFoundError:
        absent = features.if_absent != "none"
        return BinaryWriter(
            mount.writer(node.path, content.options_for(node, **{**options, "if_absent": absent})), node.fullpath
        )
    try:
        etag = reader.stat.etag if features.if_match != "none" else None
        how = content.options_for(
            node, **{"content_type": reader.stat.content_type, **options, "if_match": options["if_match"] or etag}
        )
        file = BinaryWriter(mount.writer(node.path, how), node.fullpath)
        try:
            while chunk := reader.read(content.CHUNK):
                file.write(chunk)
        except BaseException:
            file.discard()
            raise
        return file
    finally:
        reader.close()


def _editing(node: StorageNode, kind: str, plus: bool, options: dict[str, Any]) -> Any:
    mount = node.mount
    content.refuse_snapshot(node)
    if not mount.can("edit"):
        reason = f"this storage cannot change a file in place (mode '{kind}+'): '{node.fullpath}'"
        raise UnsupportedOperation(reason, operation="open", mount=node.mount_name, path=node.path)
    if kind in "wx":
        how = {**options, "if_absent": options["if_absent"] or kind == "x"}
        content.options_for(node, **how)
        mount.judge(node.path, "open")
        if kind == "x" and node.exists:
            raise node.already_exists()
        from .staged import StagedFile  # loads tempfile, and that shutil with every compression

        return StagedFile(node, how)
    return io.BufferedRandom(RawEditor(mount.edit(node.path, kind + "+"), reads=True))
