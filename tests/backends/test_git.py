"""A git repository as a mount, against what the real git says of it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends.base import StorageBackend
from genro_storage.backends.git import GitBackend
from genro_storage.exceptions import (
    StorageConfigError,
    StorageCorruptedError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StorageUnavailableError,
    StorageVersionNotFoundError,
    UnsupportedOperation,
)
from genro_storage.paths import Rules
from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS
from tests.backends.git_tools import Commits, InRepository, empty
from tests.servers.gitrepo import BEGAN, GitRepository, Link, make_repository


class TestGit(BackendSuite):
    lacks = WORDS - {"case_sensitive", "ordered", "readlink", "real_dirs", "surrogates", "tells_missing", "versions"}
    written_by = "commits"
    payloads = 5
    many = 12
    large = 1 << 21

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[StorageBackend]:
        repository = empty(tmp_path)
        read = GitBackend(GitBackend.Options(path=str(tmp_path)))
        yield InRepository(read, Commits(repository, Rules(surrogates=True)))
        read.close()


@pytest.fixture(params=["loose", "packed"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> GitRepository:
    (tmp_path / "repo").mkdir()
    made = make_repository(tmp_path / "repo")
    if request.param == "packed":
        made.pack()
    return made


def mounted(repository: GitRepository, **keys: Any) -> StorageManager:
    given = {"name": "g", "type": "git", **repository.options(), **keys}
    return StorageManager([given, {"name": "mem", "type": "memory"}])


@pytest.fixture
def storage(repository: GitRepository) -> Iterator[StorageManager]:
    with mounted(repository) as made:
        yield made


def test_the_tree_is_what_git_lists(repository: GitRepository, storage: StorageManager) -> None:
    listed = {node.path: stat for node, stat in storage.node("g:").scan(recursive=True)}
    entries = repository.tree("HEAD", recursive=True)
    assert set(listed) == {entry.path for entry in entries}
    for entry in entries:
        stat = listed[entry.path]
        assert stat.is_dir is (entry.kind == "tree")
        assert stat.mtime is None
        if stat.is_dir:
            continue
        node = storage.node(f"g:{entry.path}")
        real = "README.md" if entry.path == "link" else entry.path
        data = repository.read("HEAD", real)
        assert (node.read_bytes(), node.size, stat.size) == (data, len(data), len(data))
        assert node.read_bytes(1, 3) == data[1:3]
        assert node.stat() == stat
    assert listed["src/app.py"].mode == 0o755
    assert listed["README.md"].mode == 0o644


def test_copy_out(storage: StorageManager) -> None:
    storage.node("g:docs").copy_to("mem:docs")
    assert storage.node("mem:docs/\u00fc b.txt").read_text() == "\u00e8\n"


def test_what_is_not_there(storage: StorageManager) -> None:
    for path in ("absent", "README.md/x", "data/bin", "doc"):
        assert not storage.node(f"g:{path}").exists
        with pytest.raises(StorageNotFoundError):
            storage.node(f"g:{path}").read_bytes()
    with pytest.raises(StorageIsADirectoryError):
        storage.node("g:docs").read_bytes()
    with pytest.raises(StorageNotADirectoryError):
        storage.node("g:README.md").children()
    with pytest.raises(UnsupportedOperation, match="read-only"):
        storage.node("g:n").write("x")


@pytest.mark.parametrize("ref", ["main", "v1", "side", "refs/heads/main", "commit"])
def test_refs(repository: GitRepository, ref: str) -> None:
    ref = repository.commits[1] if ref == "commit" else ref
    with mounted(repository, ref=ref) as storage:
        assert storage.node("g:README.md").read_bytes() == repository.read(ref, "README.md")


def test_a_moved_ref_is_followed(repository: GitRepository, storage: StorageManager) -> None:
    node = storage.node("g:README.md")
    assert node.read_text() == "one\n"
    repository.commit({"README.md": b"later\n"})
    repository.pack()
    assert node.read_text() == "later\n"


def test_subpath_and_relative_mounts(repository: GitRepository) -> None:
    with mounted(repository, subpath="src") as storage:
        storage.configure([{"name": "top", "type": "git", "fo": str(repository.folder)}])
        storage.configure([{"name": "docs", "path": "top:docs"}])
        assert [node.path for node in storage.node("g:").children()] == ["app.py", "new.py"]
        assert storage.node("g:app.py").version_count == 1
        assert [node.path for node in storage.node("docs:").children()] == ["\u00fc b.txt"]


def test_versions_are_the_commits_that_touched_the_path(repository: GitRepository, storage: StorageManager) -> None:
    """R44: and each of them opens."""
    node = storage.node("g:README.md")
    history = repository.history("HEAD", "README.md")
    assert [version.version_id for version in node.versions] == history[::-1]
    assert [version.is_latest for version in node.versions] == [False, False, True]
    for version in node.versions:
        there = repository.read(version.version_id, "README.md")
        snapshot = node.at(version)
        assert (snapshot.read_bytes(), snapshot.size, version.size) == (there, len(there), len(there))
        with snapshot.open("rb") as file:
            assert file.read() == there
    assert [version.last_modified for version in node.versions] == [BEGAN + 60.0 * n for n in (1, 2, 4)]
    assert node.at(-2).read_text() == "two\n"
    assert node.at(as_of=BEGAN + 130).read_text() == "two\n"
    assert node.diff().endswith("-two\n+one\n")
    assert node.at(0).copy_to("mem:old").read_text() == "one\n"
    assert node.capabilities.version_listing
    with pytest.raises(UnsupportedOperation):
        node.rollback(0)


def test_a_removed_file_has_a_past(repository: GitRepository, storage: StorageManager) -> None:
    node = storage.node("g:data/bin")
    marks = [version.is_delete_marker for version in node.list_versions()]
    assert marks == [False, True]
    assert node.at(-1).read_bytes() == bytes(range(256))
    with pytest.raises(StorageVersionNotFoundError):
        node.at(repository.commits[3]).read_bytes()


def test_versions_of_exactly_this_key(repository: GitRepository, storage: StorageManager) -> None:
    for path in ("README", "README.md2", "docs", "src", "absent", ""):
        assert storage.node(f"g:{path}").list_versions() == []
    repository.commit({"src/app.py": None, "src/new.py": None})
    (repository.folder / "src").rmdir()
    repository.commit({"src": b"a file now"})
    assert [version.is_delete_marker for version in storage.node("g:src").list_versions()] == [False]


def test_commits_of_one_second_keep_their_order(repository: GitRepository, storage: StorageManager) -> None:
    made = [repository.commit({"same": b"%d" % number}, when=BEGAN + 900) for number in range(5)]
    assert [version.version_id for version in storage.node("g:same").versions] == made


@pytest.mark.parametrize("version", ["0" * 40, "main", "x", "", "caf\u00e9", "../../etc"])
def test_no_version_is_invented(storage: StorageManager, version: str) -> None:
    snapshot = storage.node("g:README.md").at(version)
    with pytest.raises(StorageVersionNotFoundError):
        snapshot.read_bytes()
    assert not snapshot.exists


def test_a_tree_or_blob_is_no_version(repository: GitRepository, storage: StorageManager) -> None:
    for sha in (repository.resolve("HEAD", "tree"), _blob(repository)):
        with pytest.raises(StorageVersionNotFoundError, match="no commit"):
            storage.node("g:README.md").at(sha or "").read_bytes()


def test_links(repository: GitRepository, storage: StorageManager) -> None:
    """To files of the repository they are those files; others are listed and lead nowhere."""
    repository.commit(
        {
            "docs/up": Link("../README.md"),
            "out": Link("../../etc/passwd"),
            "root": Link("/etc/passwd"),
            "loop": Link("loop"),
            "dir": Link("docs"),
        }
    )
    for path in ("link", "docs/up"):
        assert storage.node(f"g:{path}").read_text() == "one\n"
        assert storage.node(f"g:{path}").is_symlink
    assert storage.node("g:docs/up").readlink() == "../README.md"
    for path in ("out", "root", "loop", "dir"):
        assert not storage.node(f"g:{path}").is_file
        with pytest.raises(UnsupportedOperation):
            storage.node(f"g:{path}").read_bytes()


def test_names_that_are_no_text(repository: GitRepository, storage: StorageManager) -> None:
    name = os.fsdecode(b"caf\xe9")
    repository.commit({name: b"1", "[a]*": b"2"})
    assert storage.node(f"g:{name}").read_bytes() == b"1"
    assert storage.node("g:[a]*").read_bytes() == b"2"
    assert storage.node(f"g:{name}").version_count == 1


def test_a_repository_without_commits_is_empty(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path)
    with mounted(repository, ref="HEAD") as storage:
        assert storage.node("g:").is_dir
        assert storage.node("g:").children() == []
        assert not storage.node("g:x").exists
        assert storage.node("g:x").list_versions() == []


def test_configuration(repository: GitRepository, tmp_path: Path) -> None:
    with pytest.raises(StorageNotFoundError, match="no repository"):
        mounted(repository, path=str(tmp_path / "absent"))
    (tmp_path / "plain").mkdir()
    with pytest.raises(StorageConfigError, match="not a git repository"):
        mounted(repository, path=str(tmp_path / "plain"))
    with pytest.raises(StorageConfigError, match="'base_path'"):
        StorageManager([{"name": "g", "type": "git"}])
    with (
        mounted(repository, ref="nowhere") as storage,
        pytest.raises(StorageUnavailableError, match="no ref 'nowhere'"),
    ):
        assert not storage.node("g:README.md").exists  # nobody knows
    bare = tmp_path / "bare.git"
    repository.git("clone", "-q", "--bare", str(repository.folder), str(bare))
    with mounted(repository, path=str(bare)) as storage:
        assert storage.node("g:README.md").read_text() == "one\n"


def test_threads_processes_and_pickles(storage: StorageManager) -> None:
    node = storage.node("g:README.md")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: node.read_text(), range(64))) == {"one\n"}
    assert pickle.loads(pickle.dumps(node)).read_text() == "one\n"
    child = os.fork()
    if child == 0:
        os._exit(0 if node.read_text() == "one\n" else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_damaged_object_is_told(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    with mounted(repository) as storage:
        sha = _blob(repository)
        damaged = tmp_path / ".git" / "objects" / sha[:2] / sha[2:]
        damaged.chmod(0o644)
        damaged.unlink()
        with pytest.raises(StorageCorruptedError) as caught:
            storage.node("g:README.md").read_bytes()
        assert "g:README.md" in str(caught.value)
        damaged.write_bytes(b"rubbish")
        with pytest.raises(StorageCorruptedError):
            storage.node("g:README.md").read_bytes()


def _blob(repository: GitRepository) -> str:
    found = repository.find("HEAD", "README.md")
    assert found is not None
    return found.sha
