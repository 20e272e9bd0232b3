"""Quotas: how much clients may have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.errors import ConfigError, OttlaError, from_server
from ottla.protocol import quota_messages, quotas
from ottla.protocol.errors import ApiError
from ottla.protocol.quotas import Component, Entity
from ottla.v1 import admin_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub

DEFAULT: Final = "*"
"""In the place of a name: all that have no quota of their own."""
_CALL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Quota:
    """The quotas of a user, of a client id, of a client id of a user, or of an address (`ip`); `*` stands for all that
    have none of their own. `values`: by key, so much a second."""

    values: Mapping[str, float]
    user: str | None = None
    client_id: str | None = None
    ip: str | None = None


class QuotaAdmin:
    """The part of `Admin` that is about quotas."""

    _client: Client
    _timeout_ms: int

    async def list_quotas(
        self, *, user: str | None = None, client_id: str | None = None, ip: str | None = None
    ) -> list[Quota]:
        """All quotas; or those of entities that have the user, client id or address, `*` being the default."""
        parts = _parts(user, client_id, ip)
        request = admin_pb2.DescribeClientQuotasRequest(
            filters=[quota_messages.component_message(Component(kind, any=False, name=name)) for kind, name in parts]
        )
        timeout_s = self._timeout_ms / 1000
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).DescribeClientQuotas(request, timeout=timeout_s), self._timeout_ms
        )
        return [_shown(each) for each in answer.quotas]

    async def alter_quotas(
        self,
        values: Mapping[str, float | None],
        *,
        user: str | None = None,
        client_id: str | None = None,
        ip: str | None = None,
        validate_only: bool = False,
    ) -> None:
        """Sets quotas of one entity; None removes one. Returns when every live broker goes by them. Raises
        OttlaError."""
        entity, changes = _checked(_parts(user, client_id, ip), values)
        request = admin_pb2.AlterClientQuotasRequest(
            entries=[
                admin_pb2.ClientQuotaChanges(
                    entity=quota_messages.entity_messages(entity),
                    changes=[admin_pb2.QuotaChange(key=key, value=value) for key, value in changes.items()],
                )
            ],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).AlterClientQuotas(request, timeout=timeout_s),
            self._timeout_ms,
            repeatable=False,
        )
        if not answer.results:
            raise OttlaError("the server's answer has no results. Next: check that client and server have one version")
        for result in answer.results:
            if result.error.code:
                raise from_server(result.error)


def _parts(user: str | None, client_id: str | None, ip: str | None) -> list[quotas.Part]:
    given = ((quotas.USER, user), (quotas.CLIENT_ID, client_id), (quotas.IP, ip))
    return [
        (kind, None if name == DEFAULT else _named(kind.replace("-", "_"), name))
        for kind, name in given
        if name is not None
    ]


def _named(what: str, name: object) -> str:
    given = arguments.label(what, name)
    if not given:
        raise ConfigError(f"{what} is empty. Next: give a name, or {DEFAULT} for all that have none of their own")
    return given


def _checked(parts: list[quotas.Part], values: object) -> tuple[Entity, dict[str, float | None]]:
    """Raises ConfigError."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"values {arguments.shown(values)} is no mapping but {type(values).__name__}")
    if not values:
        raise ConfigError("values is empty. Next: give at least one quota")
    changes: dict[str, float | None] = {}
    try:
        entity = quotas.entity_of(parts)
        for key, value in values.items():
            quotas.check_key(entity, arguments.text("values", key))
            if value is not None:
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ConfigError(f"{key} {arguments.shown(value)} is no number but {type(value).__name__}")
                value = float(min(value, 2 * quotas.VALUE_MAX))  # an int may be more than a float can be
                quotas.check_value(entity, key, value)
            changes[key] = value
    except ApiError as error:
        raise ConfigError(f"{error.message}. Next: {error.next_step or 'correct it'}") from None
    return entity, changes


def _shown(message: admin_pb2.ClientQuota) -> Quota:
    parts = {kind: DEFAULT if name is None else name for kind, name in quota_messages.parts_of(message.entity)}
    return Quota(
        {each.key: each.value for each in message.values},
        parts.get(quotas.USER),
        parts.get(quotas.CLIENT_ID),
        parts.get(quotas.IP),
    )
