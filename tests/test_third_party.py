"""Types of other packages: registered by a call, and found by the entry point of a package that pip installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import genro_storage
from genro_storage import StorageConfigError, StorageManager
from genro_storage.backends import _registered
from genro_storage.backends.memory import MemoryBackend, MemoryOptions

ROOT = Path(__file__).parents[1]
SETUP = """
[metadata]
name = acme-storage
version = 1.0
[options]
py_modules = acme_storage, sqlite_backend
[options.entry_points]
genro_storage.backends =
    acme = acme_storage:Acme
    sqlite = sqlite_backend:SqliteBackend
    wrong = acme_storage:NAME
    needy = acme_storage_absent:Acme
    broken = acme_broken:Acme
    local = acme_storage:Acme
"""
MODULE = """
from genro_storage.backends.memory import MemoryBackend, MemoryOptions

NAME = "acme"

class AcmeOptions(MemoryOptions, frozen=True, kw_only=True):
    greeting: str = "hello"

class Acme(MemoryBackend):
    Options = AcmeOptions
"""
USE = """
import json, sys
from genro_storage import StorageConfigError, StorageDriverError, StorageManager
from genro_storage.backends.local import LocalStorage
told = {}
with StorageManager() as storage:
    storage.configure([
        {"name": "a", "type": "acme", "greeting": "ciao"},
        {"name": "q", "type": "sqlite", "database": sys.argv[1] + "/files.db"},
        {"name": "l", "type": "local", "path": sys.argv[1]},
    ])
    storage.node("a:d/f").write("by an entry point")
    told["text"] = storage.node("a:d/f").copy_to("q:g").read()
    told["module"] = type(storage.get_backend("a")).__module__
    told["greeting"] = storage.mounts["a"].options["greeting"]
    told["local"] = type(storage.get_backend("l")) is LocalStorage
    for name in ("wrong", "needy", "broken", "absent", "acm"):
        try:
            storage.configure([{"name": "x", "type": name}])
        except (StorageConfigError, StorageDriverError) as error:
            told[name] = [type(error).__name__, str(error)]
    told["mounts"] = storage.get_mount_names()
print(json.dumps(told))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A virtual environment into which pip has installed a package that declares types; it sees ours, too."""
    source, made = tmp_path / "source", tmp_path / "venv"
    source.mkdir()
    (source / "setup.cfg").write_text(SETUP)
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    (source / "acme_storage.py").write_text(MODULE)
    shutil.copy(ROOT / "docs/examples/sqlite_backend.py", source)
    venv.create(made, with_pip=False, symlinks=True)
    where = subprocess.run(
        [made / "bin/python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    Path(where, "ours.pth").write_text("\n".join([str(ROOT), *(path for path in sys.path if "site-packages" in path)]))
    pip = (sys.executable, "-m", "pip", "--python", str(made / "bin/python"), "install", "-q", "--no-deps")
    subprocess.run([*pip, "--no-build-isolation", "--no-index", str(source)], check=True, capture_output=True)
    Path(where, "acme_broken.py").write_text("1 / 0")
    return made


def test_a_package_brings_its_types_by_entry_points(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "bin/python"), "-c", USE, str(tmp_path)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["text"] == "by an entry point"
    assert (told["module"], told["greeting"]) == ("acme_storage", "ciao")
    assert told["local"], "a built-in type is not replaced by a package that happens to be there"
    assert told["mounts"] == ["a", "q", "l"]
    kind, message = told["wrong"]
    assert kind == "StorageConfigError"
    assert "'acme-storage' is no subclass of StorageBackend" in message
    assert told["needy"][0] == "StorageDriverError"
    assert "acme_storage_absent" in told["needy"][1]
    assert told["broken"][0] == "StorageConfigError"
    assert "ZeroDivisionError" in told["broken"][1]
    assert told["absent"][0] == "StorageConfigError"
    assert "Unknown storage type 'absent'. Known types: acme, azure" in told["absent"][1]


class Own(MemoryBackend):
    """Somebody's own."""


@pytest.fixture
def clean() -> Any:
    before = dict(_registered)
    yield
    _registered.clear()
    _registered.update(before)


@pytest.mark.usefixtures("clean")
def test_registered_for_the_process_or_for_one_manager() -> None:
    with StorageManager() as one, StorageManager() as other:
        one.register_backend_type("own", Own)
        one.configure([{"name": "m", "type": "own"}])
        assert type(one.get_backend("m")) is Own
        with pytest.raises(StorageConfigError, match="Unknown storage type 'own'"):
            other.configure([{"name": "m", "type": "own"}])
        genro_storage.register_backend_type("own", Own)
        other.configure([{"name": "m", "type": "own"}])
        assert type(other.get_backend("m")) is Own


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("by", ["process", "manager"])
def test_what_cannot_be_registered(by: str) -> None:
    with StorageManager() as storage:
        register: Any = genro_storage.register_backend_type if by == "process" else storage.register_backend_type
        for name, cls in (
            ("x", MemoryOptions),
            ("x", Own(MemoryOptions())),
            ("no name", Own),
            ("local", Own),
            ("file", Own),
        ):
            with pytest.raises(StorageConfigError):
                register(name, cls)
        register("local", Own, replace=True)
        storage.configure([{"name": "m", "type": "local", "store": "s"}])
        assert type(storage.get_backend("m")) is Own
