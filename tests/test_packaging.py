"""What an installation is: a cheap and lazy import, the `py.typed` marker, extras that name what they bring."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IMPORT_BUDGET = 0.030  # seconds over a bare interpreter


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def seconds(code: str) -> float:
    """The processor's time that a fresh interpreter takes for this code: the same on a loaded machine."""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_import_loads_no_dependency_and_no_driver() -> None:
    loaded = python("import sys, genro_storage; print(*sys.modules)").split()
    third_party = {"fsspec", "msgspec", "yaml", "s3fs", "aiobotocore", "botocore", "obstore", "rich", "asyncio", "ssl"}
    assert third_party.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("genro_storage.")] == []


def test_import_costs_little() -> None:
    python("import genro_storage")  # byte-compiled once
    pairs = [(seconds("import genro_storage"), seconds("pass")) for _ in range(15)]
    # The quickest of each: whatever else the machine does can only add to a time.
    assert min(full for full, _ in pairs) - min(bare for _, bare in pairs) <= IMPORT_BUDGET


def test_every_public_name_can_be_imported() -> None:
    code = "import genro_storage as g; print([n for n in g.__all__ if getattr(g, n, None) is None], len(g.__all__))"
    missing, _, count = python(code).strip().rpartition(" ")
    assert missing == "[]"
    assert int(count) > 10
    assert python("import genro_storage as g; print(set(g.__all__) <= set(dir(g)))").strip() == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import genro_storage

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        genro_storage.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of this repository, built with the build backend of this environment."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "genro_storage", source / "genro_storage", ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_wheel_holds_every_module_and_the_typing_marker(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "genro_storage").rglob("*.py")}
    assert modules | {"genro_storage/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests", "docs", "benchmarks"))]


def test_wheel_metadata(wheel: zipfile.ZipFile) -> None:
    import genro_storage

    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    text = wheel.read(metadata).decode()
    assert f"\nVersion: {genro_storage.__version__}\n" in text
    required = {
        line.split()[1] for line in text.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    }
    assert {name.split(">")[0] for name in required} == {"fsspec", "msgspec"}
    entry_points = next(name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    assert "genro-storage = genro_storage.cli:main" in wheel.read(entry_points).decode()


def test_the_extra_all_brings_every_driver_extra() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    drivers = set(extras) - {"agents", "all", "bench", "docs", "test", "dev"}
    assert all(extras[driver].strip() in extras["all"] for driver in drivers)
    assert extras["all"].strip() in extras["test"]
