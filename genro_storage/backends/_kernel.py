"""What the kernel does and `os` does not offer: open without links, rename without replacing, copy without reading."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable

CHUNK = 8 * 1024 * 1024

_ANY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC
_SYS_OPENAT2 = 437  # the same number on every architecture
_AT_FDCWD = -100
_RESOLVE_NO_SYMLINKS = 0x04
_HOW_ANY = struct.pack("QQQ", _ANY, 0, _RESOLVE_NO_SYMLINKS)
_HOW_DIRECTORY = struct.pack("QQQ", _ANY | os.O_DIRECTORY, 0, _RESOLVE_NO_SYMLINKS)
_AT_EMPTY_PATH = 0x1000
_RENAME_NOREPLACE = 1
_FICLONE = 0x40049409

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK})
_COPY_UNSUPPORTED = _UNSUPPORTED | {errno.EXDEV, errno.ENOTTY, errno.ENOTSOCK, errno.ETXTBSY}

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_libc = ctypes.CDLL(None, use_errno=True)
_linkat = _libc.linkat
_linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_names_by_descriptor = sys.platform.startswith("linux")
_syscall = ctypes.CDLL(None).syscall
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]


def open_directory(path: str) -> int:
    """A descriptor of a directory whose whole path holds no link; negative if that fails or this system cannot."""
    fd: int = _syscall(_SYS_OPENAT2, _AT_FDCWD, path.encode(_ENCODING, _ERRORS), _HOW_DIRECTORY, 24)
    return fd


def open_any(path: str) -> int:
    """As `open_directory`, of whatever is there, also a link itself; only its facts can be asked."""
    fd: int = _syscall(_SYS_OPENAT2, _AT_FDCWD, path.encode(_ENCODING, _ERRORS), _HOW_ANY, 24)
    return fd


def _no_openat2(path: str) -> int:
    return -1


if not sys.platform.startswith("linux") or (_probe := open_directory("/")) < 0:
    open_directory = open_any = _no_openat2
else:
    os.close(_probe)


def name_open_file(fd: int, name: str, at: int | None) -> None:
    """Gives an open file that has no name a name that nothing has; `FileExistsError` otherwise."""
    global _names_by_descriptor
    if _names_by_descriptor:
        if _linkat(fd, b"", _AT_FDCWD if at is None else at, name.encode(_ENCODING, _ERRORS), _AT_EMPTY_PATH) == 0:
            return
        if ctypes.get_errno() == errno.EEXIST:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    # `src_dir_fd` says nothing here (the source is absolute), but without it os.link would not follow.
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, dst_dir_fd=at, follow_symlinks=True)
    _names_by_descriptor = False  # an older Linux lets only root do it the short way


def rename_absent(source: str, source_fd: int | None, target: str, target_fd: int | None) -> None:
    """Renames a file or directory unless something has the new name: `FileExistsError` then, and nothing changed."""
    renameat2 = getattr(_libc, "renameat2", None)
    if renameat2 is not None:
        at = [_AT_FDCWD if fd is None else fd for fd in (source_fd, target_fd)]
        if (
            renameat2(
                at[0], source.encode(_ENCODING, _ERRORS), at[1], target.encode(_ENCODING, _ERRORS), _RENAME_NOREPLACE
            )
            == 0
        ):
            return
        number = ctypes.get_errno()
        if number not in _UNSUPPORTED:
            raise OSError(number, os.strerror(number))
    _link_and_unlink(source, source_fd, target, target_fd)


def _link_and_unlink(source: str, source_fd: int | None, target: str, target_fd: int | None) -> None:
    """The portable way: a hard link never replaces; for directories, which have none, a look before the rename."""
    if not is_directory(source, source_fd):
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(source, dir_fd=source_fd)
        return
    try:
        os.stat(target, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        # The worst race replaces a directory made empty at this very moment: rename refuses all else.
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def is_directory(name: str, at: int | None) -> bool:
    """Whether this very name, not what a link of that name leads to, is a directory."""
    return os.stat(name, dir_fd=at, follow_symlinks=False).st_mode & 0o170000 == 0o040000


def copy_bytes(source: int, target: int, size: int, tick: Callable[[int], object]) -> int:
    """Copies `size` bytes (0: until the end) between two open files by the cheapest way there is; returns the count.

    A shared extent where the file system has them, else inside the kernel, else by reading; holes stay holes. `tick`
    gets the bytes of each step.
    """
    if size and _reflink(source, target):
        copied = min(size, os.fstat(target).st_size)
        os.ftruncate(target, copied)  # the source may have grown since its size was asked
        tick(copied)
        return copied
    if not size:
        return _copy_span(source, target, 0, None, tick)
    if os.fstat(source).st_blocks * 512 < size and hasattr(os, "SEEK_DATA"):
        return _copy_extents(source, target, size, tick)
    return _copy_span(source, target, 0, size, tick)


def _copy_extents(source: int, target: int, size: int, tick: Callable[[int], object]) -> int:
    """As `copy_bytes`, of a file with holes: only what is between them is read."""
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        if start >= size:
            break
        end = min(size, os.lseek(source, start, os.SEEK_HOLE))
        copied = _copy_span(source, target, start, end, tick)
        if copied < end:
            return copied  # it was cut short meanwhile
    os.ftruncate(target, size)
    return size


def _copy_span(source: int, target: int, start: int, end: int | None, tick: Callable[[int], object]) -> int:
    """Copies [start, end), to the end of the file if None; returns where it ended."""
    at = start
    for step in (_copy_range, _send, _read_and_write):
        while end is None or at < end:
            try:
                moved = step(source, target, at, CHUNK if end is None else min(CHUNK, end - at))
            except OSError as error:
                if error.errno not in _COPY_UNSUPPORTED or step is _read_and_write:
                    raise
                break
            if moved == 0:
                break
            at += moved
            tick(moved)
        else:
            break
    return at


def _reflink(source: int, target: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _copy_range(source: int, target: int, offset: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        raise OSError(errno.ENOSYS, "no copy_file_range")
    return os.copy_file_range(source, target, count, offset, offset)


def _send(source: int, target: int, offset: int, count: int) -> int:
    if not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, "sendfile reaches sockets only")
    os.lseek(target, offset, os.SEEK_SET)
    return os.sendfile(target, source, offset, count)


def _read_and_write(source: int, target: int, offset: int, count: int) -> int:
    data = memoryview(os.pread(source, min(count, 1024 * 1024), offset))
    written = 0
    while written < len(data):
        written += os.pwrite(target, data[written:], offset + written)
    return written
