"""Paths below a trusted directory, found without following any link that the mount's policy does not allow."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NoReturn

from ..exceptions import (
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePermissionError,
    UnsupportedOperation,
    from_builtin,
)
from ..paths import refuse_climbing
from ..types import Features
from . import _kernel

Links = Literal["inside", "follow", "refuse"]

_STEP = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BASE = _STEP & ~os.O_NOFOLLOW
KIND, REGULAR, DIRECTORY, LINK = 0o170000, 0o100000, 0o040000, 0o120000

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RACES = 8
_LONGEST = 4095  # bytes; what lies deeper can be made segment by segment, but no other program could open it
_TRIES = 40  # as many links as the kernel would follow


class Tree:
    """A directory `base`, trusted, and what lies below it: `root`, relative to it, is where the paths begin.

    Links are followed by `links`: "inside" only to places below the root (a link on the way to the root itself: below
    the base), "follow" all, "refuse" none. Immutable; holds no descriptor.
    """

    def __init__(self, base: str, root: str = "", links: Links = "inside", dir_mode: int | None = None) -> None:
        self.base = base
        self.root = root
        self.links = links
        self._dir_mode = dir_mode
        self._prefix = base if base.endswith("/") else base + "/"
        self._lead = f"{self._prefix}{root}/" if root else self._prefix

    def below(self, root: str) -> Tree:
        """The same tree, its paths beginning further down."""
        return Tree(self.base, root, self.links, self._dir_mode)

    def absolute(self, path: str) -> str:
        """The absolute path as it is written: no link is looked at."""
        if path:
            return self._lead + path
        return self._prefix + self.root if self.root else self.base

    def locate(self, path: str, *, through: bool = False, make: bool = False) -> tuple[int | None, str]:
        """Where `path` is: (descriptor of its directory, which the caller leaves, and a name in it) or (None, a path).

        The last segment may be a link, and is to be opened without following, unless `through`: then the answer is the
        place it leads to. `make`: missing directories above it are made. Raises `StoragePermissionError` for a link
        that the policy forbids, `StorageNotFoundError` for one that leads nowhere, `StoragePathError` for ``..``, and
        what `os.open` raises.
        """
        if ".." in path:
            refuse_climbing(path)
        full = self._lead + path if path else self.absolute(path)
        if self.links == "follow":
            if make:
                self._make_above(full)
            return None, real_path(full) if through else full
        if not through:
            slash = full.rfind("/", len(self._prefix))
            if slash < 0:
                return None, full
            at = _kernel.open_directory(full[:slash])
            if at >= 0:
                return at, full[slash + 1 :]
        return self._walk(full[len(self._prefix) :], through, make)

    def stat(self, path: str) -> os.stat_result:
        """`os.lstat` by `locate`."""
        if "/" in path and ".." not in path and self.links != "follow":
            fd = _kernel.open_any(self._lead + path)  # one step where `locate` needs two
            if fd >= 0:
                try:
                    return os.fstat(fd)
                finally:
                    os.close(fd)
        at, name = self.locate(path)
        try:
            return os.stat(name, dir_fd=at, follow_symlinks=False)
        finally:
            self.leave(at)

    def has(self, path: str) -> bool:
        """Whether anything is there, a link that leads nowhere too."""
        if "/" in path and ".." not in path and self.links != "follow":
            fd = _kernel.open_any(self._lead + path)
            if fd >= 0:
                os.close(fd)
                return True
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @contextmanager
    def spot(self, path: str, *, through: bool = False, make: bool = False) -> Iterator[tuple[int | None, str]]:
        """As `locate`, and leaves it."""
        at, name = self.locate(path, through=through, make=make)
        try:
            yield at, name
        finally:
            self.leave(at)

    def leave(self, at: int | None) -> None:
        """Closes what `locate` opened."""
        if at is not None:
            os.close(at)

    def open_file(self, path: str) -> tuple[int, os.stat_result]:
        """The descriptor of a regular file, links followed as far as allowed, and its facts."""
        for attempt in range(_RACES):
            at, name = self.locate(path, through=attempt > 0)
            try:
                st = os.lstat(name) if at is None else os.stat(name, dir_fd=at, follow_symlinks=False)
                kind = st.st_mode & KIND
                if kind == LINK:
                    continue
                if kind != REGULAR:
                    refuse(st)
                fd = os.open(name, READ, dir_fd=at)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    continue  # a link since we looked
                raise
            finally:
                self.leave(at)
            try:
                st = os.fstat(fd)
                if st.st_mode & KIND != REGULAR:
                    refuse(st)  # put there since we looked; opening without waiting has done it no harm
            except BaseException:
                os.close(fd)
                raise
            return fd, st
        raise StoragePermissionError("a symbolic link here changes too often")

    def open_directory(self, path: str) -> int:
        """The descriptor of a directory, for `os.scandir`; links followed as far as allowed."""
        for attempt in range(_RACES):
            with self.spot(path, through=attempt > 0) as (at, name):
                try:
                    return os.open(name, _LIST, dir_fd=at)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not is_link(name, at):
                        raise
        raise StoragePermissionError("a symbolic link here changes too often")

    def target(self, path: str, *, parents: bool = True) -> tuple[int | None, str, os.stat_result | None]:
        """Where a write to `path` goes, parents made, and what is there now; the caller closes the descriptor."""
        make = parents and self.links == "follow"  # where `locate` does not notice what is missing
        through = False
        for _ in range(_RACES):
            try:
                at, name = self.locate(path, through=through, make=make)
            except FileNotFoundError:
                if make or not parents:
                    raise
                make = True
                continue
            try:
                old = os.stat(name, dir_fd=at, follow_symlinks=False)
                kind = old.st_mode & KIND
                if kind == REGULAR:
                    return at, name, old
                if kind != LINK:
                    refuse(old)
            except FileNotFoundError:
                return at, name, None
            except BaseException:
                if at is not None:
                    os.close(at)
                raise
            if at is not None:
                os.close(at)
            through = True
        raise StoragePermissionError("a symbolic link here changes too often")

    def _walk(self, below: str, through: bool, make: bool) -> tuple[int | None, str]:
        segments = below.split("/") if below else []
        depth = self.root.count("/") + 1 if self.root else 0
        for _ in range(_TRIES):
            if not segments:
                return None, self.base
            at, link = self._descend(segments, make)
            if at >= 0:
                if not through or not is_link(segments[-1], at):
                    return at, segments[-1]
                os.close(at)
            segments, depth = self._resolved(segments, link, depth)
        raise StoragePermissionError("symbolic links here lead in a circle or change too often")

    def _descend(self, segments: list[str], make: bool) -> tuple[int, int]:
        """(descriptor of the last segment's directory, its index), or (-1, index of a link on the way)."""
        at = os.open(self.base, _BASE)
        for index, segment in enumerate(segments[:-1]):
            try:
                below = self._step(segment, at, make)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP) or not is_link(segment, at):
                    raise
                return -1, index
            finally:
                os.close(at)
            at = below
        return at, len(segments) - 1

    def _step(self, segment: str, at: int, make: bool) -> int:
        try:
            return os.open(segment, _STEP, dir_fd=at)
        except FileNotFoundError:
            if not make:
                raise
        try:
            make_directory(segment, at, self._dir_mode)
        except FileExistsError:
            pass  # somebody else made it meanwhile
        return os.open(segment, _STEP, dir_fd=at)

    def _resolved(self, segments: list[str], link: int, depth: int) -> tuple[list[str], int]:
        """The same place with the link at index `link` replaced by what it leads to, and where the root then ends.

        Reads paths that may change at any moment: the answer is only where to walk next, again without following.
        """
        name = "/".join(segments[: link + 1])
        if self.links == "refuse":
            raise StoragePermissionError(f"'{name}' is a symbolic link, which the mount refuses ('symlinks: refuse')")
        real, shown = real_path(self._prefix + name), f"/{name}" if self._prefix == "/" else name
        within = self._prefix + "/".join(segments[:depth]) if link >= depth else self._prefix
        if real != within.rstrip("/") and not real.startswith(within.rstrip("/") + "/"):
            raise StoragePermissionError(f"the symbolic link '{shown}' leads out of the mount")
        if not os.path.lexists(real):
            raise StorageNotFoundError(f"the symbolic link '{shown}' leads nowhere")
        found = [segment for segment in real[len(self._prefix) :].split("/") if segment]
        if link < depth:
            depth += len(found) - link - 1
        return found + segments[link + 1 :], depth

    def _make_above(self, full: str) -> None:
        above = os.path.dirname(full)
        if len(above) < len(self._prefix) or os.path.isdir(above):
            return
        self._make_above(above)
        try:
            make_directory(above, None, self._dir_mode)
        except FileExistsError:
            pass  # somebody else made it meanwhile


