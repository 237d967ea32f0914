"""Azure Blob storage over Azurite and a server with versions: the acceptance suite, and what only this type has."""

from __future__ import annotations

import itertools
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from genro_storage import StorageManager
from genro_storage.backends._azure import client, listing
from genro_storage.backends._azure import writer as azure_writer
from genro_storage.backends._azure.client import AzureOptions
from genro_storage.backends._azure.facts import escaped, plain
from genro_storage.backends.azure import AzureBackend
from genro_storage.exceptions import (
    StorageConfigError,
    StorageConflictError,
    StorageError,
    StorageExistsError,
    StorageNotFoundError,
    StoragePathError,
    StoragePermissionError,
    StorageTimeoutError,
    StorageUnavailableError,
    UnsupportedOperation,
)
from genro_storage.testing import BackendSuite, versions
from genro_storage.types import SignOptions, WriteOptions
from tests.servers.azure import AzureEndpoint
from tests.servers.faultproxy import FaultProxy

Open = Callable[..., AzureBackend]
_roots = itertools.count(1)

LACKS = frozenset(
    {
        *("edit", "free_space", "keeps_mode", "public_url", "readlink", "real_dirs", "rename_from"),
        *("set_mode", "surrogates", "symlink", "unfinished"),
    }
)


@pytest.fixture
def opened(azurite: AzureEndpoint) -> Iterator[Open]:
    """Makes backends over a new container (or `container=`) of Azurite or of `server=`; closes them."""
    made: list[AzureBackend] = []

    def make(server: AzureEndpoint = azurite, **keys: Any) -> AzureBackend:
        container = keys.pop("container", None) or server.make_container()
        options = {key: value for key, value in (server.options(container) | keys).items() if value is not None}
        made.append(AzureBackend(AzureOptions(**options)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(opened: Open) -> AzureBackend:
    return opened()


@pytest.fixture
def proxy(azurite: AzureEndpoint) -> Iterator[FaultProxy]:
    with FaultProxy(azurite.endpoint.rpartition("/")[0]) as running:
        yield running


@pytest.fixture
def proxied(opened: Open, azurite: AzureEndpoint, proxy: FaultProxy) -> AzureBackend:
    container = azurite.make_container()
    return opened(azurite.through(proxy.endpoint), container=container, timeout=2, connect_timeout=1)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(azure_writer, "BLOCK", 100_000)
    return 100_000


class Azure(BackendSuite):
    """Azure takes neither control characters in names nor @ in tags."""

    names = tuple(name for name in BackendSuite.names if all(" " <= char != "\x7f" for char in name))

    test_delete_many = None  # has a name with a line break; see `test_many_are_deleted`

    @pytest.fixture(autouse=True)
    def _tags(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(versions, "TAGS", {"team": "storage", "cost centre": "a/b+c:d_e.f-g=1", "empty": ""})


class TestAzurite(Azure):
    lacks = LACKS | {"own_versions", "versions"}

    def test_tags(self, backend: AzureBackend) -> None:  # type: ignore[override]
        """Azurite refuses empty tags in a document, which Azure takes: those are in `test_tags_go_with_a_write`."""
        backend.put("f", b"1")
        for tags in ({"a": "1", "b c": "+-./:=_"}, {f"key {number}": "v" * 256 for number in range(10)}, {}):
            backend.set_tags("f", tags)
            assert backend.get_tags("f") == tags
        for verb in (lambda: backend.set_tags("absent", {"a": "b"}), lambda: backend.get_tags("absent")):
            with pytest.raises(StorageNotFoundError):
                verb()

    @pytest.fixture
    def backend(self, opened: Open) -> AzureBackend:
        return opened(path=f"case {next(_roots)}/ü", version_aware=False)


class TestAzureVersions(Azure):
    lacks = LACKS

    @pytest.fixture
    def backend(self, opened: Open, azure_versions: AzureEndpoint) -> AzureBackend:
        return opened(azure_versions)


# --- requests ---


@pytest.mark.parametrize(
    ("verb", "requests"),
    [
        (lambda b: b.stat("d/f"), ["HEAD"]),
        (lambda b: b.get("d/f"), ["GET"]),
        (lambda b: b.get("d/f", 1, 3), ["GET"]),
        (lambda b: b.get("d/f", -2), ["HEAD", "GET"]),
        (lambda b: b.reader("d/f").read(), ["GET"]),
        (lambda b: b.put("d/g", b"1", WriteOptions(if_absent=True, mtime=1.5, tags={"a": "b"})), ["PUT"]),
        (lambda b: b.delete("d/f"), ["DELETE"]),
        (lambda b: b.copy_from(b, "d/f", "e"), ["PUT", "HEAD"]),
        (lambda b: list(b.scan("d")), ["GET"]),
        (lambda b: list(b.walk("")), ["GET"]),
        (lambda b: b.set_metadata("d/f", {"a": "1"}), ["HEAD", "PUT"]),
        (lambda b: b.set_mtime("d/f", 1.5), ["HEAD", "PUT"]),
        (lambda b: b.get_tags("d/f"), ["GET"]),
        (lambda b: b.set_tags("d/f", {"a": "b"}), ["PUT"]),
        (lambda b: b.sign("d/f", "GET", 60, SignOptions()), []),
    ],
)
def test_requests_per_verb(
    proxied: AzureBackend, proxy: FaultProxy, verb: Callable[[AzureBackend], object], requests: list[str]
) -> None:
    proxied.put("d/f", b"12345")
    proxy.forget()
    verb(proxied)
    assert [request.method for request in proxy.log] == requests


# --- many at once ---


def test_many_are_deleted(opened: Open, azurite: AzureEndpoint, proxy: FaultProxy) -> None:
    """Exactly these, in batches of 256; what is absent is no failure, a name that Azure cannot hold is one."""
    container = azurite.make_container()
    backend = opened(azurite.through(proxy.endpoint), container=container, path="p q/#")
    names = [f"d/{number} *%&=ü~" for number in range(260)]
    for name in [*names, "d/1"]:
        backend.put(name, b"")
    proxy.forget()
    [(path, error)] = backend.delete_many([*names, "d/absent", "a\nb"])
    assert (path, type(error)) == ("a\nb", StoragePathError)
    assert [(request.method, request.status) for request in proxy.log] == [("POST", 202)] * 2
    assert list(azurite.blobs(container)) == ["p q/#/d/1"]
    assert list(backend.delete_many([])) == []


def test_what_stays_of_many_is_told(opened: Open, azurite: AzureEndpoint) -> None:
    """Each call of a batch has an answer of its own; a container that is missing is one for all."""
    container = azurite.make_container()
    backend = opened(container=container)
    for name in ("a", "b", "c"):
        backend.put(name, b"1")
    with azurite.client() as client, client.get_blob_client(container, "b") as blob:
        lease = blob.acquire_lease()
        [(path, error)] = backend.delete_many(["a", "b", "c"])
        lease.release()
    assert (path, [entry.path for page in backend.walk("") for entry in page]) == ("b", ["b"])
    assert isinstance(error, StorageError)
    with pytest.raises(StorageNotFoundError, match="container 'genro-absent'"):
        list(opened(container="genro-absent").delete_many(["a"]))


def test_many_by_a_shared_access_signature(opened: Open, azurite: AzureEndpoint) -> None:
    container = azurite.make_container()
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    given = generate_container_sas(
        azurite.account_name,
        container,
        account_key=azurite.account_key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    backend = opened(container=container, account_key=None, sas_token=given)
    backend.put("a", b"1")
    backend.put("b", b"1")
    assert list(backend.delete_many(["a"])) == []
    assert list(azurite.blobs(container)) == ["b"]


def test_a_server_without_batches(opened: Open, azure_versions: AzureEndpoint) -> None:
    backend = opened(azure_versions)
    for name in ("a", "b", "c"):
        backend.put(name, b"1")
    assert list(backend.delete_many(["a", "absent", "c"])) == []
    assert [entry.path for page in backend.walk("") for entry in page] == ["b"]


# --- options ---


def test_accounts_and_rights(opened: Open, azurite: AzureEndpoint) -> None:
    """A connection string; a shared access signature; nobody; a wrong key."""
    container = azurite.make_container()
    opened(container=container).put("d/f", b"1")
    none: dict[str, Any] = {"account_name": None, "account_key": None, "endpoint": None}
    by_string = opened(container=container, connection_string=azurite.connection_string, **none)
    assert by_string.get("d/f")[0] == b"1"
    signed = by_string.sign("d/f", "GET", 60, SignOptions())
    shared = opened(container=container, account_key=None, sas_token="?" + signed.url.partition("?")[2])
    assert shared.get("d/f")[0] == b"1"
    assert "sign" not in shared.abilities
    with pytest.raises(StoragePermissionError):
        shared.put("d/f", b"")
    anonymous = opened(container=container, account_key=None, credential="anon")
    assert anonymous.public_url("d/a b") == f"{azurite.endpoint}/{container}/d/a%20b"
    for ask in (lambda: anonymous.get("d/f"), lambda: list(anonymous.scan("")), lambda: anonymous.put("f", b"")):
        with pytest.raises((StoragePermissionError, StorageNotFoundError)):
            ask()
    wrong = opened(container=container, account_key="d3Jvbmc=")
    for ask in (lambda: wrong.has("d/f"), lambda: list(wrong.scan("")), lambda: wrong.put("d/f", b"")):
        with pytest.raises(StoragePermissionError):
            ask()


def test_an_account_must_be_named() -> None:
    with pytest.raises(StorageConfigError, match="account_name"):
        AzureBackend(AzureOptions(container="c"))
    with pytest.raises(StorageConfigError, match="connection_string"):
        AzureBackend(AzureOptions(container="c", connection_string="nonsense"))  # type: ignore[arg-type]
    assert AzureBackend(AzureOptions(container="c", account_name="a")).storage_id == (
        "azure:https://a.blob.core.windows.net"
    )


def test_a_mount_by_its_alias(azurite: AzureEndpoint) -> None:
    options = azurite.options(azurite.make_container())
    storage = StorageManager()
    storage.configure([{"name": "a", "type": "az", "path": "p", **options}])
    node = storage.node("a:d/f.txt")
    node.write_bytes(b"1")
    assert azurite.blobs(options["container"]) == {"p/d/f.txt": b"1"}
    assert node.hash("md5") == "c4ca4238a0b923820dcc509a6f75849b"


def test_client_options_reach_urllib3(proxied: AzureBackend, opened: Open, proxy: FaultProxy) -> None:
    proxied.put("f", b"12")
    options = {"client_options": {"maxsize": 1}, "timeout": 0.5, "endpoint": proxied.options.endpoint}
    backend = opened(container=proxied.options.container, **options)
    with closing(backend.reader("f")), pytest.raises(StorageTimeoutError, match="connections are busy"):
        backend.get("f")
    assert backend.get("f")[0] == b"12"


# --- errors ---


def test_absent_containers(opened: Open) -> None:
    absent = opened(container="no-such-container")
    for ask in (lambda: absent.stat("f"), lambda: list(absent.scan("d")), lambda: absent.put("f", b"")):
        with pytest.raises(StorageNotFoundError, match="container 'no-such-container' does not exist"):
            ask()


def test_unreachable_and_silent_servers(proxied: AzureBackend, proxy: FaultProxy) -> None:
    proxy.blackhole()
    with pytest.raises(Exception) as caught:
        proxied.stat("f")
    assert isinstance(proxied.translate(caught.value), StorageTimeoutError)  # type: ignore[arg-type]
    proxy.refuse()
    with pytest.raises(Exception) as caught:
        proxied.stat("f")
    assert isinstance(proxied.translate(caught.value), StorageUnavailableError)  # type: ignore[arg-type]
    proxy.answer(503)
    with pytest.raises(StorageUnavailableError):
        proxied.stat("f")


# --- metadata and tags ---


@pytest.mark.parametrize("name", ["plain", "with-dash", "1st", "a.b", "_x", "a_x2d_b", "__x", "-", "x_", "a_b"])
def test_metadata_keys_are_identifiers_on_the_wire(name: str) -> None:
    assert escaped(name).isidentifier()
    assert plain(escaped(name)) == name


def test_tags_of_other_characters_are_refused_at_once(backend: AzureBackend) -> None:
    backend.put("f", b"1")
    with pytest.raises(ValueError, match="Azure takes letters"):
        backend.set_tags("f", {"a": "b@c"})
    with pytest.raises(ValueError, match="Azure takes letters"):
        backend.put("f", b"2", WriteOptions(tags={"a": "b@c"}))
    assert (backend.get("f")[0], backend.get_tags("f")) == (b"1", {})


def test_facts_are_the_same_from_every_side(backend: AzureBackend) -> None:
    made = backend.put("d/f", b"12", WriteOptions(content_type="a/b", metadata={"k-1": "日本"}, mtime=1.25))
    facts = backend.stat("d/f")
    ((listed,),) = backend.scan("d")
    for stat in (made, listed, backend.get("d/f")[1], backend.get("d/f", 0, 1)[1]):
        for name in ("path", "size", "mtime", "etag", "content_type", "hashes", "metadata"):
            assert getattr(stat, name) == getattr(facts, name), name


# --- versions and copies ---


def test_all_versions_are_erased(azure_versions: AzureEndpoint) -> None:
    """Also after a deletion, which must not be taken back on the way."""
    options = azure_versions.options(azure_versions.make_container())
    storage = StorageManager()
    storage.configure([{"name": "a", "type": "azure", **options}])
    node = storage.node("a:f")
    node.write_bytes(b"1")
    node.write_bytes(b"2")
    node.delete()
    node.undelete()
    assert node.read_bytes() == b"2"
    node.delete()
    node.delete(all_versions=True)
    assert list(node.list_versions()) == []


def test_a_copy_with_another_type_is_left_to_a_stream(opened: Open) -> None:
    source, target = opened(), opened()
    source.put("f", b"1", WriteOptions(content_type="a/b", metadata={"k": "v"}, mtime=5.5))
    made = target.copy_from(source, "f", "g", WriteOptions(content_type="a/b", mtime=6.5))
    assert (made.content_type, made.metadata, made.mtime) == ("a/b", {"k": "v"}, 6.5)
    with pytest.raises(UnsupportedOperation):
        target.copy_from(source, "f", "h", WriteOptions(content_type="c/d"))
    with pytest.raises(StorageExistsError):
        target.copy_from(source, "f", "g", WriteOptions(if_absent=True))
    assert [entry.path for page in target.scan("") for entry in page] == ["g"]


# --- uploads ---


@pytest.mark.parametrize("per_size", [5000, 1])
def test_an_upload_in_blocks(
    backend: AzureBackend, azurite: AzureEndpoint, small_blocks: int, per_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T43: blocks that grow wait in a file, and in memory is never more than the first ones had."""
    monkeypatch.setattr(azure_writer, "BLOCKS_PER_SIZE", per_size)
    data = os.urandom(3 * small_blocks + 5)
    writer = backend.writer("f", WriteOptions(content_type="a/b", metadata={"k": "v"}, mtime=7.0, tags={"a": "b"}))
    for start in range(0, len(data), 30_000):
        writer.write(data[start : start + 30_000])
        assert len(writer._buffer) <= small_blocks
    assert not backend.has("f")
    stat = writer.commit()
    assert azurite.blobs(backend.options.container) == {"f": data}
    found = backend.stat("f")
    assert (found.content_type, found.metadata, found.mtime, found.size) == ("a/b", {"k": "v"}, 7.0, len(data))
    assert (found.hashes, found.etag) == (stat.hashes, stat.etag)
    assert backend.get_tags("f") == {"a": "b"}


def test_somebody_who_writes_during_an_upload_wins(
    opened: Open, azure_versions: AzureEndpoint, small_blocks: int
) -> None:
    """Azure drops the blocks then; Azurite keeps them, so that the later one wins there."""
    backend = opened(azure_versions)
    for options in (WriteOptions(), WriteOptions(if_absent=True)):
        writer = backend.writer("f", options)
        writer.write(bytes(2 * small_blocks))
        backend.put("f", b"other")
        with pytest.raises((StorageConflictError, StorageExistsError)):
            writer.commit()
        writer.discard()
        assert backend.get("f")[0] == b"other"
        backend.delete("f")


@pytest.mark.parametrize("fault", ["refuse", "lose_answer", "answer"])
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_fault_in_an_upload_loses_nothing(
    proxied: AzureBackend, proxy: FaultProxy, small_blocks: int, fault: str, place: int
) -> None:
    """Whichever request fails, and whether or not it was done: going on gives one blob of these bytes."""
    data = os.urandom(2 * small_blocks + 9)
    sent, opened = itertools.count(), proxied._client.web.open

    def spoiled(*args: Any) -> Any:
        if next(sent) == place:
            proxy.answer(503) if fault == "answer" else getattr(proxy, fault)()
        return opened(*args)

    proxied._client.web.open = spoiled  # type: ignore[method-assign]
    writer, failures = proxied.writer("f", WriteOptions(if_absent=True)), 0
    try:
        writer.write(data)
    except Exception:  # noqa: BLE001 - whatever the driver says
        failures += 1
        writer.write(b"")
    try:
        writer.commit()
    except Exception:  # noqa: BLE001 - whatever the driver says
        failures += 1
        writer.commit()
    assert failures == 1
    assert proxied.get("f")[0] == data


# --- processes ---


def test_pickled_and_forked(backend: AzureBackend) -> None:
    backend.put("f", b"123")
    assert pickle.loads(pickle.dumps(backend)).get("f")[0] == b"123"
    reader = backend.reader("f")
    child = os.fork()
    if child == 0:
        fine = backend.get("f")[0] == b"123"
        try:
            reader.read()
        except StorageError as error:
            fine = fine and "forked" in str(error)
        else:
            fine = False
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert reader.read() == b"123"


def test_fs_reaches_the_same_bytes(backend: AzureBackend) -> None:
    backend.put("d/f", b"12")
    assert backend.fs.cat_file(backend.native_path("d/f")) == b"12"


# --- a listing in its middle ---

LISTED = [f"d/{number:02}" for number in range(40)]


def after_30(backend: AzureBackend) -> list[str]:
    """The next two files by `walk`, then by `scan`."""
    return [
        entry.path
        for pages in (backend.walk("d", after="d/30", limit=2), backend.scan("d", after="d/30", limit=2))
        for page in pages
        for entry in page
    ]


def test_a_listing_begins_where_it_was_told(proxied: AzureBackend, proxy: FaultProxy) -> None:
    for name in LISTED:
        proxied.put(name, b"1")
    proxy.forget()
    assert after_30(proxied) == ["d/31", "d/32"] * 2
    assert len(proxy.log) == 2
    for request in proxy.log:
        assert "startFrom=d%2F30" in request.query
        assert request.headers["x-ms-version"] == listing.STARTS
    assert [entry.path for page in proxied.walk("", limit=1) for entry in page] == ["d/00"]
    assert "startFrom" not in proxy.log[-1].query
    assert proxy.log[-1].headers["x-ms-version"] == client.VERSION


def test_a_service_that_refuses_the_start(proxied: AzureBackend, proxy: FaultProxy) -> None:
    """One that is older than that version: it is asked once, then for all names, many at once."""
    for name in LISTED:
        proxied.put(name, b"1")
    proxy.forget()
    proxy.answer(400, times=None, contains="startFrom")
    assert after_30(proxied) == ["d/31", "d/32"] * 2
    assert [("startFrom" in request.query, request.status) for request in proxy.log] == [
        (True, 400),
        (False, 200),
        (False, 200),
    ]
    proxy.answer(403, contains="comp=list")
    with pytest.raises(StoragePermissionError):
        after_30(proxied)


def test_a_service_that_ignores_the_start(proxied: AzureBackend, proxy: FaultProxy) -> None:
    """What comes before is passed over, and from then on many names come at once."""
    for name in LISTED:
        proxied.put(name, b"1")
    send = proxied._client.send

    def deaf(method: str, target: str, *args: Any) -> Any:
        return send(method, target.replace("&startFrom=d%2F30", ""), *args)

    proxied._client.send = deaf  # type: ignore[method-assign]
    proxy.forget()
    assert after_30(proxied) == ["d/31", "d/32"] * 2
    assert len(proxy.log) == 3
    assert [f"maxresults={listing.MOST}" in request.query for request in proxy.log] == [False, True, True]
