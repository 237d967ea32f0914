"""A real browser plays and seeks a video that ffmpeg made and `wsgi_app` or `asgi_app` serves."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, sync_playwright

from genro_storage import StorageManager
from tests.servers.process import ServerMissing, find_program
from tests.servers.running import miss
from tests.verbs.serving import asgi_server, wsgi_server

SECONDS = 20
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PAGE = b"""<!doctype html><title>Seeking</title><video src="movie.webm" muted preload="auto"></video>"""
SEEK = """async to => {
    const video = document.querySelector('video');
    const heard = name => new Promise((yes, no) => {
        video.addEventListener(name, yes, {once: true});
        video.addEventListener('error', () => no(video.error.message), {once: true});
        setTimeout(() => no(name + ' never came'), 20000);
    });
    if (video.readyState < 2) await heard('loadeddata');
    const seeked = heard('seeked');
    video.currentTime = to;
    await seeked;
    await video.play();
    await heard('timeupdate');
    video.pause();
    return {at: video.currentTime, length: video.duration, width: video.videoWidth};
}"""


class Seen(NamedTuple):
    path: str
    asked: str
    status: int


def program(name: str) -> str:
    try:
        return find_program(name, f"apt-get install {name}")
    except ServerMissing as missing:
        miss(missing)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Noise, which no codec makes small, so that the browser does not fetch all of it before it is asked to seek."""
    made = tmp_path_factory.mktemp("video") / "movie.webm"
    picture = f"testsrc2=size=320x240:rate=15:duration={SECONDS},noise=alls=80:allf=t"
    codec = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "8M", "-g", "15")
    command = (program("ffmpeg"), "-v", "error", "-nostdin", "-f", "lavfi", "-i", picture, *codec, str(made))
    subprocess.run(command, check=True, timeout=200)
    return made.read_bytes()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; Playwright brings the protocol, and a profile of its own for every start."""
    chromium = program("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield launched
        launched.close()


def watched_wsgi(app: Callable[..., Any], seen: list[Seen]) -> Callable[..., Any]:
    def watched(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        def started(status: str, headers: Any, *error: Any) -> Any:
            seen.append(Seen(environ["PATH_INFO"], environ.get("HTTP_RANGE", ""), int(status.split()[0])))
            return start(status, headers, *error)

        return app(environ, started)

    return watched


def watched_asgi(app: Callable[..., Any], seen: list[Seen]) -> Callable[..., Any]:
    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                asked = dict(scope["headers"]).get(b"range", b"").decode()
                seen.append(Seen(scope["path"], asked, message["status"]))
            await send(message)

        await app(scope, receive, told)

    return watched


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("store", ["local", "memory"])
def test_seeking_in_a_video(tmp_path: Path, browser: Browser, video: bytes, kind: str, store: str) -> None:
    entry = {"type": "local", "path": str(tmp_path)} if store == "local" else {"type": "memory"}
    seen: list[Seen] = []
    with StorageManager({"m": entry}) as storage:
        storage.node("m:page.html").write_bytes(PAGE)
        storage.node("m:movie.webm").write_bytes(video)
        root = storage.node("m:")
        with (
            wsgi_server(watched_wsgi(root.wsgi_app(), seen))
            if kind == "wsgi"
            else asgi_server(watched_asgi(root.asgi_app(), seen)) as address
        ):
            page = browser.new_page()
            page.goto(f"{address}/page.html")
            told = page.evaluate(SEEK, SECONDS - 4)
            page.close()
    assert told["width"] == 320
    assert told["length"] == pytest.approx(SECONDS, abs=0.5)
    assert SECONDS - 4 <= told["at"] <= SECONDS
    parts = [one for one in seen if one.path == "/movie.webm"]
    assert {one.status for one in parts} <= {206, 304}  # it may ask whether what it has is still good
    starts = [int(one.asked.removeprefix("bytes=").partition("-")[0]) for one in parts if one.status == 206]
    assert starts[0] == 0
    assert max(starts) > len(video) // 2
