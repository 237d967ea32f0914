"""The github type: the suite over real repositories, whose commits are the witness, and what is its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends import github as module
from genro_storage.backends.base import StorageBackend
from genro_storage.backends.github import GitHubBackend, GitHubOptions
from genro_storage.backends.options import Secret
from genro_storage.exceptions import (
    StorageConflictError,
    StorageError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS
from genro_storage.types import Stat
from tests.backends.git_tools import Commits, InRepository, empty
from tests.servers.caddy import Caddy
from tests.servers.github import GitHubServer
from tests.servers.gitrepo import Link
from tests.servers.process import HOST, free_ports


def of(**keys: Any) -> GitHubBackend:
    return GitHubBackend(GitHubOptions(**keys))


class TestGitHub(BackendSuite):
    lacks = WORDS - {"case_sensitive", "ordered", "readlink", "real_dirs", "tells_missing", "walk"}
    written_by = "commits"
    payloads = 5
    many = 12
    large = 1 << 21

    @pytest.fixture
    def backend(self, github: GitHubServer) -> Iterator[StorageBackend]:
        name = github.make_repo(make=empty)
        read = of(**github.options(name))
        yield InRepository(read, Commits(github.repositories[name].git))
        read.close()


@pytest.fixture
def repo(github: GitHubServer) -> str:
    return github.make_repo()


@pytest.fixture
def backend(github: GitHubServer, repo: str) -> Iterator[GitHubBackend]:
    backend = of(**github.options(repo))
    yield backend
    backend.close()


def quick(backend: StorageBackend) -> Mount:
    return Mount("m", backend, retry=NO_RETRY)


def tree(backend: StorageBackend, path: str = "") -> dict[str, Stat]:
    return {entry.path: entry for page in backend.walk(path) for entry in page}


# --- configuration ---


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ({}, b"one\n"),
        ({"ref": "v1"}, b"two\n"),
        ({"sha": "v1"}, b"two\n"),
        ({"ref": "side"}, b"aside\n"),
        ({"username": "octocat"}, b"one\n"),
    ],
)
@pytest.mark.parametrize("private", [False, True])
def test_refs(github: GitHubServer, keys: dict[str, str], content: bytes, private: bool) -> None:
    name = github.make_repo(private=private)
    options = github.options(name) | keys
    if "token" not in options:
        options.pop("username", None)
    with StorageManager([{"name": "g", "type": "github", **options}]) as storage:
        assert storage.node("g:README.md").read_bytes() == content
        assert github.token not in repr(storage.mounts["g"])
        with pytest.raises(UnsupportedOperation, match="read-only"):
            storage.node("g:new").write_bytes(b"")


def test_a_commit_and_a_branch_with_a_slash(github: GitHubServer, repo: str) -> None:
    made = github.repositories[repo].git
    made.git("branch", "feature/x#1", made.commits[2])
    for ref in (made.commits[2], "feature/x#1"):
        backend = of(**github.options(repo), ref=ref, path="docs")
        assert backend.get("ü b.txt")[0] == "è\n".encode()
        assert list(tree(backend)) == ["ü b.txt"]


def test_who_may(github: GitHubServer) -> None:
    """What may not be seen is not there, as GitHub says it; a wrong token is a refusal."""
    options = github.options(github.make_repo(private=True))
    token = options.pop("token")
    with pytest.raises(StorageNotFoundError):
        quick(of(**options)).get("README.md")
    with pytest.raises(StoragePermissionError):
        quick(of(**options, token=Secret("wrong"))).exists("README.md")
    assert quick(of(**options, token=Secret(token))).exists("README.md")


def test_the_environments_token_goes_to_github_only(monkeypatch: pytest.MonkeyPatch, github: GitHubServer) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "from-env")
    assert "from-env" in str(of(org="o", repo="r")._headers)
    assert "from-env" not in str(of(org="o", repo="r", endpoint=github.endpoint)._headers)
    assert "from-env" not in str(of(org="o", repo="r", token=Secret("t"))._headers)


def test_the_rate_limit_is_a_time_to_wait(github: GitHubServer, backend: GitHubBackend) -> None:
    github.calls_left = 0
    try:
        with pytest.raises(StorageUnavailableError, match="rate limit") as caught:
            quick(backend).exists("README.md")
    finally:
        github.calls_left = 5000
    assert caught.value.retryable
    assert 0 < (caught.value.retry_after or 0) <= 60


def test_unreachable_and_something_else(caddy: Caddy) -> None:
    (port,) = free_ports(1)
    with pytest.raises(StorageUnavailableError):
        quick(of(org="o", repo="r", endpoint=f"http://{HOST}:{port}")).exists("k")
    root = caddy.make_root()
    page = caddy.local(f"{root}/repos/o/r/contents")
    page.mkdir(parents=True)
    (page / "index.html").write_text("<p>")
    with pytest.raises(StorageError, match="endpoint"):
        list(quick(of(org="o", repo="r", endpoint=caddy.endpoint + root)).scan(""))


# --- what is in a repository ---


def test_facts(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    """R10: a blob's id is an etag; it is no hash of the content."""
    found = github.repositories[repo].git.find("main", "src/app.py")
    stat = backend.stat("src/app.py")
    assert (stat.size, stat.hashes, stat.mtime) == (9, {}, None)
    assert stat.etag == f'"{found.sha if found else None}"'
    assert backend.get("src/app.py", if_match=stat.etag) == (b"print(1)\n", stat)
    with pytest.raises(StorageConflictError):
        backend.get("src/app.py", if_match='"other"')


