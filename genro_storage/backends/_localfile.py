"""Files of the local file system, opened: facts, a reader, and a writer whose bytes appear in one step."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from ..exceptions import StorageError
from ..types import STEADY, Stat, WriteOptions
from . import _kernel
from ._nofollow import DIRECTORY, KIND, REGULAR
from .base import check_size, conflict

HIDDEN = ".genro-w-"
"""Begins the names of files being written; one whose last change is long ago was left by a killed process."""

_HAS_BIRTH = hasattr(os.stat_result, "st_birthtime")
_MOST = 0x7FFFF000  # what one read or write moves at most on Linux
NAMELESS = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd") else 0
"""How to open a directory to get a file in it that has no name yet; 0 where there are none."""
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS})


def described(path: str, st: os.stat_result, linked: bool = False) -> Stat:
    """What `os.stat` told about `path`; `linked`: a link stands there, and `st` is of what it leads to."""
    mode = st.st_mode
    kind = mode & KIND
    born: float | None = st.st_birthtime if _HAS_BIRTH else None  # type: ignore[attr-defined]
    if kind == REGULAR:
        return Stat(path, st.st_size, False, linked, st.st_mtime, born, etag(st), mode=mode & 0o7777)
    if kind == DIRECTORY:
        return Stat(path, None, True, linked, st.st_mtime, born, mode=mode & 0o7777)
    return Stat(path, None, False, linked, st.st_mtime, born, mode=mode & 0o7777, is_other=True)


def steady(stat: Stat, before: os.stat_result, after: os.stat_result) -> Stat:
    """`stat`, as `before` gave it, marked where `after` the bytes were read it was still so."""
    if after.st_mtime_ns != before.st_mtime_ns or after.st_size != before.st_size:
        return stat
    return Stat(stat.path, stat.size, False, False, stat.mtime, stat.created, stat.etag, None, STEADY, mode=stat.mode)


def etag(st: os.stat_result) -> str:
    """Changes with every replacement, and with every change in place that the clock of the file system can tell."""
    return f"{st.st_mtime_ns:x}-{st.st_size:x}-{st.st_ino:x}"


def nanoseconds(mtime: float) -> int:
    """POSIX seconds as the nanoseconds that `os.stat` shows as exactly this float again."""
    whole = int(mtime // 1)
    return whole * 1_000_000_000 + round((mtime - whole) * 1e9)


def read_exactly(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes from `offset`, fewer only at the end of the file."""
    data = os.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    while size > (have := sum(map(len, parts))) and (data := os.pread(fd, min(size - have, _MOST), offset + have)):
        parts.append(data)
    return b"".join(parts)


def read_all(fd: int, offset: int) -> bytes:
    """All from `offset` on, of a file that does not say how much that is."""
    parts = []
    while data := os.pread(fd, 1 << 16, offset):
        parts.append(data)
        offset += len(data)
    return b"".join(parts)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> int:
    """Writes all of it; returns how many bytes that were."""
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    written = os.write(fd, data)
    while written < size:
        written += os.write(fd, memoryview(data).cast("B")[written:])
    return size


def put_new(
    path: str,
    at: int | None,
    name: str,
    data: bytes | bytearray | memoryview,
    options: WriteOptions,
    mtime: int | None,
) -> Stat | None:
    """Writes a new file of default mode in the fewest steps there are: nameless, then linked.

    `mtime` in nanoseconds; that of the options is not looked at. None, and nothing changed, where something has the
    name already or the system has no nameless files.
    """
    try:
        if at is None:
            fd = os.open(name[: name.rfind("/") + 1], NAMELESS, 0o666)
        else:
            fd = os.open(".", NAMELESS, 0o666, dir_fd=at)
    except OSError as error:
        if error.errno in _NO_NAMELESS:
            return None
        raise
    try:
        written = write_all(fd, data)
        if options.size is not None:
            check_size(options.size, written)
        if mtime is not None:
            os.utime(fd, ns=(time.time_ns(), mtime))
        st = os.fstat(fd)
        _kernel.name_open_file(fd, name, at)
        return described(path, st)
    except FileExistsError:
        if options.if_absent:
            raise
        return None
    finally:
        os.close(fd)


