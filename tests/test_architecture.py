"""Imports point one way, every third-party library has one door, and no module or function outgrows its noun."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "genro_storage"
ROOT = Path(__file__).parents[1] / PACKAGE

# Top to bottom, left to right: a module imports from lines above, from its left on its own line, or from its own
# sub-package. "x.*" is the package x and all in it; a module named in full stands where its name stands.
LAYERS = [
    "exceptions paths types capabilities",
    "retry observe hashing compression crypto config _bridge tempfiles.*",
    "backends.handles backends.base records.base records.blocking",
    "streams backends.* records.*",
    "journal.* emulate pages settling mount limits records.mount table urls",
    "transfer.*",
    "composed.* verbs.* transaction",
    "names facts pathnames outlets virtual nodes mountinfo specials manager default aio fs",
    "filestorage sessions.*",
    "service.* cli.* testing.*",
]
RANKS = {name: (line, place) for line, names in enumerate(LAYERS) for place, name in enumerate(names.split())}

# Who may import which third-party library; one that is not here may not be imported at all.
S3 = "backends.s3 backends._s3.*"
AZURE = "backends.azure backends._azure.*"
GCS = "backends.gcs backends._gcs.*"
DOORS = {
    "msgspec": "*",
    "fsspec": f"backends.fsspec backends._fsspec_chain {S3} backends.gcs backends.azure fs",
    "adlfs": AZURE,
    "azure": AZURE,
    "gcsfs": GCS,
    "google": GCS,
    "s3fs": S3,
    "urllib3": "backends._rest.*",
    "aiobotocore": S3,
    "botocore": S3,
    "aiohttp": S3,
    "obstore": "backends._obstore",
    "google_crc32c": "hashing",
    "httpx": "backends._http backends._httpanswers backends.http backends.webdav backends.github",
    "paramiko": "backends.sftp backends._ssh backends._sshedit backends._sshfence backends._sshlogin",
    "dulwich": "backends.git",
    "libarchive": "composed.libarchive",
    "smbclient": "backends._smb",
    "smbprotocol": "backends._smb",
    "yaml": "config",
    "opentelemetry": "observe",
    "redis": "records.redis records._redis_client",
    "cryptography": "crypto",
    "asyncpg": "records.postgres records._postgres_plain",
    "starlette": "service.*",
    "pytest": "testing.*",
    "hypothesis": "testing.*",
    "langgraph": "sessions.langgraph",
    "langchain_core": "sessions.langgraph",
    "starsessions": "sessions.starlette",
}

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 40  # without the docstring
LONG_FILES: set[str] = set()
LONG_FUNCTIONS: set[str] = set()


def matches(module: str, entry: str) -> bool:
    """Whether a module is what an entry of LAYERS or DOORS names."""
    package = entry.removesuffix(".*")
    return entry == "*" or module == entry or (package != entry and (module + ".").startswith(package + "."))


def rank(module: str) -> tuple[int, int] | None:
    """Line and place of a module in LAYERS, None if no entry names it."""
    if module in RANKS:
        return RANKS[module]
    return next((place for entry, place in RANKS.items() if matches(module, entry)), None)


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its name inside it ("" is the package itself)."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def is_type_checking(test: ast.expr) -> bool:
    """Whether this is the condition of an `if TYPE_CHECKING:`."""
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "t.TYPE_CHECKING")


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement, those in functions included, those under TYPE_CHECKING not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield from import_statements(ast.Module([other], []))
        else:
            yield from import_statements(child)


def imported(path: Path, root: Path, names: dict[str, Path]) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of all that a file imports; a module and not a name of it, where it is one."""
    package = [PACKAGE, *path.relative_to(root).parent.parts]
    for statement in import_statements(ast.parse(path.read_text(), str(path))):
        if isinstance(statement, ast.Import):
            yield from ((statement.lineno, alias.name) for alias in statement.names)
            continue
        base = package[: len(package) - statement.level + 1] if statement.level else []
        source = ".".join([*base, *(statement.module or "").split(".")]).strip(".")
        for alias in statement.names:
            inside = f"{source}.{alias.name}".partition(".")[2]
            is_module = source.split(".")[0] == PACKAGE and inside in names
            is_root = source == PACKAGE and not is_module
            yield statement.lineno, f"{source}.{alias.name}" if is_module or is_root else source


