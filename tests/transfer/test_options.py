"""Options are judged when they are made."""

from __future__ import annotations

import pytest

from genro_storage.transfer import CopyOptions
from genro_storage.transfer.options import options_from


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("symlinks", "never"),
        ("verify", "md5"),
        ("errors", "ignore"),
        ("preserve", "mtime"),
        ("preserve", ["owner"]),
        ("overwrite", "yes"),
        ("into", 1),
        ("empty_dirs", None),
        ("retries", -1),
        ("retries", True),
        ("progress", "bar"),
        ("include", ""),
        ("exclude", ["a/../b"]),
        ("include", ["[ab"]),
        ("include", 7),
    ],
)
def test_a_bad_value_is_refused_at_once(name: str, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        CopyOptions(**{name: value})  # type: ignore[arg-type]


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="skip"):
        options_from(None, {"skip": "mtime"})


def test_options_and_fields_exclude_each_other() -> None:
    with pytest.raises(TypeError, match="not both"):
        options_from(CopyOptions(), {"overwrite": False})
    with pytest.raises(TypeError, match="CopyOptions"):
        options_from({"overwrite": False}, {})  # type: ignore[arg-type]


def test_options_are_values() -> None:
    assert CopyOptions(preserve=["mtime"]) == CopyOptions(preserve=("mtime",))
    with pytest.raises(AttributeError):
        CopyOptions().overwrite = False  # type: ignore[misc]
