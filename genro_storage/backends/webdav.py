"""A WebDAV server: files that appear whole, by a temporary name and a MOVE."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from io import BytesIO
from typing import IO, ClassVar
from urllib.parse import unquote, urlsplit

import httpx

from ..exceptions import (
    StorageError,
    StorageExistsError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotEmptyError,
    StorageNotFoundError,
    StoragePathError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, Stat, Unfinished, WriteOptions
from ._dav import FACTS, DavWriter, Member, failures, members
from ._http import HttpStorage, PasswordKeys
from ._leftovers import HIDDEN, leftovers
from .base import BackendReader, BytesReader, StorageBackend, Tick, check_size, conflict, no_version, order
from .options import Context, Url

CHUNK = 1 << 20
ODD = "?;\t\n\r"
"""What some servers do not take for a part of the name, in the target of a MOVE."""


class WebDavOptions(PasswordKeys, frozen=True, kw_only=True):
    """`url`: the server's address of the files; the mount begins at `path` below it."""

    url: Url


class WebDavBackend(HttpStorage):
    """A directory of a WebDAV server."""

    Options = WebDavOptions
    options: WebDavOptions
    aliases: ClassVar[Mapping[str, str]] = {"base_path": "path", "verify_ssl": "verify_tls"}
    features = Features(ordered=True, if_absent="advisory", if_match="advisory", mtime_resolution=1.0)

    def __init__(self, options: WebDavOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context, options.url)
        self._traits: dict[str, bool] = {}  # what was found of the server; shared by rooted twins

    # --- facts and listings ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        try:
            return next(self._members(path, 0)).stat(path)
        except StorageNotFoundError:
            if path:
                raise
            return Stat("", is_dir=True)  # a mount's root is there, and nothing may be in it yet

    def _members(self, path: str, depth: int) -> Iterator[Member]:
        """What is at `path`, then (depth 1) what is directly below it."""
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        with self.ask("PROPFIND", self.url(path), headers, content=FACTS) as answer:
            if answer.status_code != 207:
                raise StorageError(f"this is no WebDAV server: it answers PROPFIND with {answer.status_code}")
            answer.read()
            here = unquote(answer.url.path, errors="surrogateescape").rstrip("/")
            found = list(members(answer.content))
        own = next((member for member in found if member.place == here), None) or (found[0] if found else None)
        if own is None:
            raise StorageError("the server's answer tells of nothing")
        yield own
        yield from (member for member in found if member.place.rpartition("/")[0] == own.place)

    def _there(self, path: str) -> Stat | None:
        try:
            return self.stat(path)
        except FileNotFoundError:
            return None

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        try:
            own, *below = self._members(path, 1)
        except StorageNotFoundError:
            if path:
                raise
            yield []
            return
        if not own.is_dir:
            raise StorageNotADirectoryError("Not a directory")
        prefix = f"{path}/" if path else ""
        found = {member.place: member.stat(prefix + member.place.rpartition("/")[2]) for member in below}
        least = after.encode("utf-8", "surrogateescape")
        yield [entry for entry in sorted(found.values(), key=order) if order(entry) > least][:limit]

    # --- reading ---

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        no_version(version)
        if end is not None and end <= start >= 0:
            stat = self._file(path)
            if if_match not in (None, stat.etag):
                raise conflict(str(if_match), stat.etag)
            return BytesReader(b"", stat)
        reader = self.open_range(path, self.url(path), start, end, if_match)
        try:
            if reader.stat.etag is None or (reader.stat.content_type or "").startswith("text/html"):
                self._file(path)  # a server may show a directory as a page
        except BaseException:
            reader.close()
            raise
        return reader

    def _file(self, path: str) -> Stat:
        stat = self.stat(path)
        if stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        return stat

    # --- writing ---

    def writer(self, path: str, options: WriteOptions = PLAIN) -> DavWriter:
        self._writable(path, options)
        return DavWriter(lambda data, size: self._store(path, data, size, options), options)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        self._writable(path, options)
        size = memoryview(data).nbytes
        check_size(options.size, size)
        return self._store(path, BytesIO(data), size, options)

    def _writable(self, path: str, options: WriteOptions = PLAIN) -> None:
        self.url(path)
        if not path:
            raise StorageIsADirectoryError("the root of a mount is a directory")

    def _store(self, path: str, data: IO[bytes], size: int, options: WriteOptions) -> Stat:
        """PUT under a name that nobody sees, then `_land`."""
        first = _beside(path)
        headers = {"Content-Length": str(size)}
        if options.content_type:
            headers["Content-Type"] = options.content_type
        try:
            self._make_way(path, lambda allow: self._change("PUT", first, headers, content=_chunks(data), allow=allow))
            self._land(first, path, options)
        except httpx.ConnectError:
            raise  # nothing came there
        except BaseException:
            self._forget(first)
            raise
        return Stat(path, size)

    def _land(self, first: str, path: str, options: WriteOptions) -> None:
        """Gives a file its name, in one step; replaces a file if no condition forbids it, a directory never."""
        first = self._judge_names(first, path)
        if options.if_match is not None:
            there = self._there(path)
            if there is None or there.etag != options.if_match:
                raise conflict(options.if_match, None if there is None else there.etag)
            held = {"Overwrite": "T", "If": f"<{urlsplit(self.url(path)).path}> ([{options.if_match}])"}
            self._change("MOVE", first, held, to=path)
        elif self._change("MOVE", first, {"Overwrite": "F"}, to=path, allow=(412,)) == 412:
            if options.if_absent:
                raise StorageExistsError("Already exists")
            there = self._there(path)
            if there is not None and there.is_dir:
                raise StorageIsADirectoryError("Is a directory")
            self._change("MOVE", first, {"Overwrite": "T"}, to=path)

    def _judge_names(self, first: str, path: str) -> str:
        """Where the temporary file is, after a try whether the server takes any target of a MOVE for what it says.

        WsgiDAV cuts it at ``?`` and ``;``, leaves line ends and tabs out, and would replace another file.
        """
        if not self._is_odd(path):
            return first
        if not self._traits:
            second = first + ODD
            moved = self._change("MOVE", first, {"Overwrite": "F"}, to=second, allow=range(400, 500))
            self._traits["exact"] = moved < 300 and self._there(second) is not None
            first = second if self._traits["exact"] else first
        if not self._traits["exact"]:
            raise StoragePathError("this server cannot write names with '?', ';', a tab or a line end")
        return first

    def _is_odd(self, path: str) -> bool:
        return any(mark in path or mark in self.root for mark in ODD)

    def _change(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = {},
        *,
        to: str | None = None,
        content: Iterator[bytes] | None = None,
        allow: Iterable[int] = (),
    ) -> int:
        """One request that changes something; its status."""
        headers = headers if to is None else {"Destination": self.url(to), **headers}
        with self.ask(method, self.url(path), headers, content=content, allow=allow) as answer:
            answer.read()
            if answer.status_code == 207 and (left := failures(answer.content)):
                raise StorageError(f"the server did it in part only ({left[0]})")
            return answer.status_code

    def _make_way(self, path: str, change: Callable[[Sequence[int]], int]) -> None:
        """`change`, and again with the directories above if they were missing."""
        if change((404, 409)) < 300:
            return
        top = copy(self)
        top.root = ""
        top._make_directories(f"{self.root}/{path}".strip("/").rpartition("/")[0])
        change(())

    def _make_directories(self, path: str) -> None:
        there = self._there(path)
        if there is None:
            self._make_directories(path.rpartition("/")[0])
            self._change("MKCOL", path, allow=(405,))  # somebody else may have been faster
        elif not there.is_dir:
            raise StorageNotADirectoryError("a directory above is a file")

    def _forget(self, first: str) -> None:
        for name in (first, first + ODD)[: 1 + bool(self._traits.get("exact"))]:
            try:
                self._change("DELETE", name, allow=(404,))
            except Exception:  # noqa: BLE001 - a driver call after another failed: that failure is told
                pass

    def unfinished(self, path: str, *, older_than: float) -> Iterator[Unfinished]:
        return leftovers(self, path, older_than)

    # --- removing and making ---

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        """The server would take a directory with all that is in it: the kind is asked first."""
        no_version(version)
        self._writable(path)
        stat = self._file(path)
        if if_match not in (None, stat.etag):
            raise conflict(str(if_match), stat.etag)
        self._change("DELETE", path, {} if if_match is None else {"If-Match": if_match})

    def mkdir(self, path: str) -> None:
        self._writable(path)
        status = self._change("MKCOL", path, allow=(404, 405, 409))
        if status < 300:
            return
        if self._there(path) is not None:
            raise StorageExistsError("Already exists")
        above = self._there(path.rpartition("/")[0])
        if above is not None and not above.is_dir:
            raise StorageNotADirectoryError("the directory above is a file")
        raise StorageNotFoundError("there is no directory above")

    def rmdir(self, path: str) -> None:
        self._writable(path)
        own, *below = self._members(path, 1)
        if not own.is_dir:
            raise StorageNotADirectoryError("Not a directory")
        if below:
            raise StorageNotEmptyError("Directory not empty")
        self._change("DELETE", f"{path}/")

    # --- by the server ---

    def copy_from(
        self,
        source: StorageBackend,
        source_path: str,
        path: str,
        options: WriteOptions = PLAIN,
        *,
        version: str | None = None,
        tick: Tick = lambda n: None,
    ) -> Stat:
        no_version(version)
        given = self._same_server(source)
        self._writable(path)
        stat = given._file(source_path)
        first = _beside(path)
        whole = {"Overwrite": "F", "Depth": "0", "Destination": self.url(first)}
        try:
            self._make_way(path, lambda allow: given._change("COPY", source_path, whole, allow=allow))
            tick(stat.size or 0)
            self._land(first, path, options)
        except BaseException:
            self._forget(first)
            raise
        return Stat(path, stat.size)

    def rename_from(self, source: StorageBackend, source_path: str, path: str, options: WriteOptions = PLAIN) -> Stat:
        given = self._same_server(source)
        self._writable(path)
        stat = given.stat(source_path)
        here, there = given.native_path(source_path), self.native_path(path)
        if options.if_match is not None or self._is_odd(path):
            raise UnsupportedOperation("the server cannot rename under this condition, or to this name")
        if here == there:
            return stat
        if stat.is_dir and there.startswith(f"{here}/"):
            raise StoragePathError("a directory cannot be moved into itself")
        move = {"Overwrite": "F", "Destination": self.url(path)}
        origin = f"{source_path}/" if stat.is_dir else source_path
        done: list[int] = []

        def change(allow: Sequence[int]) -> int:
            done.append(given._change("MOVE", origin, move, allow=(412, *allow)))
            return 200 if done[-1] == 412 else done[-1]

        self._make_way(path, change)
        if done[-1] == 412:
            self._replace(path, stat, options)
            given._change("MOVE", origin, {**move, "Overwrite": "F" if stat.is_dir else "T"})
        return Stat(path, stat.size, stat.is_dir)

    def _replace(self, path: str, by: Stat, options: WriteOptions) -> None:
        """Judges whether what is there may go; an empty directory goes here, a file with the MOVE."""
        if options.if_absent:
            raise StorageExistsError("Already exists")
        if by.is_dir:
            self.rmdir(path)
        else:
            self._file(path)

    def _same_server(self, source: StorageBackend) -> WebDavBackend:
        if not isinstance(source, WebDavBackend) or source.storage_id != self.storage_id:
            raise UnsupportedOperation("these two are not on one server, or not for one user")
        return source


def _beside(path: str) -> str:
    return f"{path.rpartition('/')[0]}/{HIDDEN}{secrets.token_hex(6)}".lstrip("/")


def _chunks(data: IO[bytes]) -> Iterator[bytes]:
    data.seek(0)
    while chunk := data.read(CHUNK):
        yield chunk