def may_import(module: str, target: str) -> bool:
    """Whether the rule of LAYERS lets a module import another."""
    here, there = rank(module), rank(target)
    own = module.split(".")[0]
    same_package = own == target.split(".")[0] and not (module == target == own)
    return same_package or (here is not None and there is not None and there < here)


def import_faults(root: Path) -> list[str]:
    """What is wrong with the imports of the package under this folder, one sentence each."""
    names, faults = modules(root), []
    for module, path in names.items():
        if not module:
            continue  # the face of the package maps names to modules and stands outside
        if rank(module) is None:
            faults.append(f"{module}: not in LAYERS; decide where it stands")
        for line, name in imported(path, root, names):
            top, _, target = name.partition(".")
            where = f"{module}:{line}"
            doors = DOORS.get(top, "")
            if top == PACKAGE and not (target and target in names):
                if target != "__version__":
                    faults.append(f"{where}: imports {name} through the package's face; name the module")
            elif top == PACKAGE:
                if not may_import(module, target):
                    faults.append(f"{where}: imports {target}, which stands below it or to its right")
            elif top not in sys.stdlib_module_names and not any(matches(module, door) for door in doors.split()):
                faults.append(f"{where}: imports {top}, which may enter only by {doors or 'nobody'}")
    return faults


def functions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its qualified name."""
    for child in ast.iter_child_nodes(tree):
        name = f"{inside}{child.name}." if hasattr(child, "name") and isinstance(child.name, str) else inside
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield name[:-1], child
        yield from functions(child, name)


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def shape_faults(root: Path) -> list[str]:
    """Files and functions that are too long, and modules that do not say in one sentence what they are."""
    faults = []
    for module, path in modules(root).items():
        text = path.read_text()
        tree, name = ast.parse(text), module or PACKAGE
        if (count := len(text.splitlines())) > MAX_FILE_LINES and name not in LONG_FILES:
            faults.append(f"{name}: {count} lines")
        for function, node in functions(tree):
            if length(node) > MAX_FUNCTION_LINES and f"{name}.{function}" not in LONG_FUNCTIONS:
                faults.append(f"{name}.{function}: {length(node)} lines")
        docstring = " ".join((ast.get_docstring(tree) or "").split())
        if not docstring.endswith(".") or re.search(r"[a-z)`\"][.!?] [A-Z]", docstring):
            faults.append(f"{name}: its docstring is not one sentence")
    return faults


def test_imports_point_one_way() -> None:
    assert import_faults(ROOT) == []


def test_modules_and_functions_fit_a_screen() -> None:
    assert shape_faults(ROOT) == []


def test_allow_lists_name_what_exists() -> None:
    names = {name or PACKAGE: path for name, path in modules(ROOT).items()}
    assert set(names) >= LONG_FILES
    known = {
        f"{name}.{function}" for name, path in names.items() for function, _ in functions(ast.parse(path.read_text()))
    }
    assert known >= LONG_FUNCTIONS


def test_the_package_is_where_this_test_looks() -> None:
    assert {"", "exceptions", "mount"} <= set(modules(ROOT))


# --- the checker itself ---


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small package that keeps the rules."""
    root = tmp_path / PACKAGE
    for name in (
        "exceptions",
        "paths",
        "mount",
        "nodes",
        "backends/__init__",
        "backends/base",
        "backends/s3",
        "cli/__init__",
    ):
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"""A module."""\n')
    (root / "__init__.py").write_text('"""The face."""\nfrom .nodes import anything\n')
    return root


