"""Which commands there are, where each lives, and what it does in half a sentence."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from .session import Session

COMMANDS = {
    "cp": ("transfer", "copy files and directories, verified"),
    "mv": ("transfer", "move files and directories; a source goes once its copy is proven"),
    "sync": ("transfer", "make a directory hold what another holds"),
    "check": ("transfer", "compare two files or trees, write nothing"),
    "ls": ("listing", "list a directory"),
    "tree": ("listing", "draw a directory and what is below"),
    "du": ("listing", "count files, directories and bytes"),
    "cat": ("reading", "write files to the standard output"),
    "hash": ("reading", "compute hashes, or check them"),
    "stat": ("facts", "show what a storage knows of a file"),
    "url": ("versions", "print the URL of a file, signed where the storage signs"),
    "versions": ("versions", "list the versions of a file, go back to one, erase old ones"),
    "mounts": ("facts", "show the mounts"),
    "rm": ("changing", "delete files and directories"),
    "mkdir": ("changing", "make directories"),
    "touch": ("changing", "make empty files, or set the time of existing ones"),
    "cleanup": ("cleanup", "remove what killed transfers left behind"),
    "sessions": ("sessions", "show, export, restore, sweep or migrate the sessions of a mount"),
    "temp": ("temp", "show or remove the temporary files that killed processes left"),
}


class Verb(NamedTuple):
    """One command: what its paths are called in the usage, how many it needs, its options and what it does."""

    paths: str
    least: int
    options: Callable[[ArgumentParser], object]
    run: Callable[[Session, Any], int]


def verb(name: str) -> Verb:
    """The command of that name, from its module in `verbs`."""
    module = import_module(f"{__package__}.verbs.{COMMANDS[name][0]}")
    return cast(Verb, module.VERBS[name])
