"""The servers and the fault proxy do what the other tests rely on."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import botocore.session
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, HTTPClientError

from tests.servers.faultproxy import FaultProxy
from tests.servers.process import CACHE, ServerFailed, ServerMissing, ServerProcess, is_free
from tests.servers.s3 import S3Endpoint
from tests.servers.seaweedfs import SeaweedFS

Proxied = tuple[S3Endpoint, FaultProxy, str]


def boto(server: S3Endpoint, *, read_timeout: float = 20):
    """A botocore client without retries."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name=server.region,
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=read_timeout),
    )


@pytest.fixture(params=["seaweedfs", "ministack", "moto", "rclone_s3"])
def server(request: pytest.FixtureRequest) -> S3Endpoint:
    """Each S3 server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def proxied(seaweedfs: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy]) -> Proxied:
    """SeaweedFS behind a proxy: (how to reach it, the proxy, a bucket)."""
    proxy = s3_proxy(seaweedfs)
    return seaweedfs.through(proxy.endpoint), proxy, seaweedfs.make_bucket()


def test_put_get_and_count_through_the_proxy(server: S3Endpoint, s3_proxy: Callable[[S3Endpoint], FaultProxy]) -> None:
    proxy = s3_proxy(server)
    bucket, data = server.make_bucket(), os.urandom(3 << 20)
    client = boto(server.through(proxy.endpoint))
    client.put_object(Bucket=bucket, Key="a b/ü.bin", Body=data)
    assert client.get_object(Bucket=bucket, Key="a b/ü.bin")["Body"].read() == data
    assert [o["Key"] for o in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü.bin"]
    assert (proxy.count("PUT"), proxy.count("GET"), proxy.count()) == (1, 2, 3)
    assert proxy.count("GET", "list-type=2") == 1
    assert all(request.status == 200 for request in proxy.log)
    proxy.forget()
    assert client.head_object(Bucket=bucket, Key="a b/ü.bin")["ContentLength"] == len(data)
    assert proxy.count("HEAD", "/a%20b/%C3%BC.bin") == 1 == proxy.count()


def test_multipart_through_the_proxy(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    client, parts = boto(server), []
    upload = client.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    for number in (1, 2):
        part = {"Bucket": bucket, "Key": "big", "UploadId": upload, "PartNumber": number}
        etag = client.upload_part(Body=bytes([number]) * (5 << 20), **part)["ETag"]
        parts.append({"ETag": etag, "PartNumber": number})
    client.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": parts})
    assert proxy.count("PUT", "partNumber=") == 2
    body = client.get_object(Bucket=bucket, Key="big")["Body"].read()
    assert body == b"\1" * (5 << 20) + b"\2" * (5 << 20)


def test_versions(seaweedfs: S3Endpoint, ministack: S3Endpoint, moto: S3Endpoint) -> None:
    for server in (seaweedfs, ministack, moto):
        bucket = server.make_bucket(versioning=True)
        ids = [server.checked("PUT", bucket, "k", body=body).headers["x-amz-version-id"] for body in (b"1", b"2")]
        assert server.checked("GET", bucket, "k", query={"versionId": ids[0]}).body == b"1"


def test_seaweedfs_checks_the_signature(seaweedfs: S3Endpoint) -> None:
    bucket = seaweedfs.make_bucket()
    forged = S3Endpoint(seaweedfs.endpoint, seaweedfs.access_key, "not the secret")
    assert forged.request("PUT", bucket, "k", body=b"x").status == 403
    assert seaweedfs.request("GET", bucket, "k").status == 404


def test_buckets_have_names_of_their_own(ministack: S3Endpoint) -> None:
    assert ministack.make_bucket() != ministack.make_bucket()


def test_options_are_mount_keys(seaweedfs: S3Endpoint) -> None:
    assert set(seaweedfs.options("b")) == {"bucket", "endpoint", "access_key", "secret_key", "region"}
    assert seaweedfs.secret_key not in repr(seaweedfs)


# --- faults ---


def test_answer_503_then_well_again(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    client = boto(server)
    proxy.answer(503, times=2, method="PUT", headers=["Retry-After: 1"])
    for _ in range(2):
        with pytest.raises(ClientError, match="SlowDown") as caught:
            client.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000)
        assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    assert server.request("GET", bucket, "k").status == 404
    client.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert [r.status for r in proxy.log if r.method == "PUT"] == [503, 503, 200]


def test_answer_to_a_head_has_no_body(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    proxy.answer(500, "InternalError", method="HEAD")
    assert server.request("HEAD", bucket, "k").status == 500
    assert server.request("HEAD", bucket, "k").status == 404


def test_refuse_until_cleared(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    proxy.refuse(times=None)
    for _ in range(3):
        with pytest.raises(HTTPClientError):
            boto(server).list_objects_v2(Bucket=bucket)
    proxy.clear()
    assert boto(server).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_blackhole_lets_the_client_time_out(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    proxy.blackhole(times=1, contains="list-type=2")
    with pytest.raises(HTTPClientError, match="timeout"):
        boto(server, read_timeout=0.5).list_objects_v2(Bucket=bucket)
    assert boto(server).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def raw_get(server: S3Endpoint, bucket: str, key: str) -> bytes:
    """A GET that returns what came before the end, and lets an error through."""
    with pytest.raises(http.client.IncompleteRead) as caught:
        server.request("GET", bucket, key)
    return caught.value.partial


def test_truncate_ends_cleanly_and_early(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    data = os.urandom(1 << 20)
    server.checked("PUT", bucket, "k", body=data)
    proxy.truncate(after=300_000, method="GET")
    assert raw_get(server, bucket, "k") == data[:300_000]
    assert server.checked("GET", bucket, "k").body == data


def test_reset_inside_the_answer(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    server.checked("PUT", bucket, "k", body=bytes(1 << 20))
    proxy.reset(after=10_000, method="GET")
    with pytest.raises(ConnectionResetError):
        server.request("GET", bucket, "k")
    assert server.checked("GET", bucket, "k").body == bytes(1 << 20)


def test_reset_inside_the_upload_leaves_the_old_bytes(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    server.checked("PUT", bucket, "k", body=b"old")
    proxy.reset_upload(after=100_000, method="PUT")
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        boto(server).put_object(Bucket=bucket, Key="k", Body=bytes(4 << 20))
    assert server.checked("GET", bucket, "k").body == b"old"


def test_lose_answer_after_the_work_is_done(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    proxy.lose_answer(method="PUT")
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        server.request("PUT", bucket, "k", body=b"written")
    assert server.checked("GET", bucket, "k").body == b"written"
    assert [r.status for r in proxy.log] == [0, 200]


def test_rtt_is_paid_per_request_and_once_per_connection(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    proxy.rtt = 0.2

    def seconds() -> float:
        connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=60)
        began = time.perf_counter()
        for _ in range(3):
            connection.request("GET", f"/{bucket}")
            connection.getresponse().read()
        took = time.perf_counter() - began
        connection.close()
        return took

    tries = [seconds()]
    while min(tries) >= 1 and len(tries) < 20:  # a busy machine has its moments
        tries.append(seconds())
    assert 0.8 <= min(tries) < 1


def test_keep_alive_and_chunked_upload(proxied: Proxied) -> None:
    server, proxy, bucket = proxied
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=10)
    for size in (0, 1, 70_000):
        body = iter([b"x" * size]) if size else iter([])
        connection.request("PUT", f"/{bucket}/k", body, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().read() is not None
        assert connection.sock is not None, "the connection was not kept alive"
    connection.close()
    assert proxy.count("PUT") == 3


# --- processes ---


class Silent(ServerProcess):
    """A server that never answers."""

    program = "sleep"
    start_seconds = 0.2

    def command(self, program: str) -> list[str]:
        self.port = 1
        return [program, "60"]


def test_a_silent_server_fails_with_its_log_and_leaves_no_process() -> None:
    server = Silent()
    with pytest.raises(ServerFailed, match=r"sleep did not start \(log kept: ") as caught:
        server.start()
    assert Path(str(caught.value).split("log kept: ")[1].split(")")[0]).exists()
    assert server._process is None
    server.stop()


def test_a_child_with_another_home_looks_into_the_same_cache(tmp_path: Path) -> None:
    script = "from tests.servers.process import CACHE; print(CACHE)"
    environment = {**os.environ, "HOME": str(tmp_path)}
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(CACHE)


def test_a_missing_program_names_the_remedy() -> None:
    class Absent(Silent):
        program = "no-such-server"

    with pytest.raises(ServerMissing, match="no-such-server is not installed: pip install"):
        Absent().start()


def test_stop_leaves_nothing(seaweedfs: S3Endpoint) -> None:
    with SeaweedFS() as server:  # a second one beside the session's
        folder, ports = server.folder, server.ports
        assert server.s3.make_bucket()
    assert not folder.exists()
    assert all(is_free(port) for port in ports)
    assert not [left for port in ports for left in Path("/tmp").glob(f"seaweedfs-*{port}.sock")]


@pytest.mark.parametrize("name", ["sshd", "password_sftp", "samba", "ftp", "webdav", "caddy"])
def test_nothing_listens_but_on_the_loopback(request: pytest.FixtureRequest, name: str) -> None:
    server: ServerProcess = request.getfixturevalue(name)
    assert server._process is not None
    main = psutil.Process(server._process.pid)
    listening = set()
    for process in [main, *main.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # a connection that just ended
            listening |= {c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert ("127.0.0.1", server.port) in listening
    assert {address.ip for address in listening} == {"127.0.0.1"}


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_server_does_not_outlive_a_killed_test_process(tmp_path: Path) -> None:
    script = """if True:
        import os, signal
        from tests.servers.rclone import RcloneS3
        server = RcloneS3()
        server.start()
        print(server.port, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    root = Path(__file__).parents[2]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    port = int(run.stdout)
    deadline = time.monotonic() + 60
    while not is_free(port):
        assert time.monotonic() < deadline, "the server outlived its parent"
        with socket.socket() as probe:
            probe.connect_ex(("127.0.0.1", port))


@pytest.mark.parametrize(("require", "code", "said"), [("", 0, "1 skipped"), ("1", 1, "ServerMissing")])
def test_a_missing_server_is_loud(tmp_path: Path, require: str, code: int, said: str) -> None:
    (tmp_path / "hide.py").write_text(
        "from tests.servers.seaweedfs import SeaweedFS\nSeaweedFS.program = 'no-such-server'\n"
    )
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
        "PYTEST_ADDOPTS": "-p hide -p no:cacheprovider",
        "GENRO_REQUIRE_SERVERS": require,
    }
    command = [sys.executable, "-m", "pytest", __file__, "-k", "checks_the_signature"]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == code
    assert said in run.stdout
    assert ("SERVERS MISSING" in run.stdout) == (not require)
    assert "no-such-server is not installed: pip install" in run.stdout
