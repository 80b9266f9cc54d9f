"""The gateway's passwords: right, slow for everybody alike, and beside the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service import load

module: Any = load("gateway.passwords")


@pytest.fixture
def passwords() -> Iterator[Any]:
    made = module.Passwords(threads=1, max_waiting=1)
    yield made
    made.close()


async def test_a_password_matches_its_own_hash_only(passwords: Any) -> None:
    hashed = await passwords.hash("correct horse")
    assert hashed.startswith("$argon2id$")
    assert await passwords.verify("correct horse", hashed)
    assert not await passwords.verify("battery staple", hashed)


async def test_an_unknown_user_is_refused_after_the_same_work(passwords: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the time of the answer tells who has an account."""
    verified: list[str] = []

    def agree(password: str, hashed: str) -> bool:
        verified.append(hashed)
        return True

    monkeypatch.setattr(passwords._hasher, "verify", agree)
    assert not await passwords.verify("correct horse", None)
    (hashed,) = verified
    assert hashed.startswith("$argon2id$")


async def test_an_endless_password_is_not_hashed(passwords: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords._hasher, "verify", lambda password, hashed: pytest.fail("hashed"))
    assert not await passwords.verify("x" * 129, None)


async def test_the_event_loop_runs_on_meanwhile(passwords: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    turned = threading.Event()

    def last(password: str) -> str:
        assert turned.wait(10), "the event loop stands still"
        return "hashed"

    monkeypatch.setattr(passwords._hasher, "hash", last)
    hashing = asyncio.create_task(passwords.hash("correct horse"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not hashing.done()
    turned.set()
    assert await hashing == "hashed"


async def test_more_than_may_wait_are_turned_away(passwords: Any) -> None:
    working = [asyncio.create_task(passwords.hash("correct horse")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(module.PasswordsBusy):
        await passwords.hash("correct horse")
    await asyncio.gather(*working)
    await passwords.hash("correct horse")
