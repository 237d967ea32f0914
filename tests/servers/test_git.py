"""The repositories of the tests, read by dulwich; GitHub's API over them, by httpx and fsspec."""

from __future__ import annotations

import base64
import stat
import subprocess

import httpx
import pytest
from dulwich.object_store import tree_lookup_path
from dulwich.objects import Blob, Commit
from dulwich.repo import Repo
from fsspec.implementations.github import GithubFileSystem

from tests.servers.github import GitHubServer
from tests.servers.gitrepo import BEGAN, GitRepository, Link

FILES = {"README.md", "docs/ü b.txt", "link", "src/app.py", "src/new.py"}


def read(repo: Repo, commit: str, path: str) -> tuple[int, bytes]:
    """A file's mode and bytes, by dulwich."""
    made = repo[commit.encode()]
    assert isinstance(made, Commit)
    mode, sha = tree_lookup_path(repo.__getitem__, made.tree, path.encode())
    found = repo[sha]
    assert isinstance(found, Blob)
    return mode, found.data


@pytest.mark.parametrize("packed", [False, True])
def test_a_repository_as_dulwich_reads_it(git_repository: GitRepository, packed: bool) -> None:
    made = git_repository
    if packed:
        made.pack()
    with Repo(str(made.folder)) as repo:
        assert [entry.commit.id.decode() for entry in repo.get_walker()] == made.commits[4::-1]
        touching = repo.get_walker(paths=[b"README.md"])
        assert [entry.commit.id.decode() for entry in touching] == [made.commits[n] for n in (4, 2, 1)]
        assert read(repo, made.commits[1], "README.md") == (0o100644, b"one\n")
        assert read(repo, made.commits[2], "docs/ü b.txt")[1] == made.read(made.commits[2], "docs/ü b.txt")
        assert stat.S_ISLNK(read(repo, made.commits[4], "link")[0])
        assert read(repo, made.commits[0], "src/app.py")[0] == 0o100755
        assert repo.refs.as_dict()[b"refs/heads/side"].decode() == made.commits[5]
        assert repo.get_peeled(b"refs/tags/v1").decode() == made.commits[2]
        with pytest.raises(KeyError):
            read(repo, made.commits[4], "data/bin")


def test_commits_are_made_as_told(git_repository: GitRepository) -> None:
    made = git_repository
    assert {entry.path for entry in made.tree("HEAD", recursive=True) if entry.kind == "blob"} == FILES
    first = made.commit({"k": b"1"}, "first", when=BEGAN)
    second = made.commit({"k": Link("README.md")}, when=BEGAN)
    assert made.history("HEAD", "k") == [second, first]
    assert made.git("show", "-s", "--format=%ct %cn %s", first).decode() == f"{BEGAN} Genro Tests first\n"
    assert made.resolve("no such ref") is None
    assert made.options("v1") == {"path": str(made.folder), "ref": "v1"}
    with pytest.raises(subprocess.CalledProcessError):
        made.read(first, "absent")


# --- GitHub ---


@pytest.fixture
def repo(github: GitHubServer) -> str:
    return github.make_repo()


def get(github: GitHubServer, path: str, **headers: str) -> httpx.Response:
    return httpx.get(f"{github.endpoint}/repos/{path}", headers=headers)


def test_trees_and_truncation(github: GitHubServer, repo: str) -> None:
    made = github.repositories[repo].git
    told = get(github, f"{repo}/git/trees/main?recursive=1").json()
    assert {entry["path"] for entry in told["tree"] if entry["type"] == "blob"} == FILES
    assert told["truncated"] is False
    assert {e["path"]: (e["mode"], e.get("size")) for e in told["tree"]}["src/app.py"] == ("100755", 9)
    level = get(github, f"{repo}/git/trees/{made.commits[0]}").json()["tree"]
    assert [(entry["path"], entry["type"]) for entry in level] == [("src", "tree")]
    assert httpx.get(level[0]["url"]).json()["tree"][0]["path"] == "app.py"
    github.tree_limit = 2
    try:
        told = get(github, f"{repo}/git/trees/main?recursive=1").json()
    finally:
        github.tree_limit = 100_000
    assert (len(told["tree"]), told["truncated"]) == (2, True)
    assert get(github, f"{repo}/git/trees/absent").status_code == 404


