"""S3 across threads, forks, pickles and the end of a process, and how much memory it takes."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import ipaddress
import os
import pickle
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from genro_storage.backends.s3 import S3Backend
from genro_storage.exceptions import StorageError, StorageUnavailableError
from genro_storage.mount import Mount
from genro_storage.retry import NO_RETRY
from tests.backends.processes import forks, in_children, leaks_nothing
from tests.servers.s3 import S3Endpoint

MIB = 1 << 20
Open = Callable[..., S3Backend]


@forks
@pytest.mark.timeout(200)
def test_children_open_connections_of_their_own(backend: S3Backend) -> None:
    """R37: eight children at once, while the parent's connections are in use; and the parent goes on."""
    backend.put("f", bytes(3 * MIB))

    def child(number: int) -> None:
        backend.put(f"child/{number}", b"%d" % number)
        assert backend.get(f"child/{number}")[0] == b"%d" % number
        assert len(backend.get("f")[0]) == 3 * MIB
        backend.close()

    with closing(backend.reader("f")) as reader:
        reader.read(1000)
        assert in_children(8, child) == [0] * 8
        assert len(reader.read()) == 3 * MIB - 1000
    assert backend.get("child/7")[0] == b"7"


@forks
@pytest.mark.timeout(200)
def test_open_files_do_not_cross_a_fork(backend: S3Backend, small_parts: None) -> None:
    """An inherited writer or reader says so; leaving the child neither aborts nor disturbs the parent's upload."""
    backend.put("f", bytes(3 * MIB))
    writer = backend.writer("g")
    writer.write(bytes(6 * MIB))
    reader = backend.reader("f")
    reader.read(1000)

    def child(number: int) -> None:
        for act in (lambda: reader.read(10), lambda: writer.write(b"1"), writer.commit):
            with pytest.raises(StorageError, match="forked"):
                act()
        writer.discard()
        reader.close()

    assert in_children(2, child) == [0, 0]
    assert len(reader.read()) == 3 * MIB - 1000
    assert writer.commit().size == 6 * MIB


@forks
@pytest.mark.timeout(200)
def test_a_fork_while_others_connect(opened: Open) -> None:
    """No lock that another thread held at the fork is waited for."""
    backends = [opened() for _ in range(4)]
    start = threading.Barrier(5)

    def use(backend: S3Backend) -> None:
        start.wait(60)
        backend.put("f", b"1")

    threads = [threading.Thread(target=use, args=(backend,)) for backend in backends]
    for thread in threads:
        thread.start()
    start.wait(60)
    statuses = in_children(4, lambda number: backends[number].put("child", b"1"))
    for thread in threads:
        thread.join()
    assert statuses == [0] * 4


@forks
def test_a_file_with_the_number_of_a_closed_connection_is_the_child_s_too(opened: Open) -> None:
    """The loop remembers connections for a while after their sockets are closed."""
    backend = opened(engine="exact")
    backend.put("f", b"1")
    loop = backend._connection._loop
    closed = dict(loop._transports)  # type: ignore[union-attr]
    assert closed
    backend.close()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()  # type: ignore[arg-type]
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(max(closed))]
    files, others = [one for one in files if one in closed], [one for one in files if one not in closed]
    assert files

    def child(number: int) -> None:
        for one in files:
            with pytest.raises(OSError, match="Bad file descriptor"):  # read-only, as the parent opened it
                os.write(one, b"x")

    statuses = in_children(1, child)
    for one in (*files, *others):
        os.close(one)
    assert statuses == [0]


@forks
def test_a_child_that_ends_leaves_the_parent_its_connections(seaweedfs: S3Endpoint) -> None:
    """Sockets and the event queue are shared by a fork: what the child drops and closes must not reach them."""
    code = """
        import gc
        backend.put("f", bytes(3 << 20))
        readers = [backend.reader("f") for _ in range(3)]
        for reader in readers:
            reader.read(1000)
        backend.get_tags("f")  # by the client, whose loop it is
        loop = backend._connection._loop
        for turn in range(3):
            if os.fork() == 0:
                assert len(backend.get("f")[0]) == 3 << 20
                del reader, readers
                for transport in list(loop._transports.values()):
                    transport.close()  # as their finalizers may do
                gc.collect()
                backend.close()
                sys.exit(0)
            assert os.wait()[1] == 0
            assert backend.stat("f").size == 3 << 20
            assert len(readers[turn].read()) == (3 << 20) - 1000
        backend.close()
    """
    done = run(code, seaweedfs, seaweedfs.make_bucket())
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")


