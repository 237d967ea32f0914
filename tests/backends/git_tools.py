"""What the tests of git and github share: commits that write what the storage reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from genro_storage.backends.base import BackendWriter, BytesWriter, StorageBackend
from genro_storage.paths import STRICT, Rules, join
from genro_storage.types import PLAIN, Stat, Version, WriteOptions
from tests.backends.http_tools import Witnessed
from tests.servers.gitrepo import GitRepository


class Commits(StorageBackend):
    """Writes each file by a commit, without a work tree."""

    def __init__(self, git: GitRepository, rules: Rules = STRICT) -> None:
        super().__init__()
        self.git, self.rules, self.lock = git, rules, threading.Lock()

    def native_path(self, path: str) -> str:
        return join(self.root, path, rules=self.rules)

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        self.native_path(path)
        return BytesWriter(lambda data: self.put(path, data, options), options.size)

    def put(self, path: str, data: bytes | bytearray | memoryview, options: WriteOptions = PLAIN) -> Stat:
        whole = self.native_path(path)
        with self.lock:
            files = self._files()
            if whole and any(name.startswith(f"{whole}/") for name in files):
                raise IsADirectoryError
            if any(whole.startswith(f"{name}/") for name in files):
                raise NotADirectoryError
            sha = self.git.git("hash-object", "-w", "--stdin", data=bytes(data)).decode().strip()
            self._commit({**files, whole: sha})
        return Stat(path, len(bytes(data)))

    def delete(self, path: str, *, version: str | None = None, if_match: str | None = None) -> None:
        whole = self.native_path(path)
        with self.lock:
            files = self._files()
            if whole not in files:
                raise IsADirectoryError if any(name.startswith(f"{whole}/") for name in files) else FileNotFoundError
            self._commit({name: sha for name, sha in files.items() if name != whole})

    def mkdir(self, path: str) -> None:
        self.native_path(path)

    rmdir = mkdir

    def _files(self) -> dict[str, str]:
        return {entry.path: entry.sha for entry in self.git.tree("main", recursive=True) if entry.kind == "blob"}

    def _commit(self, files: Mapping[str, str]) -> None:
        self.git.git("read-tree", "--empty")
        lines = "".join(f"100644 {sha}\t{name}\0" for name, sha in files.items())
        self.git.git("update-index", "-z", "--index-info", data=lines.encode("utf-8", "surrogateescape"))
        tree = self.git.git("write-tree").decode().strip()
        written = ("commit-tree", *self._parent(), "-m", "change", tree)
        commit = self.git.git(*written, when=int(time.time())).decode().strip()
        self.git.git("update-ref", "refs/heads/main", commit)

    def _parent(self) -> list[str]:
        return ["-p", self.git.git("rev-parse", "main").decode().strip()]


class InRepository(Witnessed):
    """An empty folder is none in git."""

    @property
    def abilities(self) -> frozenset[str]:
        return self.read.abilities

    def versions(self, path: str) -> Iterator[Version]:
        return self.read.versions(path)


def empty(folder: Path) -> GitRepository:
    made = GitRepository(folder)
    made.commit({})
    return made
