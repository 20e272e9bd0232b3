"""ACLs, as the active controller is asked for them, wherever it is."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ottla.protocol.acls import Acl, Filter
from ottla.protocol.errors import ApiError


class Removed(NamedTuple):
    """What a filter removed."""

    error: ApiError | None
    acls: Sequence[Acl]


class AclsApi(Protocol):
    """Results in the order of the questions. Raises ApiError where no controller could be asked, or refused all."""

    async def describe(self, wanted: Filter) -> Sequence[Acl]: ...

    async def create(self, acls: Sequence[Acl], timeout_ms: int) -> Sequence[ApiError | None]: ...

    async def delete(self, filters: Sequence[Filter], timeout_ms: int) -> Sequence[Removed]: ...
