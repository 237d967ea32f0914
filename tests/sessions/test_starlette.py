"""Logins by starsessions with the real Starlette: nothing late brings a session back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starsessions import SessionMiddleware, load_session, regenerate_session_id
from starsessions.stores import SessionStore as StarSessionStore

from genro_storage.records.base import RecordStore
from genro_storage.records.memory import MemoryRecordStore
from genro_storage.sessions.starlette import GenroSessionStore
from genro_storage.sessions.store import SessionStore
from genro_storage.testing.record_words import FakeClock

from .conftest import Opened


class Site:
    """An application with a login, a logout, and a request that waits between loading and saving."""

    def __init__(self, store: SessionStore, *, lifetime: int = 0, rolling: bool = False, inner: bool = False) -> None:
        self.store = GenroSessionStore(store)
        assert isinstance(self.store, StarSessionStore)
        self.loaded, self.go_on = asyncio.Event(), asyncio.Event()
        routes = [Route(f"/{name}", getattr(self, name)) for name in ("login", "logout", "who", "slow", "renew")]
        layers = [
            Middleware(SessionMiddleware, store=self.store, lifetime=lifetime, rolling=rolling, cookie_https_only=False)
        ]
        if inner:  # one whose requests run in tasks of their own
            layers.append(Middleware(BaseHTTPMiddleware, dispatch=_through))
        self.app = Starlette(routes=routes, middleware=layers)

    async def login(self, request: Request) -> JSONResponse:
        await load_session(request)
        request.session["user"] = request.query_params["user"]
        return JSONResponse({})

    async def logout(self, request: Request) -> JSONResponse:
        await load_session(request)
        request.session.clear()
        return JSONResponse({})

    async def who(self, request: Request) -> JSONResponse:
        await load_session(request)
        return JSONResponse(request.session.get("user"))

    async def slow(self, request: Request) -> JSONResponse:
        await load_session(request)
        self.loaded.set()
        await self.go_on.wait()
        request.session["late"] = True
        return JSONResponse({})

    async def renew(self, request: Request) -> JSONResponse:
        await load_session(request)
        return JSONResponse(regenerate_session_id(request))

    def client(self, cookie: str | None = None) -> httpx.AsyncClient:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://site")
        if cookie is not None:
            client.cookies.set("session", cookie, domain="site.local", path="/")
        return client


async def _through(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
    return await call_next(request)


def test_a_login_is_remembered_and_ends(opened: Opened) -> None:
    """Over every store."""

    async def visit(store: SessionStore) -> None:
        site = Site(store)
        async with site.client() as ada, site.client() as eve:
            await ada.get("/login?user=ada")
            cookie = ada.cookies["session"]
            assert (await ada.get("/who")).json() == "ada"
            assert (await eve.get("/who")).json() is None
            assert "session" not in eve.cookies
            renewed = (await ada.get("/renew")).json()
            assert ada.cookies["session"] == renewed != cookie
            assert (await ada.get("/who")).json() == "ada"
            await ada.get("/logout")
            assert (await ada.get("/who")).json() is None
            async with site.client(renewed) as thief:
                assert (await thief.get("/who")).json() is None

    store = opened()
    store.sync.run(visit(store))


@pytest.mark.parametrize("inner", [False, True])
def test_a_save_after_logout_never_resurrects(records: RecordStore, inner: bool) -> None:
    store = SessionStore(records)

    async def visit() -> None:
        site = Site(store, inner=inner)
        async with site.client() as ada:
            await ada.get("/login?user=ada")
            cookie = ada.cookies["session"]
            async with site.client(cookie) as late:
                waiting = asyncio.ensure_future(late.get("/slow"))
                await site.loaded.wait()
                await ada.get("/logout")
                site.go_on.set()
                assert (await waiting).status_code == 200
                given = late.cookies["session"]
            for known in {cookie, given}:
                async with site.client(known) as again:
                    assert (await again.get("/who")).json() is None
        assert await site.store.read(cookie, 0) == b""
        living = [one for one in await store.list_sessions() if "data" in one["metadata"]]
        assert living == []

    store.sync.run(visit())
    store.sync.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> SessionStore:
    return SessionStore(MemoryRecordStore(clock=clock))


@pytest.mark.parametrize("inner", [False, True])
def test_a_login_with_the_cookie_of_a_logout_works(store: SessionStore, inner: bool) -> None:
    """At once where the context is the request's; at the second try where it is not."""

    async def visit() -> None:
        site = Site(store, inner=inner)
        async with site.client() as ada:
            await ada.get("/login?user=ada")
            cookie = ada.cookies["session"]
            await ada.get("/logout")
        async with site.client(cookie) as ada:
            await ada.get("/login?user=ada")
            if inner:
                await ada.get("/login?user=ada")
            assert (await ada.get("/who")).json() == "ada"
            assert ada.cookies["session"] != cookie

    asyncio.run(visit())


@pytest.mark.parametrize("cookie", ["made-up", "x" * 600, "tab\there"])
def test_an_id_made_up_by_a_client_is_not_taken(store: SessionStore, cookie: str) -> None:
    async def visit() -> None:
        site = Site(store)
        assert await site.store.read(cookie, 0) == b""
        written = await site.store.write(cookie, b"data", 0, 0)
        assert written != cookie
        assert await site.store.read(written, 0) == b"data"
        await site.store.remove(cookie)

    asyncio.run(visit())


def test_lifetimes(store: SessionStore, clock: FakeClock) -> None:
    """Fixed: counted from the first save. Rolling: from the last. None: kept for `keep` after the last use."""

    async def visit() -> None:
        fixed = GenroSessionStore(store)
        name = await fixed.write("fixed", b"1", 100, 100)
        clock.advance(60)
        assert await fixed.read(name, 100) == b"1"
        assert await fixed.write(name, b"2", 100, 40) == name
        clock.advance(39)
        assert await fixed.read(name, 100) == b"2"
        clock.advance(2)
        assert await fixed.read(name, 100) == b""
        assert await fixed.write("over", b"late", 100, 0) != "over"
        rolling = GenroSessionStore(store)
        await rolling.write("rolling", b"1", 100, 100)
        for _ in range(3):
            clock.advance(99)
            assert await rolling.read("rolling", 100) == b"1"
            assert await rolling.write("rolling", b"1", 100, 100) == "rolling"
        browser = GenroSessionStore(store, keep=1000)
        await browser.write("browser", b"1", 0, 0)
        clock.advance(999)
        assert await browser.read("browser", 0) == b"1"
        clock.advance(2)
        assert await browser.read("browser", 0) == b""
        await store.sweep()
        assert await store.list_sessions() == []

    asyncio.run(visit())


def test_a_save_after_expiry_stores_nothing(store: SessionStore, clock: FakeClock) -> None:
    async def visit() -> None:
        stars = GenroSessionStore(store)
        await stars.write("s", b"1", 100, 100)
        assert await stars.read("s", 100) == b"1"
        clock.advance(101)
        given = await stars.write("s", b"late", 100, 100)
        assert given != "s"
        assert await stars.read(given, 100) == b""
        assert await stars.read("s", 100) == b""

    asyncio.run(visit())


def test_two_saves_at_once_keep_one_whole(store: SessionStore) -> None:
    async def visit() -> None:
        stars = GenroSessionStore(store)
        await stars.write("s", b"first", 0, 0)
        await asyncio.gather(*(stars.write("s", b"%d" % n * 100, 0, 0) for n in range(20)))
        data = await stars.read("s", 0)
        assert data in {b"%d" % n * 100 for n in range(20)}

    asyncio.run(visit())
