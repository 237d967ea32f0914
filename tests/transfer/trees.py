"""Trees by their paths and bytes."""

from __future__ import annotations

from genro_storage.mount import Mount
from genro_storage.transfer.places import At


def at(mount: Mount, path: str = "", version: str | None = None) -> At:
    return At(mount, path, version)


def plant(mount: Mount, **files: bytes) -> None:
    """Writes files; "__" in a name stands for "/", a name ending so for an empty directory."""
    for name, data in files.items():
        path = name.replace("__", "/")
        if path.endswith("/"):
            mount.mkdir(path[:-1], parents=True, exist_ok=True)
        else:
            mount.put(path, data)


def tree(mount: Mount, path: str = "") -> dict[str, bytes]:
    """Everything below: relative path → bytes, directories by a name ending in "/"."""
    found: dict[str, bytes] = {}
    start = len(path) + 1 if path else 0
    try:
        for page in mount.walk(path):
            for stat in page:
                if stat.is_dir:
                    found[stat.path[start:] + "/"] = b""
                else:
                    found[stat.path[start:]] = b"" if stat.is_other else mount.get(stat.path)[0]
    except FileNotFoundError:
        return {}
    return found


def files(mount: Mount, path: str = "") -> dict[str, bytes]:
    """As `tree`, files only."""
    return {name: data for name, data in tree(mount, path).items() if not name.endswith("/")}
