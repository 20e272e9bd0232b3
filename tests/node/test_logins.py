"""Passwords that wait for their check: addresses take turns."""

import asyncio
import threading

import pytest

from node import logins
from node.logins import Busy, Passwords
from ottla.protocol import scram

KEPT = scram.nobodys(scram.SHA_256, "x", b"secret")


class Crowd:
    """Checks that wait until they are let on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.go = threading.Event()
        monkeypatch.setattr(scram, "is_password", self._check)
        self.passwords = Passwords()

    def _check(self, _mechanism: object, _kept: object, password: str) -> bool:
        assert self.go.wait(10)
        self.done.append(password)
        return False

    def ask(self, address: str, password: str) -> "asyncio.Task[bool]":
        work = self.passwords.is_right("x", scram.SHA_256, KEPT, password, address)
        return asyncio.get_running_loop().create_task(work)


async def test_one_address_does_not_keep_another_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd(monkeypatch)
    many = [crowd.ask("10.0.0.1", f"many-{i}") for i in range(50)]
    await asyncio.sleep(0)
    one = crowd.ask("10.0.0.2", "one")
    await asyncio.sleep(0)
    crowd.go.set()
    await asyncio.gather(one, *many)
    assert crowd.done.index("one") <= 2
    assert [each for each in crowd.done if each != "one"] == [f"many-{i}" for i in range(50)]


async def test_one_address_does_not_take_all_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "CHECKS_MAX", 10)
    crowd = Crowd(monkeypatch)
    many = [crowd.ask("10.0.0.1", f"many-{i}") for i in range(30)]
    await asyncio.sleep(0.01)
    assert sum(each.done() for each in many) == 20, "refused at once"
    others = [crowd.ask(f"10.0.1.{i}", f"other-{i}") for i in range(4)]
    await asyncio.sleep(0.01)
    assert not any(each.done() for each in others)
    crowd.go.set()
    assert await asyncio.gather(*others) == [False] * 4
    found = await asyncio.gather(*many, return_exceptions=True)
    assert sum(isinstance(each, Busy) for each in found) == 24, "the crowd gave up four of its ten"
