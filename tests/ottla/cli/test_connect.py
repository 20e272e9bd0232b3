"""A command that goes on until it is ended says when nobody answers it."""

from collections.abc import Iterator
from typing import cast

import pytest

from ottla import Client, ConnectionFailed
from ottla.cli.connect import Contact


class Node:
    """A client whose node answers, or does not."""

    def __init__(self, answers: Iterator[bool]) -> None:
        self._answers = answers

    async def home(self, timeout_s: float) -> str:
        if not next(self._answers):
            raise ConnectionFailed(f"no node answered within {timeout_s:g} s")
        return "127.0.0.1:9192"


async def test_each_loss_and_each_return_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [True, False, False, True, True, False]
    contact = Contact(cast(Client, Node(iter(answers))))
    told = []
    for _ in answers:
        await contact.look()
        told.append(capsys.readouterr().err)
    lost = "No node of the cluster answers: going on when one does, Ctrl-C ends.\n"
    assert told == ["", lost, "", "A node answers again: going on.\n", "", lost]
