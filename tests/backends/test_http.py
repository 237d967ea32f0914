"""The http type: the suite over Caddy, whose folder is the witness, and what is its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from genro_storage import StorageManager
from genro_storage.backends.http import HttpBackend, HttpOptions, links
from genro_storage.backends.local import LocalOptions, LocalStorage
from genro_storage.backends.options import Context, Duration, Secret
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.mount import Mount
from genro_storage.retry import RetryPolicy
from genro_storage.testing import BackendSuite
from genro_storage.testing.suite import WORDS
from tests.backends.http_tools import Witnessed
from tests.servers.caddy import Caddy
from tests.servers.inprocess import HttpServer, Reply, Request
from tests.servers.process import HOST, free_ports


def of(url: str, **keys: object) -> HttpBackend:
    return HttpBackend(HttpOptions(base_url=url, **keys))  # type: ignore[arg-type]


class TestHttp(BackendSuite):
    lacks = WORDS - {
        *("case_sensitive", "mkdir", "mtime", "ordered", "public_url"),
        *("real_dirs", "rmdir", "surrogates", "tells_missing"),
    }
    lent = frozenset({"mkdir", "rmdir"})
    written_by = "a folder"
    payloads = 50

    @pytest.fixture
    def backend(self, caddy: Caddy) -> Iterator[Witnessed]:
        root = caddy.make_root()
        read = of(f"{caddy.endpoint}{root}", index="html")
        yield Witnessed(read, LocalStorage(LocalOptions(path=str(caddy.local(root)))))
        read.close()


class Scripted(HttpServer):
    """Answers as a function says; `seen` are the requests."""

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        super().__init__()
        self._answer = answer
        self.seen: list[Request] = []

    def answer(self, request: Request) -> Reply:
        self.seen.append(request)
        return self._answer(request)


def mounted(backend: HttpBackend, retries: int = 0) -> Mount:
    return Mount("m", backend, retry=RetryPolicy(retries, 0.05))


@pytest.fixture
def root(caddy: Caddy) -> str:
    root = caddy.make_root()
    caddy.local(f"{root}/d").mkdir()
    caddy.local(f"{root}/d/\u00fc b#").write_bytes(bytes(range(100)))
    return root


# --- configuration ---


@pytest.mark.parametrize("key", ["base_url", "url", "base_path"])
@pytest.mark.parametrize("kind", ["http", "https"])
def test_keys(caddy: Caddy, root: str, key: str, kind: str) -> None:
    with StorageManager([{"name": "w", "type": kind, key: f"{caddy.endpoint}{root}/"}]) as storage:
        node = storage.node("w:d/\u00fc b#")
        assert node.read_bytes() == bytes(range(100))
        with pytest.raises(UnsupportedOperation, match="read-only"):
            node.write_bytes(b"")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"base_url": "ftp://h/x"}, "not an http or https URL"),
        ({"base_url": "https://u:hunter2@"}, "not an http or https URL"),
        ({"base_url": "http://h", "token": "a", "password": "b"}, "two ways"),
        ({"base_url": "http://h", "cert": "absent.pem"}, "cannot be used"),
        ({"base_url": "http://h", "index": "xml"}, "index"),
        ({}, "base_url"),
    ],
)
def test_what_cannot_be_configured(keys: dict[str, str], told: str) -> None:
    with pytest.raises(StorageConfigError, match=told) as caught:
        StorageManager([{"name": "w", "type": "http", **keys}])
    assert "hunter2" not in str(caught.value)


def test_credentials_reach_the_server(caddy: Caddy, root: str) -> None:
    for place in ("basic", "bearer"):
        keys = caddy.options(root, place)
        with StorageManager([{"name": "w", "type": "http", **keys}]) as storage:
            assert storage.node("w:d/\u00fc b#").size == 100
        with pytest.raises(StoragePermissionError, match="credentials"):
            of(keys["base_url"]).get("d/\u00fc b#")
    inside = caddy.options(root, "basic")["base_url"].replace("://", f"://{caddy.username}:{caddy.password}@")
    with StorageManager([{"name": "w", "type": "http", "base_url": inside}]) as storage:
        assert storage.node("w:d/\u00fc b#").size == 100
        assert caddy.password not in repr(storage.mounts["w"])
        assert caddy.password not in str(storage.node("w:d").url())
    denied = of(caddy.options(root, "denied")["base_url"])
    with pytest.raises(StoragePermissionError):
        denied.stat("d/x")


def test_tls_is_verified(caddy_tls: Caddy) -> None:
    root = caddy_tls.make_root()
    caddy_tls.local(f"{root}/k").write_bytes(b"1")
    url = f"{caddy_tls.endpoint}{root}"
    with pytest.raises(StorageUnavailableError, match="verify_tls") as caught:
        mounted(of(url), retries=3).get("k")
    assert not caught.value.retryable
    assert of(url, cert=str(caddy_tls.cert_file)).get("k")[0] == b"1"
    assert of(url, verify_tls=False).get("k")[0] == b"1"


# --- reading ---


def test_facts_are_those_of_the_server(caddy: Caddy, root: str) -> None:
    """R10: an ETag is an etag, and no hash."""
    backend = of(f"{caddy.endpoint}{root}")
    stat = backend.stat("d/\u00fc b#")
    assert (stat.size, stat.hashes, backend.features.hashes) == (100, {}, frozenset())
    assert stat.mtime == int(caddy.local(f"{root}/d/\u00fc b#").stat().st_mtime)
    assert stat.etag
    assert backend.get("d/\u00fc b#", if_match=stat.etag)[1] == backend.get("d/\u00fc b#", 1, 2)[1]
    for read in (backend.get, backend.reader):
        for span in ((0, None), (5, 9), (3, 3), (200, None)):
            with pytest.raises(StorageConflictError):
                read("d/\u00fc b#", *span, if_match='"other"')


def test_without_an_index_nothing_is_listed(caddy: Caddy, root: str) -> None:
    mount = mounted(of(f"{caddy.endpoint}{root}"))
    assert (mount.is_dir("d"), mount.is_file("d"), mount.exists("d"), mount.exists("no")) == (True, False, True, False)
    with pytest.raises(UnsupportedOperation, match="index"):
        list(mount.scan("d"))
    with pytest.raises(StorageIsADirectoryError):
        mount.get("d")
    plain = mounted(of(f"{caddy.endpoint}/plain{root}", index="html"))
    with pytest.raises(StorageNotFoundError):
        list(plain.scan("no"))
    with pytest.raises(StorageNotADirectoryError):
        list(plain.scan("d/\u00fc b#"))


@pytest.mark.parametrize("status", [405, 501])
def test_a_server_without_head_and_ranges(status: int) -> None:
    data = bytes(range(200))
    answer = lambda request: Reply(status if request.method == "HEAD" else 200, data)  # noqa: E731
    with Scripted(answer) as server:
        backend = of(server.endpoint)
        assert backend.stat("k").size == 200
        for start, end in ((0, None), (10, 20), (190, 300), (-5, None), (-500, None), (200, None), (5, 5)):
            expected = data[start:] if start < 0 else data[start:end]
            assert backend.get("k", start, end)[0] == expected
        backend.close()


def test_a_body_of_unknown_length() -> None:
    def answer(request: Request) -> Reply:
        return Reply(200, b"5\r\nhello\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"})

    with Scripted(answer) as server:
        backend = of(server.endpoint)
        assert backend.get("k")[0] == b"hello"
        assert backend.get("k", -2)[0] == b"lo"
        assert backend.get("k", 1, 3)[0] == b"el"
        assert backend.stat("k").size is None
        backend.close()


def test_another_range_than_asked_is_an_error() -> None:
    wrong = Reply(206, b"xx", {"Content-Range": "bytes 0-1/9"})
    with Scripted(lambda request: wrong) as server, pytest.raises(StorageError, match="another range"):
        of(server.endpoint).get("k", 5, 7)


def test_encoding_is_not_undone() -> None:
    """What the server stores is what is read, and nothing compressed is asked for."""
    with Scripted(lambda request: Reply(200, b"\x1f\x8bnot gzip", {"Content-Encoding": "gzip"})) as server:
        assert of(server.endpoint).get("k")[0] == b"\x1f\x8bnot gzip"
        assert server.seen[0].headers["accept-encoding"] == "identity"


def test_urls_are_exact() -> None:
    with Scripted(lambda request: Reply(200, request.target.encode())) as server:
        backend = of(f"{server.endpoint}/b%20c/?sig=a%2Fb", path="r/s")
        name = "100%/%2F/a b#?&+;\u00fc"
        wanted = "/b%20c/r/s/100%25/%252F/a%20b%23%3F&+%3B%C3%BC?sig=a%2Fb"
        assert backend.get(name)[0].decode() == wanted
        assert backend.public_url(name) == server.endpoint + wanted
        for climbing in ("..", "a/../b", "."):
            with pytest.raises(StoragePathError):
                backend.get(climbing)


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (400, StorageError, False),
        (401, StoragePermissionError, False),
        (403, StoragePermissionError, False),
        (404, StorageNotFoundError, False),
        (410, StorageNotFoundError, False),
        (408, StorageTimeoutError, True),
        (429, StorageUnavailableError, True),
        (500, StorageUnavailableError, True),
        (503, StorageUnavailableError, True),
        (300, StorageError, False),
    ],
)
def test_refusals(status: int, error: type[StorageError], retryable: bool) -> None:
    with Scripted(lambda request: Reply(status, b"", {"Retry-After": "7"})) as server:
        mount = mounted(of(server.endpoint))
        for verb in (mount.stat, mount.get, mount.reader):
            with pytest.raises(error, match="m:k") as caught:
                verb("k")
            assert caught.value.retryable is retryable
            assert caught.value.retry_after == (7.0 if retryable else None)


def test_unreachable_is_never_false() -> None:
    (port,) = free_ports(1)
    mount = mounted(of(f"http://{HOST}:{port}", index="html"))
    for verb in (mount.exists, mount.is_file, mount.is_dir, mount.get, lambda path: list(mount.scan(path))):
        with pytest.raises(StorageUnavailableError):
            verb("k")


def test_a_silent_server_is_a_timeout() -> None:
    import threading

    over = threading.Event()

    def silent(request: Request) -> Reply:
        over.wait(60)
        return Reply(200)

    with Scripted(silent) as server:
        started = time.monotonic()
        with pytest.raises(StorageTimeoutError):
            mounted(of(server.endpoint, timeout=Duration(0.3))).get("k")
        assert time.monotonic() - started < 50
        over.set()


# --- redirects ---


def test_a_redirect_is_followed(caddy: Caddy, root: str) -> None:
    backend = of(caddy.options(root, "moved")["base_url"])
    assert backend.get("d/\u00fc b#", 1, 3)[0] == b"\1\2"


def test_credentials_stay_with_their_server() -> None:
    with Scripted(lambda request: Reply(200, b"theirs")) as other:
        with Scripted(lambda request: Reply(302, b"", {"Location": f"{other.endpoint}/x"})) as server:
            backend = of(server.endpoint, token=Secret("s3cret"), headers={"X-Api-Key": "s3cret"})
            assert backend.get("k")[0] == b"theirs"
            assert server.seen[0].headers["x-api-key"] == "s3cret"
            assert server.seen[0].headers["authorization"] == "Bearer s3cret"
        assert "s3cret" not in str(other.seen[0].headers)


@pytest.mark.parametrize("target", ["/k", "ftp://h/x", "http://[", ""])
def test_redirects_that_lead_nowhere(target: str) -> None:
    with Scripted(lambda request: Reply(302, b"", {"Location": target} if target else {})) as server:
        with pytest.raises(StorageError):
            mounted(of(server.endpoint)).get("k")
        assert len(server.seen) <= 6


# --- pages of links ---


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("a", "a"),
        ("./a%20b", "a b"),
        ("/x/y/d/", "d/"),
        ("http://h/x/y/f", "f"),
        ("a&amp;b", "a&b"),
        ("%25", "%"),
        ("%ff", "\udcff"),
        *[
            (href, None)
            for href in ("?C=N;O=D", "../", "/x/", "/x/y/", "d/e", "http://other/x/y/f", "#top", "./", "%2F")
        ],
        *[(href, None) for href in ("mailto:x@y", "javascript:void(0)", "https://h/x/y/f", "http://[/", "%2e%2e/", "")],
    ],
)
def test_links(href: str, name: str | None) -> None:
    assert list(links(f'<p><a class=x href="{href}">t</a>', "http://h/x/y/")) == ([name] if name else [])


# --- processes ---


def _child(backend: HttpBackend, results: object) -> None:
    results.put(backend.get("d/\u00fc b#")[0])  # type: ignore[attr-defined]


def test_fork_and_pickle(caddy: Caddy, root: str) -> None:
    backend = of(f"{caddy.endpoint}{root}", path="d")
    assert pickle.loads(pickle.dumps(backend)).get("\u00fc b#")[0] == bytes(range(100))
    backend = HttpBackend(HttpOptions(base_url=f"{caddy.endpoint}{root}"), Context())  # type: ignore[arg-type]
    backend.stat("d")
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    children = [fork.Process(target=_child, args=(backend, results)) for _ in range(8)]
    for child in children:
        child.start()
    assert [results.get(timeout=100) for _ in children] == [bytes(range(100))] * 8
    for child in children:
        child.join(30)
    assert backend.get("d/\u00fc b#")[0] == bytes(range(100))


def test_connections_are_reused_and_closed(caddy: Caddy, root: str) -> None:
    backend = of(f"{caddy.endpoint}{root}", max_connections=8)
    mount = mounted(backend, retries=3)  # httpcore may close a connection under the thread that has just taken it
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda n: mount.get("d/\u00fc b#", n, n + 1)[0], range(100)))
    assert found == [bytes([n]) for n in range(100)]
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        reader = backend.reader("d/\u00fc b#")
        reader.read(10)
        reader.close()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    backend.close()
    assert len(os.listdir("/proc/self/fd")) < before
    assert backend.stat("d").is_dir, "a closed backend connects anew"
    backend.close()


def test_a_forgotten_backend_leaves_no_connection(caddy: Caddy, root: str) -> None:
    def forgotten() -> None:
        of(f"{caddy.endpoint}{root}").stat("d")

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        forgotten()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


# --- URLs without a mount ---


def test_urls(caddy: Caddy, root: str) -> None:
    with StorageManager(urls=True) as storage:
        node = storage.node(f"{caddy.endpoint}{root}/d/%C3%BC%20b%23")
        assert node.read_bytes() == bytes(range(100))
        assert node.basename == "\u00fc b#"
        assert node.url() == f"{caddy.endpoint}{root}/d/%C3%BC%20b%23"
        assert node.fullpath == f"{caddy.endpoint}{root}/d/%C3%BC%20b%23"
        assert storage.node(node.fullpath) == node
        assert storage.node(f"{caddy.endpoint}/%2520").fullpath == f"{caddy.endpoint}/%2520"
        for odd in ("/a?x=1", "/a#b", "/a%2Fb"):
            with pytest.raises(StoragePathError, match=r"base_url|%2F"):
                storage.node(caddy.endpoint + odd)


def test_requests_per_verb() -> None:
    """What docs/backends/http.rst says."""

    def answer(request: Request) -> Reply:
        if request.headers.get("range") == "bytes=9-":
            return Reply(416, b"", {"Content-Range": "bytes */2"})
        return Reply(200, b"ab", {"Content-Type": "text/html"})

    with Scripted(answer) as server:
        mount = mounted(of(server.endpoint, index="html"))
        verbs: list[tuple[Callable[[], object], list[str]]] = [
            *(
                (lambda verb=verb: verb("k"), ["HEAD"])
                for verb in (mount.stat, mount.exists, mount.is_file, mount.is_dir)
            ),
            (lambda: mount.get("k"), ["GET"]),
            (lambda: mount.reader("k").close(), ["GET"]),
            (lambda: mount.get("k", 9), ["GET", "HEAD"]),
            (lambda: list(mount.scan("k")), ["GET"]),
        ]
        for verb, wanted in verbs:
            server.seen.clear()
            verb()
            assert [request.method for request in server.seen] == wanted
