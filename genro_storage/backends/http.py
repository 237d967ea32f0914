"""Files behind a web server, read only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from typing import ClassVar, Literal
from urllib.parse import unquote, urljoin, urlsplit

import httpx
from msgspec import field

from ..exceptions import (
    StorageError,
    StorageIsADirectoryError,
    StorageNotADirectoryError,
    UnsupportedOperation,
)
from ..types import PLAIN, Features, Stat, WriteOptions
from ._http import HttpStorage, PasswordKeys
from ._httpanswers import described, refusal
from .base import BackendReader, BackendWriter, BytesReader, conflict, no_version, order
from .options import Context, Url

LARGEST_INDEX = 64 << 20
"""Bytes of a directory's page that are read."""


class HttpOptions(PasswordKeys, frozen=True, kw_only=True):
    """`base_url`: where the mount begins; a query in it goes with every request. `headers` go to that server only.

    `index`: ``html`` where the server shows directories as pages of links.
    """

    base_url: Url
    headers: dict[str, str] = field(default_factory=dict)
    index: Literal["", "html"] = ""


class IsDirectory(Exception):
    """The server sent us from a path to the same with a slash: that is how it says directory."""


class IsFile(Exception):
    """The server sent us from a path with a slash to the same without."""


class HttpBackend(HttpStorage):
    """A directory of a web server; nothing is asked for but exactly the paths given."""

    Options = HttpOptions
    options: HttpOptions
    aliases: ClassVar[Mapping[str, str]] = {"url": "base_url", "base_path": "base_url", "verify_ssl": "verify_tls"}
    features = Features(ordered=True, mtime_resolution=1.0, readonly=True, surrogates=True)

    def __init__(self, options: HttpOptions, context: Context = Context()) -> None:  # noqa: B008 - immutable
        super().__init__(options, context, options.base_url, options.headers)

    def public_url(self, path: str) -> str:
        return self.url(path)

    def judge_redirect(self, method: str, url: str, target: str) -> None:
        super().judge_redirect(method, url, target)
        here, there = _place(url), _place(target)
        if there == f"{here}/":
            raise IsDirectory
        if here == f"{there}/" and there != self._origin:
            raise IsFile

    # --- facts ---

    def stat(self, path: str, *, version: str | None = None) -> Stat:
        no_version(version)
        if not path:
            return Stat("", is_dir=True)
        try:
            with self.ask("HEAD", self.url(path), allow=(405, 501)) as answer:
                if answer.status_code < 300:
                    return described(path, answer)
            with self.ask("GET", self.url(path), {"Range": "bytes=0-0"}, allow=(416,)) as answer:
                return described(path, answer)
        except IsDirectory:
            return Stat(path, is_dir=True)

    def scan(
        self, path: str, *, after: str = "", limit: int | None = None, facts: bool = True
    ) -> Iterator[Sequence[Stat]]:
        if self.options.index != "html":
            raise UnsupportedOperation("a web server has no listing; say 'index: html' if this one shows directories")
        page, base = self._index(path)
        prefix = f"{path}/" if path else ""
        found = {}
        for name in links(page, base):
            entry = Stat(prefix + name.rstrip("/"), is_dir=name.endswith("/"))
            found[entry.path] = entry
        least = after.encode("utf-8", "surrogateescape")
        yield [entry for entry in sorted(found.values(), key=order) if order(entry) > least][:limit]

    def _index(self, path: str) -> tuple[str, str]:
        """(the page of a directory, its URL)."""
        url = self.url(path).removesuffix(self._query).rstrip("/") + "/" + self._query
        try:
            with self.ask("GET", url, {"Accept": "text/html"}, allow=(404,)) as answer:
                if answer.status_code == 404 and path and not self.stat(path).is_dir:
                    raise IsFile
                if answer.status_code == 404:
                    raise refusal(answer)
                if answer.headers.get("Content-Type", "").partition(";")[0].strip() != "text/html":
                    raise IsFile
                return _text(answer), str(answer.url)
        except IsFile:
            raise StorageNotADirectoryError("not a directory that the server shows as a page") from None

    # --- reading ---

    def reader(
        self,
        path: str,
        start: int = 0,
        end: int | None = None,
        *,
        version: str | None = None,
        if_match: str | None = None,
    ) -> BackendReader:
        no_version(version)
        if not path:
            raise StorageIsADirectoryError("Is a directory")
        if end is not None and end <= start >= 0:
            return self._nothing(path, if_match)
        try:
            return self.open_range(path, self.url(path), start, end, if_match)
        except IsDirectory:
            raise StorageIsADirectoryError("Is a directory") from None

    def _nothing(self, path: str, if_match: str | None) -> BackendReader:
        stat = self.stat(path)
        if stat.is_dir:
            raise StorageIsADirectoryError("Is a directory")
        if if_match not in (None, stat.etag):
            raise conflict(str(if_match), stat.etag)
        return BytesReader(b"", stat)

    # --- writing ---

    def writer(self, path: str, options: WriteOptions = PLAIN) -> BackendWriter:
        raise UnsupportedOperation("a mount of type http is read-only")


# --- pages of links ---


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{unquote(parts.path, errors='surrogateescape')}"


def _text(answer: httpx.Response) -> str:
    page = bytearray()
    for data in answer.iter_bytes():
        page += data
        if len(page) > LARGEST_INDEX:
            raise StorageError(f"the directory's page is larger than {LARGEST_INDEX} bytes")
    return page.decode(answer.charset_encoding or "utf-8", "replace")


def links(page: str, base: str) -> Iterator[str]:
    """The names one level below `base` that a page links to, directories with a slash; all other links are not ours."""
    parser = _Links()
    parser.feed(page)
    here = urlsplit(base)
    above = here.path.rstrip("/") + "/"
    for href in parser.found:
        if "?" in href or "#" in href:
            continue  # sorts the page, or points into it
        try:
            there = urlsplit(urljoin(f"{here.scheme}://{here.netloc}{above}", href.strip()))
        except ValueError:
            continue
        name = there.path.removeprefix(above)
        if there[:2] != here[:2] or not there.path.startswith(above) or not name or "/" in name.rstrip("/"):
            continue
        decoded = unquote(name, errors="surrogateescape")
        if decoded.count("/") == name.count("/") and decoded.rstrip("/") not in (".", "..", ""):
            yield decoded


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]
