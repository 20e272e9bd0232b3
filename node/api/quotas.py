"""Quotas, as the active controller is asked for them, wherever it is."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import Component, Entity, Part


class QuotaChanges(NamedTuple):
    """New values by their keys; None removes one."""

    entity: Sequence[Part]
    values: Sequence[tuple[str, float | None]]


class QuotasApi(Protocol):
    """Raises ApiError where no controller could be asked, or refused all."""

    async def describe(
        self, wanted: Sequence[Component], *, strict: bool
    ) -> Sequence[tuple[Entity, Mapping[str, float]]]: ...

    async def alter(
        self, changes: Sequence[QuotaChanges], timeout_ms: int, *, validate_only: bool
    ) -> Sequence[ApiError | None]:
        """Results in the order of the changes."""
        ...
