"""What is typed, and the place it means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from genro_storage.cli.places import Places, is_local, local_path, name_of

from .conftest import Run


@pytest.mark.parametrize("text", ["/a:b", "./a:b", "../a:b", "~/a:b", "a/b", ".", "..", "s3", "~a:b"])
def test_local_names(text: str) -> None:
    assert is_local(text)


@pytest.mark.parametrize("text", ["m:", "m:a/b", "s3://b/k", "file:///a", "a:b/../c", ".hidden:x"])
def test_names_with_a_colon_are_not_local(text: str) -> None:
    assert not is_local(text)


def test_local_path(here: Path, tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (here / "link").symlink_to(tmp_path / "far/away")
    for text, path in {
        "a": here / "a",
        "./a": f"{here}/./a",
        "a/": f"{here}/a/",
        "~/a": tmp_path / "home/a",
        "/x//y": "/x//y",
        "../b": tmp_path / "b",
        "link/../c": tmp_path / "far/c",
        "none/../c": here / "c",
        "..": tmp_path,
        "~nobody-of-that-name": here / "~nobody-of-that-name",
        "/..": "/",
        "/../x": "/x",
        "...": here / "...",
    }.items():
        assert local_path(text) == str(path), text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *[("memory:a//b/", "memory:a/b"), ("memory:", "memory:"), ("/", "/"), ("/tmp/x/", "/tmp/x")],
        *[("file:///tmp/x", "/tmp/x"), ("s3://bucket/a/b", "s3://bucket/a/b"), ("s3://bucket", "s3://bucket/")],
    ],
)
def test_how_a_place_is_called(text: str, shown: str) -> None:
    places = Places()
    try:
        assert name_of(places.node(text)) == shown
    finally:
        places.close()


@pytest.mark.parametrize("name", ["back\\slash", "a b", "*.txt", "what?#%20[x]", "é\u0301", "-", "new\nline"])
def test_any_name_of_a_local_file(here: Path, cli: Run, name: str) -> None:
    (here / name).write_text("x")
    given = f"./{name}"
    assert cli("cat", given).out == "x"
    assert cli("cp", given, "./copy").code == 0
    assert cli("mv", "copy", "./sub/").code == 0
    assert cli("rm", given).code == 0
    assert sorted(os.listdir(here)) == ["sub"]


def test_local_files_need_no_configuration(here: Path, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "genro_storage.toml").write_text("this is [ no TOML")
    (here / "f").write_text("x")
    assert cli("cat", "f").code == 0
    assert cli("cp", "f", "file:///" + str(here / "g").lstrip("/")).code == 0
    assert cli("cat", "memory:f").code == 5