def make_directory(name: str, at: int | None, mode: int | None) -> None:
    """`os.mkdir`; a `mode` that is given holds whatever the umask says."""
    if mode is None:
        os.mkdir(name, dir_fd=at)
        return
    os.mkdir(name, mode, dir_fd=at)
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        if os.fstat(made).st_mode & 0o7777 != mode:
            os.fchmod(made, mode)
    finally:
        os.close(made)


def refuse(st: os.stat_result) -> NoReturn:
    """Raises what reading or replacing something else than a file must raise."""
    if st.st_mode & KIND == DIRECTORY:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise UnsupportedOperation("neither file nor directory (a FIFO, a socket or a device): it is never opened")


def real_path(path: str) -> str:
    """`os.path.realpath`, also while somebody swaps links for other things."""
    for _ in range(_RACES):
        try:
            return os.path.realpath(path)
        except OSError:
            continue  # what was a link when it looked was none when it read
    raise StoragePermissionError("a symbolic link here changes too often")


def is_link(name: str, at: int | None) -> bool:
    try:
        return os.stat(name, dir_fd=at, follow_symlinks=False).st_mode & KIND == LINK
    except OSError:
        return False  # whoever opens it next is told why


def base_directory(path: str, relative_to: str, create: bool, mode: int | None) -> str:
    """The real, absolute path of a base; missing → `StorageNotFoundError`, a file → `StorageNotADirectoryError`.

    `~` expands; `relative_to` "" is the current directory; `create` makes it, its parents too.
    """
    try:
        base = os.path.realpath(os.path.join(relative_to or os.getcwd(), os.path.expanduser(path)))
        if create:
            os.makedirs(base, 0o777 if mode is None else mode, exist_ok=True)
        if os.stat(base).st_mode & KIND == DIRECTORY:
            return base
    except FileNotFoundError as error:
        reason = f"the base directory '{path}' does not exist; make it, or say 'create: true'"
        raise StorageNotFoundError(reason) from error
    except (FileExistsError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        failure = from_builtin(error)
        failure.message = f"the base directory '{path}' cannot be used: {failure.message}"
        raise failure from error
    raise StorageNotADirectoryError(f"the base path '{path}' is not a directory")


def folds_case(base: str) -> bool:
    """Whether the base is also found under its name in the other case: a look, without writing anything."""
    parent, name = os.path.split(base)
    other = os.path.join(parent, name.swapcase())
    try:
        return other != base and os.path.samefile(other, base)
    except OSError:
        return False


def local_features(base: str) -> Features:
    """What the file system that holds `base` is like."""
    return Features(
        if_absent="atomic",
        if_match="advisory",
        case_sensitive=not folds_case(base),
        mtime_resolution=1e-6,
        keeps_mtime=True,
        keeps_mode=True,
        max_segment=255,
        max_key=_LONGEST - len(os.fsencode(base)) - 1,
        backslash=os.sep == "/",
        surrogates=True,
        ranges=True,
    )
