"""A git repository made by the real `git`, commit by commit, without a word of the developer's configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .process import find_program

BEGAN = 1_700_000_000  # POSIX seconds of the first commit; each further one is a minute later
WHO = "Genro Tests"
GIT_REMEDY = "apt-get install git"


class Link(NamedTuple):
    """A symbolic link, as a value of `commit`."""

    target: str


class Entry(NamedTuple):
    """One line of a tree; size is None for what is no file."""

    mode: str
    kind: str  # blob, tree, commit (a submodule)
    sha: str
    size: int | None
    path: str


Content = bytes | Link | None


class GitRepository:
    """A repository with a work tree in an empty folder; `commits` are all its ids, in the order of their making."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[str] = []
        self._program = find_program("git", GIT_REMEDY)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, when: int = BEGAN, data: bytes | None = None) -> bytes:
        """Run git in the repository; returns its output, raises CalledProcessError when it fails."""
        moment = f"{when} +0000"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.devnull,
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{
                f"GIT_{role}_{field}": text
                for role in ("AUTHOR", "COMMITTER")
                for field, text in (("NAME", WHO), ("EMAIL", "tests@example.org"), ("DATE", moment))
            },
        }
        command = [self._program, "-C", str(self.folder), *arguments]
        return subprocess.run(command, env=environment, input=data, check=True, capture_output=True).stdout

    def commit(
        self, changes: Mapping[str, Content], message: str = "", *, when: int | None = None, executable: bool = False
    ) -> str:
        """Write, link or (None) remove files, commit, and return the id of the commit.

        Args:
            changes: path → bytes, a Link, or None.
            message: its first line; made up when empty.
            when: POSIX seconds; several commits may have the same.
            executable: what is written may be run.
        """
        for path, content in changes.items():
            place = self.folder / path
            place.unlink(missing_ok=True)
            if content is None:
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                place.symlink_to(content.target)
            else:
                place.write_bytes(content)
                place.chmod(0o755 if executable else 0o644)
        when = BEGAN + 60 * len(self.commits) if when is None else when
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message or f"change {len(self.commits) + 1}", when=when)
        self.commits.append(self.resolve("HEAD") or "")
        return self.commits[-1]

    def branch(self, name: str, at: str = "HEAD") -> None:
        """Begin a branch and stay on it."""
        self.git("checkout", "-q", "-b", name, at)

    def tag(self, name: str, at: str = "HEAD", *, annotated: bool = False) -> None:
        """Name a commit, by a tag object of its own when annotated."""
        self.git("tag", *(("-a", "-m", name) if annotated else ()), name, at)

    def pack(self) -> None:
        """Put all objects and refs into packs, as a server's repository has them."""
        self.git("gc", "-q", "--prune=now")

    def resolve(self, name: str, kind: str = "commit") -> str | None:
        """The id that a ref or an abbreviation means; None when there is none."""
        try:
            return self.git("rev-parse", "--verify", "-q", "--end-of-options", f"{name}^{{{kind}}}").decode().strip()
        except subprocess.CalledProcessError:
            return None

    def tree(self, tree: str, *, recursive: bool = False) -> list[Entry]:
        """The entries of a tree (of a commit), those of its folders too when recursive."""
        return self._entries(*(("-r", "-t") if recursive else ()), tree)

    def find(self, commit: str, path: str) -> Entry | None:
        """What is at a path as of a commit; its `path` is the whole one."""
        return next(iter(self._entries(commit, "--", path)), None)

    def _entries(self, *arguments: str) -> list[Entry]:
        listed = self.git("ls-tree", "-z", "-l", *arguments).decode("utf-8", "surrogateescape")
        found = []
        for line in listed.split("\0")[:-1]:
            facts, _, path = line.partition("\t")
            mode, kind, sha, size = facts.split()
            found.append(Entry(mode, kind, sha, None if size == "-" else int(size), path))
        return found

    def blob(self, sha: str) -> bytes:
        """The bytes of a file by its own id."""
        return self.git("cat-file", "blob", sha)

    def read(self, commit: str, path: str) -> bytes:
        """The bytes of a file as of a commit."""
        return self.git("cat-file", "blob", f"{commit}:{path}")

    def history(self, ref: str = "HEAD", path: str = "") -> list[str]:
        """The commits that changed a path (or all), newest first."""
        return self.git("log", "--format=%H", ref, *(("--", path) if path else ())).decode().split()

    def options(self, ref: str = "HEAD") -> dict[str, str]:
        """The keys of a mount entry that reach this repository; add `name`, `type` and the rest."""
        return {"path": str(self.folder), "ref": ref}


def make_repository(folder: Path) -> GitRepository:
    """A repository with five commits on `main`, the tag `v1` on the third, and the branch `side` off the first.

    `commits`: 0 makes src/app.py (executable) · 1 README.md, docs/ü b.txt, data/bin and link → README.md ·
    2 changes README.md · 3 removes data/bin and makes src/new.py · 4 gives README.md the bytes of 1 again ·
    5, on `side`, makes another README.md.
    """
    made = GitRepository(folder)
    first = made.commit({"src/app.py": b"print(1)\n"}, executable=True)
    made.commit(
        {
            "README.md": b"one\n",
            "docs/ü b.txt": "è\n".encode(),
            "data/bin": bytes(range(256)),
            "link": Link("README.md"),
        },
    )
    made.commit({"README.md": b"two\n"})
    made.tag("v1", annotated=True)
    made.commit({"data/bin": None, "src/new.py": b"new\n"})
    made.commit({"README.md": b"one\n"}, "back to the first")
    made.branch("side", first)
    made.commit({"README.md": b"aside\n"})
    made.git("checkout", "-q", "main")
    return made
