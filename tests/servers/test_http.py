"""Caddy, driven by httpx."""

from __future__ import annotations

import os
import ssl

import httpx
import pytest

from tests.servers.caddy import Caddy


@pytest.fixture
def root(caddy: Caddy) -> str:
    """A root with one file, `ü b#`, of a hundred bytes, in a folder `d`."""
    root = caddy.make_root()
    caddy.local(f"{root}/d").mkdir()
    caddy.local(f"{root}/d/ü b#").write_bytes(bytes(range(100)))
    return root


def test_ranges_and_conditions(caddy: Caddy, root: str) -> None:
    url = f"{caddy.endpoint}{root}/d/%C3%BC%20b%23"
    head = httpx.head(url)
    assert (head.status_code, head.headers["content-length"]) == (200, "100")
    assert httpx.get(url, headers={"Range": "bytes=5-9"}).content == bytes(range(5, 10))
    assert httpx.get(url, headers={"Range": "bytes=200-"}).status_code == 416
    assert httpx.get(url, headers={"If-None-Match": head.headers["etag"]}).status_code == 304
    assert httpx.get(url, headers={"If-Match": '"other"'}).status_code == 412
    before = caddy.local(f"{root}/d/ü b#").stat()
    caddy.local(f"{root}/d/ü b#").write_bytes(bytes(100))
    os.utime(caddy.local(f"{root}/d/ü b#"), ns=(before.st_atime_ns, before.st_mtime_ns + 1000))
    assert httpx.head(url).headers["etag"] != head.headers["etag"]
    assert httpx.get(f"{caddy.endpoint}{root}/no").status_code == 404
    assert httpx.put(url, content=b"").status_code == 405


def test_the_index(caddy: Caddy, root: str) -> None:
    assert httpx.get(f"{caddy.endpoint}{root}/d").status_code == 308
    assert 'href="./%C3%BC%20b%23"' in httpx.get(f"{caddy.endpoint}{root}/d/").text
    assert 'href="./d/"' in httpx.get(f"{caddy.endpoint}{root}/").text
    told = httpx.get(f"{caddy.endpoint}{root}/d/", headers={"Accept": "application/json"}).json()
    assert [(entry["name"], entry["size"], entry["is_dir"]) for entry in told] == [("ü b#", 100, False)]
    assert httpx.get(f"{caddy.endpoint}/plain{root}/d/").status_code == 404
    caddy.local(f"{root}/d/index.html").write_text("mine")
    assert httpx.get(f"{caddy.endpoint}{root}/d/").text == "mine"


def test_places_that_ask_for_credentials(caddy: Caddy, root: str) -> None:
    file = "/d/%C3%BC%20b%23"
    basic, bearer = caddy.options(root, "basic"), caddy.options(root, "bearer")
    assert httpx.get(basic["base_url"] + file).status_code == 401
    assert httpx.get(basic["base_url"] + file, auth=(basic["username"], "wrong")).status_code == 401
    assert httpx.get(basic["base_url"] + file, auth=(basic["username"], basic["password"])).status_code == 200
    assert httpx.get(bearer["base_url"] + file).status_code == 401
    allowed = {"Authorization": f"Bearer {bearer['token']}"}
    assert httpx.get(bearer["base_url"] + file, headers=allowed).status_code == 200
    assert httpx.get(caddy.options(root, "denied")["base_url"] + file).status_code == 403
    moved = httpx.get(caddy.options(root, "moved")["base_url"] + file, follow_redirects=True)
    assert (moved.status_code, str(moved.url)) == (200, f"{caddy.endpoint}{root}{file}")


def test_tls(caddy_tls: Caddy) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(caddy_tls.endpoint)
    trusting = ssl.create_default_context(cafile=str(caddy_tls.cert_file))
    assert httpx.get(caddy_tls.endpoint, verify=trusting).status_code == 200
