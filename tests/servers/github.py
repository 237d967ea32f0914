"""GitHub's REST API over real git repositories: trees, contents, commits, refs, blobs, raw files."""

from __future__ import annotations

import base64
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import quote

from .gitrepo import GIT_REMEDY, Entry, GitRepository, make_repository
from .inprocess import HttpServer, Reply, Request, as_json, byte_range
from .process import find_program

API = "/api/v3"  # as on GitHub Enterprise
RAW = "raw"
INLINE = 1 << 20  # a larger file comes without its content, by the raw media type only
_names = itertools.count(1)


class GitHubError(Exception):
    """A refusal: HTTP status and message."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


@dataclass
class Repository:
    """A repository on the server; a private one is seen (404 otherwise) with the token only."""

    git: GitRepository
    private: bool = False
    default_branch: str = "main"


@dataclass
class Call:
    """One request about a repository: which, and what behind `repos/{org}/{repo}`."""

    name: str
    repository: Repository
    request: Request
    rest: list[str] = field(default_factory=list)

    @property
    def git(self) -> GitRepository:
        return self.repository.git


class GitHubServer(HttpServer):
    """GitHub in this process; `endpoint` is that of the API (`http://127.0.0.1:P/api/v3`), as the mount key is.

    Behaviour kept: 404 for what may not be seen, 401 for a wrong token, 403 without User-Agent, the `truncated` flag,
    Link headers, ETags with 304, at most 1,000 entries of a folder in `contents`, files above 1 MiB only by the raw
    media type (`Accept: application/vnd.github.raw+json`). Ranges are served by `download_url` only, as there.
    fsspec's github class has its URLs as class attributes, so that only a subclass reaches this server; it knows Basic
    credentials (username and token) only, does not percent-encode paths and puts its own download in place of an LFS
    pointer.
    """

    server_name = "GitHub server"
    token = "ghp_genrotesttoken"
    username = "octocat"

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}  # by "org/repo"
        self.tree_limit = 100_000  # entries of a recursive tree, then it is truncated
        self.contents_limit = 1000
        self.calls_left = 5000  # of the rate limit
        self._folder = Path()

    def start(self) -> None:
        find_program("git", GIT_REMEDY)
        self._folder = Path(tempfile.mkdtemp(prefix="github-"))
        super().start()

    def stop(self) -> None:
        super().stop()
        if self._folder != Path():
            rmtree(self._folder, ignore_errors=True)

    @property
    def endpoint(self) -> str:
        return super().endpoint + API

    def make_repo(self, *, private: bool = False, make: Callable[[Path], GitRepository] = make_repository) -> str:
        """Make a repository nobody else has, with the commits of `make_repository`; returns "org/repo"."""
        name = f"genro/r{next(_names)}"
        folder = self._folder / name.replace("/", "-")
        folder.mkdir()
        self.repositories[name] = Repository(make(folder), private)
        return name

    def options(self, name: str) -> dict[str, str]:
        """The keys of a mount entry that reach this repository; a private one also gets the token."""
        org, repo = name.split("/")
        told = {"org": org, "repo": repo, "endpoint": self.endpoint}
        return told | ({"token": self.token} if self.repositories[name].private else {})

    # --- requests ---

    def answer(self, request: Request) -> Reply:
        try:
            reply = self._answer(request)
        except GitHubError as error:
            return as_json({"message": error.message}, error.status, error.headers)
        etag = reply.headers.get("ETag")
        if etag and request.headers.get("if-none-match") == etag:
            return Reply(304, b"", {"ETag": etag})
        return reply

    def _answer(self, request: Request) -> Reply:
        if not request.headers.get("user-agent"):
            raise GitHubError(403, "Request forbidden by administrative rules. Please use a User-Agent header.")
        known = self._is_known(request)
        if request.segments[0] == RAW:
            return self.raw(self._call(request, request.segments[1:], known))
        if not request.raw_path.startswith(f"{API}/repos/") or request.method not in ("GET", "HEAD"):
            raise GitHubError(404, "Not Found")
        self._spend()
        call = self._call(request, request.segments[3:], known)
        match call.rest:
            case []:
                return self.repository(call)
            case ["git", "trees", name]:
                return self.trees(call, name)
            case ["git", "blobs", sha]:
                return self.blob(call, sha)
            case ["git", "ref", *name]:
                return self.ref(call, "/".join(name))
            case ["contents", *path]:
                return self.contents(call, "/".join(path).rstrip("/"))
            case ["commits"]:
                return self.commits(call)
            case ["commits", *name]:
                return self.commit(call, "/".join(name))
            case [("branches" | "tags") as kind]:
                return self.names(call, kind)
        raise GitHubError(404, "Not Found")

    def _is_known(self, request: Request) -> bool:
        """Whether the request carries the token: as Bearer, as token, or as a Basic password."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic":
            given = base64.b64decode(given).decode().partition(":")[2]
        if given and given != self.token:
            raise GitHubError(401, "Bad credentials")
        return bool(given)

    def _spend(self) -> None:
        """One call of the rate limit."""
        if self.calls_left <= 0:
            reset = str(int(time.time()) + 60)
            raise GitHubError(
                403, "API rate limit exceeded", **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
            )
        self.calls_left -= 1

    def _call(self, request: Request, segments: list[str], known: bool) -> Call:
        name = "/".join(segments[:2])
        repository = self.repositories.get(name)
        if repository is None or (repository.private and not known):
            raise GitHubError(404, "Not Found")
        return Call(name, repository, request, segments[2:])

    def _json(self, call: Call, value: object, etag: str) -> Reply:
        headers = {"ETag": f'W/"{etag}"', "x-ratelimit-remaining": str(self.calls_left)}
        return as_json(value, 200, headers)

    def _resolved(self, call: Call, name: str, kind: str = "commit") -> str:
        found = call.git.resolve(name, kind)
        if found is None:
            raise GitHubError(404 if call.rest[0] != "commits" else 422, f"No commit found for SHA: {name}")
        return found

    # --- answers ---

    def repository(self, call: Call) -> Reply:
        org, repo = call.name.split("/")
        told = {"name": repo, "full_name": call.name, "private": call.repository.private, "owner": {"login": org}}
        return self._json(call, told | {"default_branch": call.repository.default_branch}, "repo")

    def trees(self, call: Call, name: str) -> Reply:
        """The tree of a tree's, commit's or ref's name; `recursive` with any value, even 0, means all levels."""
        tree = self._resolved(call, name, "tree")
        entries = call.git.tree(tree, recursive="recursive" in call.request.query)
        shown = [self._tree_entry(call, entry) for entry in entries[: self.tree_limit]]
        value = {"sha": tree, "tree": shown, "truncated": len(entries) > self.tree_limit}
        return self._json(call, value, tree)

    def _tree_entry(self, call: Call, entry: Entry) -> dict[str, Any]:
        url = f"{self.endpoint}/repos/{call.name}/git/{entry.kind}s/{entry.sha}"
        told = {"path": entry.path, "mode": entry.mode, "type": entry.kind, "sha": entry.sha, "url": url}
        return told | ({"size": entry.size} if entry.size is not None else {})

    def blob(self, call: Call, sha: str) -> Reply:
        found = call.git.resolve(sha, "blob")
        if found is None:
            raise GitHubError(404, "Not Found")
        data = call.git.blob(found)
        if "raw" in call.request.headers.get("accept", ""):
            return Reply(200, data, {"Content-Type": "application/vnd.github.raw+json", "ETag": f'"{found}"'})
        content = base64.encodebytes(data).decode()
        value = {"sha": found, "size": len(data), "encoding": "base64", "content": content}
        return self._json(call, value, found)

    def contents(self, call: Call, path: str) -> Reply:
        """A folder as a list, a file with its content in base64 or, when asked for, as it is."""
        ref = call.request.query.get("ref") or call.repository.default_branch
        commit = self._resolved(call, ref)
        entry = call.git.find(commit, path) if path else None
        if path and entry is None:
            raise GitHubError(404, "Not Found")
        if entry and entry.kind != "tree":
            return self._file(call, entry, ref)
        tree, prefix = (entry.sha, f"{path}/") if entry else (commit, "")
        shown = [e._replace(path=prefix + e.path) for e in call.git.tree(tree)[: self.contents_limit]]
        return self._json(call, [self._item(call, e, ref) for e in shown], tree)

    def _file(self, call: Call, entry: Entry, ref: str) -> Reply:
        data = call.git.blob(entry.sha) if entry.kind == "blob" else b""
        if "raw" in call.request.headers.get("accept", ""):
            return Reply(200, data, {"Content-Type": "application/vnd.github.raw+json", "ETag": f'"{entry.sha}"'})
        item = self._item(call, entry, ref)
        if item["type"] == "symlink":
            item["target"] = data.decode()
        elif len(data) > INLINE:
            item |= {"content": "", "encoding": "none"}
        else:
            item |= {"content": base64.encodebytes(data).decode(), "encoding": "base64"}
        return self._json(call, item, entry.sha)

    def _item(self, call: Call, entry: Entry, ref: str) -> dict[str, Any]:
        kinds = {"tree": "dir", "commit": "submodule", "blob": "symlink" if entry.mode == "120000" else "file"}
        url = f"{super().endpoint}/{RAW}/{call.name}/{quote(ref)}/{quote(entry.path)}"
        return {
            "name": entry.path.rpartition("/")[2],
            "path": entry.path,
            "sha": entry.sha,
            "size": entry.size or 0,
            "type": kinds[entry.kind],
            "download_url": url if entry.kind == "blob" else None,
        }

    def commits(self, call: Call) -> Reply:
        """The commits behind `sha` that touch `path`, newest first, in pages with a Link header."""
        query = call.request.query
        start = self._resolved(call, query.get("sha") or call.repository.default_branch)
        size, page = min(int(query.get("per_page", "30")), 100), int(query.get("page", "1"))
        found = call.git.history(start, query.get("path", ""))
        shown = [self._commit(call, sha) for sha in found[(page - 1) * size : page * size]]
        reply = self._json(call, shown, f"{start}-{page}")
        if page * size >= len(found):
            return reply
        following = "&".join(f"{n}={quote(v, safe='')}" for n, v in (query | {"page": str(page + 1)}).items())
        link = f'<{self.endpoint}/repos/{call.name}/commits?{following}>; rel="next"'
        return reply._replace(headers={**reply.headers, "Link": link})

    def commit(self, call: Call, name: str) -> Reply:
        sha = self._resolved(call, name)
        if "sha" in call.request.headers.get("accept", ""):
            return Reply(200, sha.encode(), {"Content-Type": "application/vnd.github.sha", "ETag": f'"{sha}"'})
        return self._json(call, self._commit(call, sha), sha)

    @staticmethod
    def _commit(call: Call, sha: str) -> dict[str, Any]:
        facts = call.git.git("show", "-s", "--format=%T%n%cI%n%cn%n%P%n%B", sha).decode()
        tree, moment, who, parents, message = facts.split("\n", 4)
        signed = {"name": who, "date": moment.replace("+00:00", "Z")}
        inner = {"message": message.strip(), "tree": {"sha": tree}, "committer": signed, "author": signed}
        return {"sha": sha, "commit": inner, "parents": [{"sha": parent} for parent in parents.split()]}

    def ref(self, call: Call, name: str) -> Reply:
        sha = call.git.resolve(f"refs/{name}", "object")
        if sha is None:
            raise GitHubError(404, "Not Found")
        kind = call.git.git("cat-file", "-t", sha).decode().strip()
        return self._json(call, {"ref": f"refs/{name}", "object": {"sha": sha, "type": kind}}, sha)

    def names(self, call: Call, kind: str) -> Reply:
        where = {"branches": "refs/heads", "tags": "refs/tags"}[kind]
        names = call.git.git("for-each-ref", "--format=%(refname:strip=2)", where).decode().split()
        return self._json(call, [{"name": n, "commit": {"sha": call.git.resolve(n)}} for n in names], kind)

    def raw(self, call: Call) -> Reply:
        """What raw.githubusercontent.com serves: a ref, a path, the bytes, ranges."""
        for cut in range(1, len(call.rest)):  # a branch's name may hold slashes
            commit = call.git.resolve("/".join(call.rest[:cut]))
            entry = commit and call.git.find(commit, "/".join(call.rest[cut:]))
            if entry and entry.kind == "blob":
                return self._ranged(call, entry.sha)
        raise GitHubError(404, "404: Not Found")

    @staticmethod
    def _ranged(call: Call, sha: str) -> Reply:
        data, headers = call.git.blob(sha), {"ETag": f'"{sha}"', "Accept-Ranges": "bytes", "Content-Type": "text/plain"}
        try:
            asked = byte_range(call.request.headers.get("range"), len(data))
        except LookupError:
            return Reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        if asked is None:
            return Reply(200, data, headers)
        start, end = asked
        return Reply(206, data[start:end], {**headers, "Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})
