"""The memory of agents of the OpenAI Agents SDK, over every store, with the real package."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, RunConfig, Runner, SQLiteSession, Usage
from agents.memory import Session, SessionSettings
from openai.types.responses import ResponseOutputMessage, ResponseOutputText

from genro_storage.sessions import AgentsSession
from genro_storage.sessions.store import SessionStore

from .conftest import Opened


class Counting(Model):
    """A model that says how many items it was given."""

    async def get_response(self, system_instructions: Any, input: Any, *args: Any, **kwargs: Any) -> ModelResponse:
        text = ResponseOutputText(text=f"given {len(input)}", type="output_text", annotations=[])
        said = ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
        return ModelResponse(output=[said], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def items(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.fixture
def store(opened: Opened) -> SessionStore:
    return opened()


def test_an_agent_remembers(store: SessionStore) -> None:
    """Two runs in one session, then one in another; the run's own types are kept as they were."""
    agent = Agent(name="a", model=Counting())
    quiet = RunConfig(tracing_disabled=True)

    async def talk() -> list[str]:
        told = []
        for name in ("one", "one", "two"):
            session = AgentsSession(name, store)
            assert isinstance(session, Session)
            told.append((await Runner.run(agent, "hello", session=session, run_config=quiet)).final_output)
        return told

    assert store.sync.run(talk()) == ["given 1", "given 3", "given 1"]
    assert [one["role"] for one in store.sync.get_conversation_history("one")] == ["user", "assistant"] * 2
    assert store.sync.get_session("one")["user_id"] == "agents"


def test_it_does_what_the_sdks_own_session_does(store: SessionStore) -> None:
    async def drive(session: Any) -> list[Any]:
        told: list[Any] = [await session.get_items(), await session.pop_item()]
        await session.clear_session()
        await session.add_items([])
        await session.add_items(items("a", "b"))
        await session.add_items([{"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}])
        told += [await session.get_items(), await session.get_items(2), await session.get_items(limit=0)]
        told += [await session.pop_item(), await session.pop_item(), await session.get_items()]
        await session.add_items(items("c"))
        session.session_settings = SessionSettings(limit=1)
        told += [await session.get_items(), await session.get_items(5)]
        await session.clear_session()
        told += [await session.get_items(), await session.pop_item()]
        await session.add_items(items("d"))
        return [*told, await session.get_items()]

    assert store.sync.run(drive(AgentsSession("s", store))) == store.sync.run(drive(SQLiteSession("s")))


def test_many_items_at_once(store: SessionStore) -> None:
    session = AgentsSession("s", store, user_id="ada")
    store.sync.run(session.add_items(items(*map(str, range(1000)))))
    assert [one["content"] for one in store.sync.run(session.get_items())] == [str(n) for n in range(1000)]
    assert store.sync.get_session("s")["user_id"] == "ada"


def test_popping_takes_each_item_once(store: SessionStore) -> None:
    """While others add: what was popped and what stays is all that was added, and numbers have no gap."""
    session = AgentsSession("s", store)

    async def both() -> list[Any]:
        await session.add_items(items(*(f"old {n}" for n in range(20))))
        adding = [session.add_items(items(f"new {n}")) for n in range(20)]
        return await asyncio.gather(*(session.pop_item() for _ in range(10)), *adding)

    popped = [one["content"] for one in store.sync.run(both())[:10]]
    history = store.sync.get_conversation_history("s", None)
    assert [one["seq"] for one in history] == list(range(1, 31))
    wanted = [f"old {n}" for n in range(20)] + [f"new {n}" for n in range(20)]
    assert sorted(popped + [one["content"]["content"] for one in history]) == sorted(wanted)
    assert store.sync.verify().ok
