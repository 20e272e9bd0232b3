"""Users, as the active controller is asked for them, wherever it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ottla.protocol.errors import ApiError


class NewCredential(NamedTuple):
    """Mechanisms have Kafka's numbers."""

    mechanism: int
    iterations: int
    salt: bytes
    salted_password: bytes

    def __repr__(self) -> str:
        return f"NewCredential(mechanism={self.mechanism})"


class UserChanges(NamedTuple):
    """Removals come first."""

    name: str
    removals: Sequence[int]
    credentials: Sequence[NewCredential]


class DescribedUser(NamedTuple):
    """`credentials`: the iterations of each mechanism."""

    name: str
    error: ApiError | None
    credentials: Mapping[int, int]


class UsersApi(Protocol):
    """Raises ApiError where no controller could be asked."""

    async def describe(self, names: Sequence[str]) -> Sequence[DescribedUser]:
        """Users in the order of their names here; without any, all."""
        ...

    async def alter(self, users: Sequence[UserChanges], timeout_ms: int) -> Sequence[ApiError | None]: ...