def test_a_tree_that_keeps_the_rules_passes(tree: Path) -> None:
    (tree / "mount.py").write_text(
        '"""A mount."""\nimport os, msgspec\nfrom typing import TYPE_CHECKING\nfrom . import exceptions, __version__\n'
        "from .backends.base import X\nif TYPE_CHECKING:\n    from .nodes import StorageNode\n"
    )
    (tree / "backends/base.py").write_text('"""The port."""\nfrom . import s3\nfrom .. import paths\n')
    assert import_faults(tree) == []
    assert shape_faults(tree) == []


@pytest.mark.parametrize(
    ("file", "code", "fault"),
    [
        ("mount.py", "from .nodes import X", "mount:2: imports nodes, which stands below it"),
        ("mount.py", "from . import nodes", "mount:2: imports nodes"),
        ("mount.py", "import genro_storage.nodes", "mount:2: imports nodes"),
        ("mount.py", "from genro_storage.nodes import X", "mount:2: imports nodes"),
        ("mount.py", "def f():\n    from . import nodes", "mount:3: imports nodes"),
        ("mount.py", "try:\n    from . import nodes\nexcept ImportError: pass", "mount:3: imports nodes"),
        ("mount.py", "if TYPE_CHECKING: pass\nelse:\n    from . import nodes", "mount:4: imports nodes"),
        ("exceptions.py", "from . import paths", "exceptions:2: imports paths, which stands below it or to its right"),
        ("backends/s3.py", "from ..mount import Mount", "backends.s3:2: imports mount"),
        ("backends/base.py", "from .. import cli", "backends.base:2: imports cli"),
        (
            "mount.py",
            "from . import StorageNode",
            "mount:2: imports genro_storage.StorageNode through the package's face",
        ),
        ("mount.py", "import genro_storage", "mount:2: imports genro_storage through the package's face"),
        ("mount.py", "import fsspec.spec", "mount:2: imports fsspec, which may enter only by backends.fsspec"),
        ("mount.py", "def f(): import requests", "mount:2: imports requests, which may enter only by nobody"),
        ("novelty.py", "", "novelty: not in LAYERS; decide where it stands"),
    ],
)
def test_a_broken_rule_is_reported(tree: Path, file: str, code: str, fault: str) -> None:
    (tree / file).write_text(f'"""A module."""\n{code}\n')
    faults = import_faults(tree)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ('"""One. Two."""', "mount: its docstring is not one sentence"),
        ("x = 1", "mount: its docstring is not one sentence"),
        ('"""A module."""\n' + "x = 1\n" * 400, "mount: 401 lines"),
        ('"""A module."""\nclass C:\n    def f():\n' + "        x = 1\n" * 40, "mount.C.f: 41 lines"),
        ('"""A module."""\nasync def f():\n    def g():\n' + "        x = 1\n" * 40, "mount.f.g: 41 lines"),
    ],
)
def test_a_bad_shape_is_reported(tree: Path, code: str, fault: str) -> None:
    (tree / "mount.py").write_text(code)
    assert fault in shape_faults(tree)


def test_a_docstring_does_not_make_a_function_long(tree: Path) -> None:
    lines = '"""Long.\n' + "\n" * 60 + '    """\n'
    (tree / "mount.py").write_text(f'"""A module."""\ndef f():\n    {lines}    return 1\n')
    assert shape_faults(tree) == []


def test_every_module_of_the_design_has_its_place() -> None:
    design = """
        exceptions paths types capabilities retry observe hashing compression crypto config _bridge
        tempfiles.lease tempfiles.sweep tempfiles.manager backends backends.base backends.fsspec backends.s3
        backends._obstore backends.git records records.base records.memory records.mount streams emulate mount table
        journal transfer transfer.plan composed.union verbs.zip transaction virtual nodes manager aio fs filestorage
        sessions.store service.app cli testing.suites
    """
    named = design.split()
    assert [name for name in named if rank(name) is None] == []
    assert rank("backends.base") < rank("backends.local") < rank("mount")  # type: ignore[operator]
    assert rank("records.mount") > rank("records.sqlite")  # type: ignore[operator]
    assert rank("transferring") is None
