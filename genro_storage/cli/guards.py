"""What is refused before anything is deleted: roots, where you live, and what nobody said yes to."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .console import is_terminal
from .failures import Refused
from .places import name_of

if TYPE_CHECKING:
    from ..nodes import StorageNode


def guard_removal(node: StorageNode) -> None:
    """Roots are not deleted, nor the current directory, a home directory or what is above them, however named."""
    if not node.path:
        raise Refused(f"'{name_of(node)}' is a root and is not deleted; name what is below it")
    kept = kept_below(node, [*homes(), *here()])
    if kept is not None:
        raise Refused(f"'{node.resolved_path}' {_keeps(node, kept)} and is not deleted")


def guard_clearing(node: StorageNode) -> None:
    """A synchronisation that deletes may fill a mount's root or where you are, but no home or what is above one."""
    kept = kept_below(node, homes())
    if kept is not None:
        raise Refused(f"'{name_of(node)}' {_keeps(node, kept)}, and sync --delete does not clear it")


def _keeps(node: StorageNode, kept: Path) -> str:
    """Why a directory is to stay, in words."""
    what = "a home directory" if kept in homes() else "the current directory"
    is_same = os.path.samestat(os.stat(str(node.resolved_path)), kept.stat())
    return f"is {what}" if is_same else f"holds '{kept}', {what},"


def kept_below(node: StorageNode, kept: list[Path]) -> Path | None:
    """Which of these directories a local node is, or is above of; of a link only the link goes."""
    local = node.resolved_path
    if local is None or os.path.islink(local):
        return None
    try:
        doomed = os.stat(local)
    except OSError:  # nothing there that could be deleted
        return None
    for one in kept:
        if any(os.path.samestat(doomed, directory.stat()) for directory in (one, *one.parents)):
            return one
    return None


def homes() -> list[Path]:
    """$HOME, and the home that the system has for this user, as far as they exist."""
    import pwd

    found = [os.path.expanduser("~")]
    try:
        found.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without an account
        pass
    return [Path(os.path.realpath(path)) for path in found if os.path.exists(path)]


def here() -> list[Path]:
    """The current directory, unless it was deleted."""
    try:
        return [Path(os.path.realpath(os.getcwd()))]
    except FileNotFoundError:
        return []


def confirm(question: str, verb: str) -> None:
    """Asks once; nothing is deleted without a yes, and where nobody is there to answer the command is refused."""
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise Refused(
            f"{verb} asks before it deletes, and nobody is there to answer; use -y, or --dry-run to look first"
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing was deleted")