def span(size: int, start: int, end: int | None) -> tuple[int, int | None]:
    """[start, end) within a file of `size` bytes; the end is unknown (None) for files of /proc, which all say 0."""
    if start < 0:
        start = max(0, size + start)
    if end is None:
        return start, size or None
    return start, min(end, size) if size else end


class LocalReader:
    """The bytes [start, end) of an open file, as far as its size was when it was opened."""

    def __init__(self, fd: int, stat: Stat, start: int, end: int | None) -> None:
        self.stat = stat
        self._fd = fd
        self._at, self._end = span(stat.size or 0, start, end)

    def read(self, size: int = -1) -> bytes:
        if self._fd < 0:
            raise ValueError("read of a closed reader")
        if self._end is not None:
            left = max(0, self._end - self._at)
            size = left if size < 0 else min(size, left)
        data = read_all(self._fd, self._at) if size < 0 else read_exactly(self._fd, size, self._at)
        self._at += len(data)
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class LocalWriter:
    """A file that nobody sees before `commit`: without a name where the system has such files, else a hidden one.

    Owns `at` from the start, the descriptor of the directory (None: `name` is an absolute path). `old`: what is there
    now and gives the new file its mode and owner. `mode`: of a file that replaces none, umask aside. `named`: a hidden
    name at once, the cheaper way to replace a file.
    """

    def __init__(
        self,
        path: str,
        at: int | None,
        name: str,
        options: WriteOptions,
        old: os.stat_result | None,
        *,
        mode: int | None = None,
        fsync: bool = False,
        named: bool = False,
    ) -> None:
        self._path, self._at, self._name, self._options, self._old = path, at, name, options, old
        self._mode = options.mode if options.mode is not None else old.st_mode & 0o777 if old is not None else mode
        self._fsync = fsync
        self._pid = os.getpid()
        self._size = 0
        self._hidden = ""
        self._ended = False
        self.fd = -1
        try:
            self.fd = self._born(named)
        except BaseException:
            self.discard()
            raise

    @property
    def new(self) -> bool:
        """Whether nothing was there when it was opened."""
        return self._old is None

    @property
    def _folder(self) -> str:
        return "." if self._at is not None else os.path.dirname(self._name)

    def _new_hidden(self) -> str:
        return os.path.join(os.path.dirname(self._name), f"{HIDDEN}{os.urandom(5).hex()}")

    def _born(self, named: bool) -> int:
        # Nobody may read what is to replace a private file before it has that file's mode.
        mode = 0o666 if self._mode is None else self._mode & 0o777
        if NAMELESS and not named:
            try:
                return os.open(self._folder, NAMELESS, mode, dir_fd=self._at)
            except OSError as error:
                if error.errno not in _NO_NAMELESS:
                    raise
        while True:
            hidden = self._new_hidden()
            try:
                fd = os.open(hidden, _CREATE, mode, dir_fd=self._at)
            except FileExistsError:
                continue
            self._hidden = hidden
            return fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        self._size += write_all(self.fd, data)

    def wrote(self, count: int) -> None:
        """Counts bytes that came into `fd` by another way."""
        self._size += count

    def holds(self, size: int) -> None:
        """The file has come to be `size` bytes by another way, and no longer is."""
        if os.fstat(self.fd).st_size != size:
            os.ftruncate(self.fd, size)
        self._size = size

    def commit(self, hashes: Mapping[str, str] = {}) -> Stat:
        self._check()
        check_size(self._options.size, self._size)
        expected = self._options.if_match
        if expected is None:
            st = self._publish(self._options.mtime)
        else:
            with locked(self._folder, self._at):
                check_match(self._name, self._at, expected)
                # The file system's clock may not tell two writes apart; among conditional writers the etag must.
                st = self._publish(time.time() if self._options.mtime is None else self._options.mtime)
        self._hidden = ""
        self.discard()
        return described(self._path, st)

    def _finished(self, mtime: float | None) -> os.stat_result:
        """Gives the file its owner, mode and time, and the disk if asked; returns its facts."""
        fd, old = self.fd, self._old
        st = os.fstat(fd)
        if old is not None and (old.st_uid, old.st_gid) != (st.st_uid, st.st_gid):
            _give(fd, old.st_uid, old.st_gid)
        changed = self._mode is not None and st.st_mode & 0o7777 != self._mode
        if changed:
            os.fchmod(fd, self._mode or 0)
        if mtime is not None:
            os.utime(fd, ns=(st.st_atime_ns, nanoseconds(mtime)))
            changed = True
        if self._fsync:
            os.fsync(fd)
        return os.fstat(fd) if changed else st

    def _publish(self, mtime: float | None) -> os.stat_result:
        st = self._finished(mtime)
        if self._hidden:
            self._close()  # a network file system may only say now that it could not write
        if self._options.if_absent:
            self._name_absent()
        elif self._hidden or self._old is not None or not self._named_first():
            self._replace()
        if self._fsync:
            self._sync_folder()
        return st

    def _named_first(self) -> bool:
        """Gives a nameless file its name, where nothing has it: the usual case of a new file."""
        try:
            _kernel.name_open_file(self.fd, self._name, self._at)
        except FileExistsError:
            return False
        return True

    def _replace(self) -> None:
        while not self._hidden:
            hidden = self._new_hidden()
            try:
                _kernel.name_open_file(self.fd, hidden, self._at)
            except FileExistsError:
                continue
            self._hidden = hidden
        os.rename(self._hidden, self._name, src_dir_fd=self._at, dst_dir_fd=self._at)

    def _name_absent(self) -> None:
        if self._hidden:
            _kernel.rename_absent(self._hidden, self._at, self._name, self._at)
        else:
            _kernel.name_open_file(self.fd, self._name, self._at)

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._at)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _check(self) -> None:
        if self.fd < 0:
            raise StorageError("this writer is finished; open another one")
        if self._pid != os.getpid():
            raise StorageError("this writer was opened before the process forked; open one of its own")

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def discard(self) -> None:
        if self._ended:
            return
        self._ended = True
        with suppress(OSError):
            self._close()
        if self._hidden and self._pid == os.getpid():
            with suppress(OSError):  # a hidden name that stays is swept by its age
                os.unlink(self._hidden, dir_fd=self._at)
        if self._at is not None:
            with suppress(OSError):
                os.close(self._at)

    __del__ = discard


def _give(fd: int, uid: int, gid: int) -> None:
    for owner in (uid, -1):
        try:
            return os.fchown(fd, owner, gid)
        except PermissionError:
            continue  # only as far as we are allowed
    return None


# --- conditions: advisory, among users of this library ---

_turn = threading.Lock()


def _new_turn() -> None:
    global _turn  # another thread of the parent may have held the old one
    _turn = threading.Lock()


os.register_at_fork(after_in_child=_new_turn)


@contextmanager
def locked(folder: str, at: int | None) -> Iterator[None]:
    """The turn to judge a condition and act on it in a directory, among the threads and processes that ask for it."""
    import fcntl

    with _turn:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                    raise  # else: a file system without locks, where the condition holds in this process
            yield
        finally:
            os.close(fd)


def check_match(name: str, at: int | None, expected: str) -> None:
    """Raises `StorageConflictError` unless the file there now has the etag `expected`."""
    try:
        found = etag(os.stat(name, dir_fd=at, follow_symlinks=False))
    except FileNotFoundError:
        raise conflict(expected, None) from None
    if found != expected:
        raise conflict(expected, found)
