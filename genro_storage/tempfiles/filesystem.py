"""What kind of file system a device holds, as Linux tells it."""

from __future__ import annotations

import os


def filesystem(dev: int) -> str:
    """Its type, as ``ext4``; empty where the system does not tell."""
    wanted = f"{os.major(dev)}:{os.minor(dev)}"
    kind = ""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            for line in mounts:
                left, _, right = line.partition(" - ")
                if left.split()[2] == wanted:
                    kind = right.split()[0]
    except OSError:
        pass
    return kind
