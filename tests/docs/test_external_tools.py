"""The lines of docs/howto/external_tools.rst that call ImageMagick and ffmpeg, really run."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import pytest

from genro_storage import StorageManager
from tests.servers.process import ServerMissing, find_program
from tests.servers.running import miss

PAGE = Path(__file__).parents[2] / "docs/howto/external_tools.rst"
TALK = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=10:duration=4", "-f", "lavfi", "-i", "sine=duration=4")


@pytest.fixture(autouse=True)
def programs() -> None:
    for name, package in (("convert", "imagemagick"), ("ffmpeg", "ffmpeg"), ("ffprobe", "ffmpeg")):
        try:
            find_program(name, f"apt-get install {package}")
        except ServerMissing as missing:
            miss(missing)


def lines() -> str:
    """The code block under "Pictures and video"."""
    section = PAGE.read_text(encoding="utf-8").partition("Pictures and video")[2]
    block = re.search(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", section)
    assert block is not None
    return textwrap.dedent(block[1])


def told(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout


def test_pictures_and_video(tmp_path: Path) -> None:
    told("convert", "-size", "400x300", "xc:red", str(tmp_path / "photo.jpg"))
    told("ffmpeg", "-v", "error", "-nostdin", *TALK, "-c:v", "mpeg4", str(tmp_path / "talk.mp4"))
    with StorageManager({"bucket": {"type": "memory"}, "temp": {"type": "temp", "base_dir": str(tmp_path)}}) as storage:
        for name in ("photo.jpg", "talk.mp4"):
            storage.node("bucket:", name).write_bytes((tmp_path / name).read_bytes())
        before = storage.node("bucket:talk.mp4").stat()
        exec(lines(), {"storage": storage, "subprocess": subprocess})
        assert storage.node("bucket:talk.mp4").stat() == before
        made = {"photo.jpg": "small/photo.jpg", "talk.mp3": "talk.mp3", "still.jpg": "talk.jpg"}
        for name, path in made.items():
            (tmp_path / name).write_bytes(storage.node("bucket:", path).read_bytes())
    assert told("identify", "-format", "%wx%h", str(tmp_path / "photo.jpg")) == "200x150"
    assert told("identify", "-format", "%wx%h", str(tmp_path / "still.jpg")) == "160x120"
    probe = ("ffprobe", "-v", "error", "-of", "csv=p=0", "-show_entries")
    assert told(*probe, "stream=codec_name", str(tmp_path / "talk.mp3")).strip() == "mp3"
    assert float(told(*probe, "format=duration", str(tmp_path / "talk.mp3"))) == pytest.approx(4, abs=0.2)
