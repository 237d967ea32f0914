"""`cat` and `hash`."""

from __future__ import annotations

import os
import re
import select
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..console import escaped, unescaped
from ..failures import DIFFERENT, OK, UsageError, common_code
from ..places import STREAM, name_of
from ..registry import Verb
from ..session import Session

if TYPE_CHECKING:
    from ...nodes import StorageNode

CHUNK = 1 << 20
DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128, "blake2b": 128, "crc32c": 8}


# --- cat ---


def _cat_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--range",
        metavar="A-B",
        type=byte_range,
        default=(0, None),
        help="bytes from A up to, not including, B; 'A-' to the end, '-N' the last N",
    )
    parser.add_argument("--version-id", metavar="ID", help="this version instead of the newest; of one file only")
    told = "the content of a compressed file: .gz .bz2 .xz .zst .lz4, by its name"
    parser.add_argument("--decompress", action="store_true", help=told)


def byte_range(text: str) -> tuple[int, int | None]:
    """[start, end) as ``A-B``, ``A-`` or ``-N``."""
    match = re.fullmatch(r"(\d*)-(\d*)", text)
    if not match or match[0] == "-":
        raise ArgumentTypeError(f"expected A-B, A- or -N in bytes, not {text!r}")
    if not match[1]:
        return (-int(match[2]), None) if int(match[2]) else (0, 0)
    start, end = int(match[1]), int(match[2]) if match[2] else None
    if end is not None and end < start:
        raise ArgumentTypeError(f"the range {text!r} ends before it begins")
    return start, end


def _cat(session: Session, options: Namespace) -> int:
    if options.version_id is not None and len(options.paths) > 1:
        raise UsageError("--version-id is of one file")
    if options.decompress and options.range != (0, None):
        raise UsageError("--range and --decompress do not go together: a range is of the bytes that are stored")

    def show(node: StorageNode) -> None:
        chosen = node if options.version_id is None else node.at(options.version_id)
        if options.decompress:
            decompress(chosen)
        else:
            pour(chosen, *options.range)

    return session.each(options.paths, show)


def decompress(node: StorageNode) -> None:
    """Writes what a compressed file holds to the standard output, in bounded memory."""
    from ...compression import SUFFIXES, algorithm

    packing = algorithm("infer", node.path)
    if packing is None:
        known = ", ".join(SUFFIXES)
        raise UsageError(f"'{name_of(node)}' does not end as a compressed file does ({known})")
    sys.stdout.flush()
    with node.open("rb", compression=packing) as file:
        while chunk := file.read(CHUNK):
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def pour(node: StorageNode, start: int = 0, end: int | None = None) -> None:
    """Writes a file to the standard output, in bounded memory."""
    sys.stdout.flush()
    reader = node.mount.reader(node.path, start, end, version=node.version)
    try:
        while chunk := reader.read(CHUNK):
            sys.stdout.buffer.write(chunk)
    finally:
        reader.close()
    sys.stdout.buffer.flush()


def standard_input() -> Iterator[bytes]:
    """What arrives at the standard input, as it arrives.

    Never in a read that blocks: a signal that came just before it would not be heard until the read ends.
    """
    if sys.stdin is None:
        raise UsageError("there is no standard input")
    descriptor = sys.stdin.fileno()
    arrived = select.poll()  # select() knows no descriptor above 1023
    arrived.register(descriptor, select.POLLIN)
    while True:
        while not arrived.poll(500):
            pass
        if not (chunk := os.read(descriptor, CHUNK)):
            return
        yield chunk


# --- hash ---


def _hash_options(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.usage}\n{'':7}{parser.prog} [options] --check FILE"
    parser.add_argument("--algorithm", choices=tuple(DIGITS), default="sha256", help="default: sha256")
    parser.add_argument("--check", metavar="FILE", help="compare with the lines of FILE, as this command prints them")


def _hash(session: Session, options: Namespace) -> int:
    algorithm = options.algorithm
    if options.check is not None:
        if options.paths:
            raise UsageError("--check takes the paths from its file; give no others")
        return _check(session, options.check, algorithm)
    if not options.paths:
        raise UsageError("expected PATH…, or --check FILE")

    def show(text: str) -> None:
        digest, name = session.places.node(text).hash(algorithm), escaped(text)
        mark = "" if name == text else "\\"  # as GNU does: this line's name has escapes
        session.console.result(f"{mark}{digest}  {name}", {"path": text, "algorithm": algorithm, "hash": digest})

    return common_code({session.attempt(partial(show, text)) for text in options.paths})


def _check(session: Session, file: str, algorithm: str) -> int:
    """Each line `OK` or `FAILED`; what cannot be read is an error of its own."""
    text = b"".join(standard_input()) if file == STREAM else session.places.node(file).read_bytes()
    expected = [_expected(line, number, file, algorithm) for number, line in enumerate(text.splitlines(), 1) if line]
    if not expected:
        raise UsageError(f"{file} holds no lines of hashes")

    def compare(digest: str, name: str) -> int:
        same = session.places.node(name).hash(algorithm) == digest
        if not (same and session.console.quiet):
            session.console.result(f"{escaped(name)}: {'OK' if same else 'FAILED'}", {"path": name, "ok": same})
        return OK if same else DIFFERENT

    return common_code({session.attempt(partial(compare, *one)) for one in expected})


def _expected(line: bytes, number: int, file: str, algorithm: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\\?)([0-9a-fA-F]+) [ *](.+)", line.decode("utf-8", "surrogateescape"), re.DOTALL)
    if not match or len(match[2]) != DIGITS[algorithm]:
        raise UsageError(f"{file}, line {number}: not '{algorithm} in hex, two spaces, path'; see --algorithm")
    return match[2].lower(), unescaped(match[3]) if match[1] else match[3]


VERBS = {
    "cat": Verb("PATH…", 1, _cat_options, _cat),
    "hash": Verb("PATH…", 0, _hash_options, _hash),
}
