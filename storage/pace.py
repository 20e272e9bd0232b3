"""How the work of background threads makes way for the owner's: it is asked after each small piece and may wait."""

from collections.abc import Callable

Pace = Callable[[], None]


def no_pace() -> None:
    """Work on without a pause."""