def test_contents(github: GitHubServer, repo: str) -> None:
    made = github.repositories[repo].git
    told = get(github, f"{repo}/contents/docs/%C3%BC%20b.txt").json()
    assert base64.b64decode(told["content"]) == made.read("main", "docs/ü b.txt")
    assert httpx.get(told["download_url"], headers={"Range": "bytes=0-0"}).content == b"\xc3"
    assert get(github, f"{repo}/contents/link").json()["target"] == "README.md"
    assert {item["name"]: item["type"] for item in get(github, f"{repo}/contents/").json()} == {
        "README.md": "file",
        "docs": "dir",
        "link": "symlink",
        "src": "dir",
    }
    old = get(github, f"{repo}/contents/README.md?ref={made.commits[2]}", Accept="application/vnd.github.raw+json")
    assert old.content == b"two\n"
    same = {"Accept": "application/vnd.github.raw+json", "If-None-Match": old.headers["etag"]}
    assert get(github, f"{repo}/contents/README.md?ref=v1", **same).status_code == 304
    for absent in ("no", "README.md/no", "data/bin", "README.md?ref=nope"):
        assert get(github, f"{repo}/contents/{absent}").status_code == 404
    made.commit({"big": bytes((1 << 20) + 1)})
    big = get(github, f"{repo}/contents/big")
    assert (big.json()["content"], big.json()["encoding"], big.json()["size"]) == ("", "none", (1 << 20) + 1)
    assert (
        len(get(github, f"{repo}/git/blobs/{big.json()['sha']}", Accept="application/vnd.github.raw").content) > 1 << 20
    )


def test_commits_and_refs(github: GitHubServer, repo: str) -> None:
    made = github.repositories[repo].git
    first = get(github, f"{repo}/commits?path=README.md&per_page=2")
    assert [commit["sha"] for commit in first.json()] == [made.commits[4], made.commits[2]]
    rest = httpx.get(first.links["next"]["url"])
    assert [commit["sha"] for commit in rest.json()] == [made.commits[1]]
    assert "next" not in rest.links
    assert rest.json()[0]["commit"]["committer"]["date"] == "2023-11-14T22:14:20Z"
    assert get(github, f"{repo}/commits/v1").json()["sha"] == made.commits[2]
    assert get(github, f"{repo}/commits/side", Accept="application/vnd.github.sha").text == made.commits[5]
    assert get(github, f"{repo}/commits/nope").status_code == 422
    assert get(github, f"{repo}/git/ref/heads/side").json()["object"] == {"sha": made.commits[5], "type": "commit"}
    assert get(github, f"{repo}/git/ref/tags/v1").json()["object"]["type"] == "tag"
    assert {branch["name"] for branch in get(github, f"{repo}/branches").json()} == {"main", "side"}
    assert get(github, repo).json()["default_branch"] == "main"


def test_who_may(github: GitHubServer) -> None:
    private = github.make_repo(private=True)
    assert get(github, private).status_code == 404
    assert get(github, private, Authorization="Bearer wrong").status_code == 401
    for scheme in ("Bearer", "token"):
        assert get(github, private, Authorization=f"{scheme} {github.token}").status_code == 200
    assert get(github, private, **{"User-Agent": ""}).status_code == 403
    assert set(github.options(private)) == {"org", "repo", "endpoint", "token"}
    github.calls_left = 0
    try:
        limited = get(github, private, Authorization=f"Bearer {github.token}")
    finally:
        github.calls_left = 5000
    assert (limited.status_code, limited.headers["x-ratelimit-remaining"]) == (403, "0")


def test_fsspec(github: GitHubServer) -> None:
    private = github.make_repo(private=True)

    class Here(GithubFileSystem):
        url = f"{github.endpoint}/repos/{{org}}/{{repo}}/git/trees/{{sha}}"
        content_url = f"{github.endpoint}/repos/{{org}}/{{repo}}/contents/{{path}}?ref={{sha}}"

    org, name = private.split("/")
    fs = Here(org, name, "main", username=github.username, token=github.token, skip_instance_cache=True)
    assert sorted(fs.find("")) == sorted(FILES)
    assert fs.cat_file("src/new.py") == b"new\n"
    with pytest.raises(FileNotFoundError):
        fs.cat_file("absent")
