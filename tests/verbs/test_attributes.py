"""Metadata, tags and addresses: what holds on every mount, and what is refused where a storage cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from genro_storage import StorageManager
from genro_storage.backends._labels import checked_tags
from genro_storage.exceptions import StorageConfigError, StorageNotFoundError, UnsupportedOperation


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[StorageManager]:
    with StorageManager(
        [
            {
                "name": "web",
                "type": "local",
                "path": str(tmp_path),
                "base_url": "https://example.com/files/",
                "internal_url": "/protected",
            },
            {"name": "sub", "path": "web:a b"},
            {"name": "plain", "type": "local", "path": str(tmp_path)},
        ]
    ) as made:
        yield made


def test_urls_are_the_base_and_the_encoded_path(storage: StorageManager) -> None:
    """R49."""
    node = storage.node("web:a b/#1?é%.txt")
    assert node.url() == "https://example.com/files/a%20b/%231%3F%C3%A9%25.txt"
    assert storage.node("sub:#1?é%.txt").url() == node.url()
    assert node.url(method="PUT") is None
    assert storage.node("plain:x").url() is None
    with pytest.raises(StorageConfigError, match="key 'base_url'"):
        storage.configure([{"name": "m", "type": "memory", "base_url": 3}])


def test_internal_urls(storage: StorageManager) -> None:
    node = storage.node("web:f.txt")
    assert node.internal_url() == "/protected/f.txt"
    with pytest.raises(StorageNotFoundError):
        node.internal_url(nocache=True)
    node.write_text("x")
    assert node.internal_url(nocache=True) == f"/protected/f.txt?mtime={node.mtime}"
    assert storage.node("plain:f.txt").internal_url() is None


def test_what_a_folder_cannot(storage: StorageManager) -> None:
    node = storage.node("plain:f")
    for read in (node.get_metadata, node.get_tags):
        with pytest.raises(StorageNotFoundError):
            read()
    node.write_text("x")
    assert node.get_metadata() == node.get_tags() == {}
    assert node.versions == []
    assert node.version_count == 0
    for verb in (
        lambda: node.set_metadata({"a": "b"}),
        lambda: node.set_tags({"a": "b"}),
        lambda: node.sign(),
        lambda: node.at(-1),
        lambda: node.open(version=-1),
        lambda: storage.node("plain:f", as_of=0),
        lambda: node.delete(all_versions=True),
    ):
        with pytest.raises(UnsupportedOperation, match=r"'plain' (does not support|cannot)"):
            verb()
    assert node.read_text() == "x"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({str(number): "" for number in range(11)}, "11 tags"),
        ({"": "x"}, "name of 0 characters"),
        ({"k" * 129: "x"}, "name of 129 characters"),
        ({"k": "v" * 257}, "value of 257 characters"),
        ({"k": 1}, "names and values are text"),
        ({1: "v"}, "names and values are text"),
    ],
)
def test_tags_have_limits(tags: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked_tags(tags)


def test_bad_arguments(storage: StorageManager) -> None:
    node = storage.node("plain:f")
    node.write_text("x")
    for bad in (lambda: node.set_metadata({"ä": "b"}), lambda: node.set_metadata({"a": 1})):  # type: ignore[dict-item]
        with pytest.raises(ValueError, match=r"metadata key|value is text"):
            bad()
    with pytest.raises(ValueError, match="method is"):
        node.sign("DELETE")
    for seconds in (0, -1, 604_801):
        with pytest.raises(ValueError, match="expires_in"):
            node.sign(expires_in=seconds)
    with pytest.raises(UnsupportedOperation, match="historical"):
        node.open("w", version="x")