def test_links(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    made = github.repositories[repo].git
    made.commit(
        {
            "docs/up": Link("../README.md"),
            "docs/out": Link("../../etc/passwd"),
            "docs/abs": Link("/etc/passwd"),
            "nowhere": Link("absent"),
            "round": Link("round"),
            "folder": Link("docs"),
        }
    )
    stat = backend.stat("docs/up")
    assert (stat.is_symlink, stat.is_file, stat.size) == (True, True, 4)
    assert backend.get("docs/up")[0] == backend.get("link")[0] == b"one\n"
    assert backend.readlink("docs/up") == "../README.md"
    with pytest.raises(StoragePathError):
        backend.readlink("README.md")
    for path in ("docs/out", "docs/abs", "nowhere", "round"):
        assert backend.stat(path).is_other
        with pytest.raises(StorageNotFoundError):
            backend.get(path)
    below = of(**github.options(repo), path="docs")
    assert below.stat("up").is_other, "it leads out of the mount"
    folder = backend.stat("folder")
    assert (folder.is_dir, folder.is_symlink) == (True, True)
    assert [entry.path for page in backend.scan("folder") for entry in page][-1] == "folder/ü b.txt"
    assert tree(backend)["folder"] == folder
    assert "folder/up" not in tree(backend)


def test_a_submodule_is_no_file(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    made = github.repositories[repo].git
    made.git("update-index", "--add", "--cacheinfo", f"160000,{made.commits[0]},module")
    made.git("commit", "-q", "-m", "submodule")
    assert backend.stat("module").is_other
    assert tree(backend)["module"].is_other
    with pytest.raises(StorageNotFoundError, match="submodule"):
        backend.get("module")


def test_lfs_pointers_are_what_they_are(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    """The repository holds a pointer: size, bytes and etag are its own, here and in a listing."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    github.repositories[repo].git.commit({"big.bin": pointer})
    assert backend.get("big.bin")[0] == pointer
    assert backend.stat("big.bin").size == tree(backend)["big.bin"].size == len(pointer)


@pytest.mark.parametrize("limit", [1, 3])
def test_truncated_trees_are_walked_folder_by_folder(
    github: GitHubServer, backend: GitHubBackend, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    whole, below = tree(backend), tree(backend, "src")
    assert set(whole) > {"src", "src/app.py", "docs/ü b.txt", "link"}
    monkeypatch.setattr(github, "tree_limit", limit)
    assert tree(backend) == whole
    assert list(tree(backend)) == list(whole)
    assert tree(backend, "src") == below


def test_full_folders_are_read_as_trees(
    github: GitHubServer, backend: GitHubBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`contents` ends at 1,000 entries without a word."""
    whole = {path: [entry for page in backend.scan(path) for entry in page] for path in ("", "src", "docs")}
    monkeypatch.setattr(github, "contents_limit", 2)
    monkeypatch.setattr(module, "FULL", 2)
    assert {path: [entry for page in backend.scan(path) for entry in page] for path in whole} == whole
    assert backend.get("src/new.py")[0] == b"new\n"
    monkeypatch.setattr(github, "tree_limit", 1)
    with pytest.raises(StorageError, match="more entries"):
        list(backend.scan(""))


def test_large_files_come_whole_and_in_ranges(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    data = bytes(range(256)) * (1 << 13)
    github.repositories[repo].git.commit({"big": data})
    assert backend.get("big")[0] == data
    assert backend.get("big", 1 << 20, (1 << 20) + 300)[0] == data[1 << 20 : (1 << 20) + 300]
    assert backend.get("big", -5)[0] == data[-5:]


def test_requests_per_verb(github: GitHubServer, repo: str, backend: GitHubBackend) -> None:
    """What docs/backends/github.rst says."""
    mount = quick(backend)
    verbs: list[tuple[Callable[[], object], int]] = [
        *((lambda verb=verb: verb("src/app.py"), 1) for verb in (mount.stat, mount.exists, mount.is_file)),
        (lambda: list(mount.scan("src")), 1),
        (lambda: list(mount.walk("src")), 2),
        (lambda: list(mount.walk("docs")), 2),
        (lambda: mount.get("src/app.py"), 2),
        (lambda: mount.get("link"), 4),
    ]
    for verb, wanted in verbs:
        before = github.count(contains=repo)
        verb()
        assert github.count(contains=repo) - before == wanted
