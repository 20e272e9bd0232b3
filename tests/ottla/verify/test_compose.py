"""How containers are frozen, without an engine."""

import pytest

from ottla.verify import compose


class Engine:
    def __init__(self, *errors: str) -> None:
        self.errors = list(errors)
        self.frozen = False

    def pause(self) -> None:
        if self.errors:
            raise RuntimeError(self.errors.pop(0))
        self.frozen = True


BUSY = "500 Server Error: OCI runtime pause failed: unable to freeze: unknown"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "_FREEZE_AGAIN_S", 0.0)


def test_an_engine_that_could_not_freeze_is_asked_again() -> None:
    engine = Engine(BUSY, BUSY)
    compose.freeze(engine)
    assert engine.frozen


@pytest.mark.parametrize("errors", [("404 no such container",), (BUSY,) * 10], ids=["another error", "never"])
def test_what_does_not_pass_is_said(errors: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError, match=r"container|freeze"):
        compose.freeze(Engine(*errors))