def test_threads_leak_no_descriptor(backend: S3Backend) -> None:
    """R36."""
    backend.put("f", b"1")

    def use() -> None:
        backend.get("f")
        backend.stat("f")

    together = threading.Barrier(64)

    def use_together() -> None:
        """As many connections as there may be: neither way of reaching S3 opens any after that."""
        for act in (lambda: backend.get("f"), lambda: backend.stat("f")):
            for _ in range(3):
                together.wait(30)
                act()

    threads = [threading.Thread(target=use_together) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leaks_nothing(use)
    backend.close()
    gc.collect()


def test_pickle(backend: S3Backend) -> None:
    backend.put("d/f", b"1")
    twin = pickle.loads(pickle.dumps(backend.rooted("d")))
    assert twin.get("f")[0] == b"1"
    assert (twin.storage_id, twin.native_path("f")) == (backend.storage_id, backend.native_path("d/f"))
    twin.close()


def test_rooted_twins_share_the_connection(backend: S3Backend) -> None:
    assert backend.rooted("a")._connection is backend._connection


def test_a_closed_backend_opens_again(backend: S3Backend) -> None:
    backend.put("f", b"1")
    backend.close()
    backend.close()
    assert backend.get("f")[0] == b"1"


def test_fs_is_what_users_expect(backend: S3Backend) -> None:
    from s3fs import S3FileSystem

    fs = backend.fs
    assert isinstance(fs, S3FileSystem)
    assert fs is backend.fs
    backend.put("f", b"1")
    assert fs.cat_file(backend.native_path("f")) == b"1"
    assert not fs.exists(backend.native_path("g"))
    backend.put("g", b"22")
    assert fs.info(backend.native_path("g"))["size"] == 2, "nothing is cached"


def run(code: str, server: S3Endpoint, bucket: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in which `backend` is open over a bucket, with every warning shown."""
    head = f"""
        import os, resource, sys
        from genro_storage.backends.s3 import S3Backend
        backend = S3Backend(S3Backend.Options(**{server.options(bucket)!r}))
    """
    script = textwrap.dedent(head) + textwrap.dedent(code)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "always", "-c", script]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=200, check=False)


ENDS = {
    "left": "",
    "closed": "backend.close()",
    "dropped": "del backend",
    "forked": "os.fork() or sys.exit(0)\nos.wait()",
    "writing": "writer = backend.writer('g')\nwriter.write(bytes(9 << 20))",
    "reading": "backend.put('h', bytes(3 << 20))\nreader = backend.reader('h')",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_process_ends_in_silence(seaweedfs: S3Endpoint, end: str) -> None:
    """However the backend is left: no warning, no unclosed session, no hanging thread, no upload left."""
    bucket = seaweedfs.make_bucket()
    done = run(f"backend.put('f', b'1')\nbackend.get('f')\n{ENDS[end]}", seaweedfs, bucket)
    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, "")
    assert b"<UploadId>" not in seaweedfs.checked("GET", bucket, query={"uploads": ""}).body


@pytest.mark.parametrize("verb", ["read", "write"])
def test_memory_is_bounded(seaweedfs: S3Endpoint, verb: str) -> None:
    """R31: 200 MiB through a reader or a writer take at most 64 MiB more than a small file took."""
    bucket = seaweedfs.make_bucket()
    code = """
        def write(path, mebibytes):
            writer = backend.writer(path)
            for _ in range(mebibytes):
                writer.write(bytes(1 << 20))
            writer.commit()
        def read(path):
            reader, length = backend.reader(path), 0
            while data := reader.read(1 << 20):
                length += len(data)
            return length
        write("small", 1), read("small")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if VERB == "write":
            write("large", 200)
        else:
            assert read("large") == 200 << 20
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    for step in ("write", "read")[: 1 + (verb == "read")]:
        done = run(f"VERB = {step!r}\n" + textwrap.dedent(code), seaweedfs, bucket)
        assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64, f"{done.stdout.strip()} MiB"


# --- TLS ---


class Empty(BaseHTTPRequestHandler):
    """Answers every GET with nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def own_certificate(tmp_path: Path) -> Iterator[str]:
    """The URL of an HTTPS server whose certificate nobody signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "server.pem"
    none = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)
    file.write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with HTTPServer(("127.0.0.1", 0), Empty) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_verify_tls(opened: Open, own_certificate: str) -> None:
    strict = Mount("m", opened(endpoint=own_certificate), retry=NO_RETRY)
    with pytest.raises(StorageUnavailableError, match="'verify_tls'") as caught:
        strict.get("f")
    assert not caught.value.retryable
    assert opened(endpoint=own_certificate, verify_tls=False).get("f")[0] == b""
