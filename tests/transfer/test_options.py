"""Options are judged when they are made."""

from __future__ import annotations

import pytest

from genro_storage.transfer import CopyOptions
from genro_storage.transfer.options import options_from, share_of
from genro_storage.transfer.skips import SkipStrategy


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("symlinks", "never"),
        ("verify", "md5"),
        ("errors", "ignore"),
        ("preserve", "mtime"),
        ("preserve", ["owner"]),
        ("preserve", None),
        ("backup", 7),
        ("content_type", "text"),
        ("content_type", "a/b\r\nX: y"),
        ("content_type", ""),
        ("overwrite", "yes"),
        ("into", 1),
        ("server_side", "no"),
        ("empty_dirs", None),
        ("retries", -1),
        ("retries", True),
        ("progress", "bar"),
        ("include", ""),
        ("exclude", ["a/../b"]),
        ("include", ["[ab"]),
        ("include", 7),
        ("skip", "sometimes"),
        ("skip", ""),
        ("skip_fn", lambda src, dst: True),
        ("filter", "*.py"),
        ("dry_run", 1),
        ("delete", "yes"),
        ("max_delete", -1),
        ("max_delete", True),
        ("max_delete", "half"),
        ("max_delete", "101%"),
        ("max_delete", "%"),
    ],
)
def test_a_bad_value_is_refused_at_once(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name if name not in ("include", "exclude") else "pattern"):
        CopyOptions(**{name: value})  # type: ignore[arg-type]


def test_an_unknown_option_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="nonsense"):
        options_from(None, {"nonsense": "mtime"})
    with pytest.raises(TypeError, match="no option 'exlude'; did you mean 'exclude'"):
        options_from(None, {"exlude": "*.py"})


def test_options_and_fields_exclude_each_other() -> None:
    with pytest.raises(TypeError, match="not both"):
        options_from(CopyOptions(), {"overwrite": False})
    with pytest.raises(TypeError, match="CopyOptions"):
        options_from({"overwrite": False}, {})  # type: ignore[arg-type]


def test_options_are_values() -> None:
    assert CopyOptions(preserve=["mtime"]) == CopyOptions(preserve=("mtime",))
    with pytest.raises(AttributeError):
        CopyOptions().overwrite = False  # type: ignore[misc]


def test_custom_needs_a_function() -> None:
    with pytest.raises(ValueError, match=r"skip='custom' requires skip_fn"):
        CopyOptions(skip="custom")
    with pytest.raises(ValueError, match="skip_fn"):
        CopyOptions(skip=SkipStrategy.CUSTOM, skip_fn="no function")  # type: ignore[arg-type]
    assert CopyOptions(skip="custom", skip_fn=lambda src, dst: True).skip is SkipStrategy.CUSTOM


def test_a_strategy_or_its_name() -> None:
    assert CopyOptions(skip="mtime") == CopyOptions(skip=SkipStrategy.MTIME)
    assert [one.value for one in SkipStrategy] == ["never", "exists", "size", "mtime", "newer", "hash", "custom"]


@pytest.mark.parametrize(("given", "meant"), [(0, (0, None)), (7, (7, None)), ("50%", (None, 0.5)), ("0%", (None, 0))])
def test_max_delete(given: int | str, meant: object) -> None:
    assert share_of(given) == meant
