"""Sources, shapes, interpolation, discovery, sizes and durations."""

from __future__ import annotations

from pathlib import Path

import pytest

from genro_storage import config
from genro_storage.exceptions import StorageConfigError, StorageConfigNotFoundError

ENTRY = {"name": "a", "type": "memory"}


@pytest.mark.parametrize(
    "source",
    [
        [ENTRY],
        (ENTRY,),
        ENTRY,
        {"a": {"type": "memory"}},
        {"a": ENTRY},
        {"mounts": [ENTRY]},
        {"mounts": {"a": {"type": "memory"}}},
    ],
)
def test_every_shape_gives_the_same_entries(source: object) -> None:
    assert config.load(source).mounts == [ENTRY]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", '[[mounts]]\nname = "a"\ntype = "memory"\n'),
        ("c.toml", '[a]\ntype = "memory"\n'),
        ("c.json", '[{"name": "a", "type": "memory"}]'),
        ("c.yaml", "- name: a\n  type: memory\n"),
        ("c.yml", "a: {type: memory}\n"),
    ],
)
def test_files_by_str_and_by_path(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    for source in (file, str(file)):
        loaded = config.load(source)
        assert loaded.mounts == [ENTRY]
        assert loaded.directory == str(tmp_path)


def test_flags_stand_beside_mounts() -> None:
    loaded = config.load({"mounts": [], "urls": True, "builtin_mounts": True})
    assert (loaded.urls, loaded.builtin_mounts) == (True, True)
    with pytest.raises(StorageConfigError, match="'urls' is true or false"):
        config.load({"mounts": [], "urls": "yes"})
    with pytest.raises(StorageConfigError, match="unknown key 'url' beside 'mounts'"):
        config.load({"mounts": [], "url": True})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.json", "[\n{]", r"c\.json, line 2"),
        ("c.toml", "a = [", r"c\.toml: "),
        ("c.yaml", "a: [1\nb: 2", r"c\.yaml, line 2"),
        ("c.ini", "", "ends in .toml"),
        ("c.json", "3", "a list or a table"),
        ("c.json", '[["a"]]', "entry 1"),
        ("c.json", '{"a": 3}', "mount 'a'"),
        ("c.json", '{"a": {"name": "b"}}', "says 'b'"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(StorageConfigError, match=message) as caught:
        config.load(tmp_path / name)
    assert name in str(caught.value)


def test_missing_file_and_wrong_type(tmp_path: Path) -> None:
    with pytest.raises(StorageConfigNotFoundError, match=r"not found: .*nope\.toml"):
        config.load(tmp_path / "nope.toml")
    with pytest.raises(TypeError, match="not int"):
        config.load(3)


def test_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GS_SET", "here")
    monkeypatch.setenv("GS_EMPTY", "")
    monkeypatch.delenv("GS_UNSET", raising=False)

    def filled(value: object, **how: bool) -> object:
        return config.load({"name": "a", "key": value}, **how).mounts[0]["key"]

    assert filled("x${GS_SET}y") == "xherey"
    assert filled("${GS_UNSET:-d}${GS_EMPTY:-e}[${GS_EMPTY}]") == "de[]"
    assert filled("$$HOME ${GS_SET} $GS_SET $") == "$HOME here $GS_SET $"
    assert filled("${GS_UNSET:-$$5}") == "$5"
    assert filled({"deep": ["${GS_SET}"]}) == {"deep": ["here"]}
    assert filled("${GS_SET}", interpolate=False) == "${GS_SET}"
    with pytest.raises(StorageConfigError, match=r"mount 'a', key 'key'.*'GS_UNSET' is not set"):
        filled("${GS_UNSET}")


def test_discovery_takes_the_first_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = tmp_path / "xdg" / "genro_storage"
    user.mkdir(parents=True)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setattr(config.sys, "platform", "linux")

    def found() -> str | None:
        loaded = config.discover(environ, here)
        return loaded.mounts[0]["name"] if loaded else None

    assert found() is None
    (user / "config.json").write_text('{"user": {}}')
    assert found() == "user"
    (here / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert found() == "user"
    (here / "pyproject.toml").write_text("[tool.genro_storage.project]\ntype = 'memory'\n")
    assert found() == "project"
    (here / "genro_storage.json").write_text('{"plain": {}}')
    assert found() == "plain"
    (here / "genro_storage.toml").write_text("[first]\n")
    assert found() == "first"
    (tmp_path / "named.json").write_text('{"named": {}}')
    environ[config.ENVIRONMENT] = str(tmp_path / "named.json")
    assert found() == "named"
    environ[config.ENVIRONMENT] = str(tmp_path / "gone.json")
    with pytest.raises(StorageConfigNotFoundError, match="gone"):
        found()


def test_pyproject_table_takes_flags_and_mounts(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        "[tool.genro_storage]\nurls = true\n[tool.genro_storage.a]\ntype = 'memory'\n"
    )
    loaded = config.discover({"XDG_CONFIG_HOME": str(tmp_path)}, tmp_path)
    assert loaded is not None
    assert (loaded.urls, loaded.mounts) == (True, [ENTRY])


@pytest.mark.parametrize(
    ("text", "size"),
    [(5, 5), ("7", 7), ("8MiB", 8 << 20), ("8MB", 8 << 20), ("1.5k", 1536), ("2 GiB", 2 << 30), ("9B", 9)],
)
def test_sizes(text: object, size: int) -> None:
    assert config.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(5, 5.0), (0.5, 0.5), ("7", 7.0), ("5m", 300.0), ("1.5h", 5400.0), ("250ms", 0.25), ("1d", 86400.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert config.parse_duration(text) == seconds


@pytest.mark.parametrize("parse", [config.parse_size, config.parse_duration, config.parse_octal])
@pytest.mark.parametrize("text", ["", "x", "-1", -1, None, True, "8 XB", [1]])
def test_nonsense_is_refused(parse: object, text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse(text)  # type: ignore[operator]


def test_octal() -> None:
    assert config.parse_octal("0640") == config.parse_octal("640") == config.parse_octal(0o640) == 0o640
