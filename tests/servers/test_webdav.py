"""The WebDAV servers, driven by httpx."""

from __future__ import annotations

import os
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import httpx
import pytest

from tests.servers.webdav import WebDav


@pytest.fixture
def client(webdav: WebDav) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=webdav.endpoint, auth=(webdav.username, webdav.password)) as made:
        yield made


def test_files_are_those_of_the_folder(webdav: WebDav, client: httpx.Client) -> None:
    root, data = webdav.make_root(), os.urandom(300_000)
    assert client.put(f"{root}/%C3%BC%20b%23%3F", content=data).status_code == 201
    assert webdav.files(root) == {"ü b#?": data}
    ranged = client.get(f"{root}/%C3%BC%20b%23%3F", headers={"Range": "bytes=-5"})
    assert (ranged.status_code, ranged.content) == (206, data[-5:])
    listed = client.request("PROPFIND", f"{root}/", headers={"Depth": "1"})
    found = [element.text for element in ET.fromstring(listed.content).iter("{DAV:}href")]
    assert (listed.status_code, found) == (207, [f"{root}/", f"{root}/%C3%BC%20b%23%3F"])
    assert set(webdav.options(root)) == {"url", "username", "password", "path"}


def test_what_the_facts_in_the_docstring_say(webdav: WebDav, client: httpx.Client) -> None:
    root = webdav.make_root()
    first = client.put(f"{root}/k", content=b"1").headers["etag"]
    assert client.put(f"{root}/k", content=b"2", headers={"If-None-Match": "*"}).status_code == 412
    assert client.put(f"{root}/k", content=b"2", headers={"If-Match": '"other"'}).status_code == 412
    assert client.put(f"{root}/k", content=b"22", headers={"If-Match": first}).status_code == 204
    inode, second, size = first.strip('"').split("-")
    stat = (webdav.local(root) / "k").stat()
    assert (int(inode), size) == (stat.st_ino, "1"), "a PUT writes in place"
    assert int(second) <= stat.st_mtime
    assert client.put(f"{root}/no/k", content=b"").status_code == 409
    assert client.request("MKCOL", f"{root}/d").status_code == 201
    assert client.request("MKCOL", f"{root}/d").status_code == 405
    client.put(f"{root}/d/x", content=b"x")
    there = {"Destination": f"{webdav.endpoint}{root}/d"}
    assert client.request("MOVE", f"{root}/k", headers=there | {"Overwrite": "F"}).status_code == 412
    assert client.get(f"{root}/d/", headers={"Accept": "*/*"}).headers["content-type"].startswith("text/html")
    assert client.request("MOVE", f"{root}/k", headers=there).status_code == 204
    assert webdav.files(root) == {"d": b"22"}, "a MOVE replaced the folder and what was in it"
    webdav.local(f"{root}/e/f").mkdir(parents=True)
    assert client.delete(f"{root}/e").status_code == 204


def test_who_may(webdav: WebDav, client: httpx.Client) -> None:
    root = webdav.make_root()
    url = f"{webdav.endpoint}{root}/k"
    assert httpx.put(url, content=b"").status_code == 401
    assert httpx.put(url, content=b"", auth=(webdav.username, "wrong")).status_code == 401
    assert httpx.put(url, content=b"", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert httpx.put(url, content=b"", headers={"Authorization": f"Bearer {webdav.token}"}).status_code == 201
    assert client.put(f"/readonly{root}/k", content=b"").status_code == 403
    assert client.get(f"/readonly{root}/k").status_code == 200


def test_tls(webdav_tls: WebDav) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(webdav_tls.endpoint)
    trusting = ssl.create_default_context(cafile=str(webdav_tls.cert_file))
    assert httpx.get(webdav_tls.endpoint, verify=trusting).status_code == 401
