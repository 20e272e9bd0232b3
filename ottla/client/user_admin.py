"""Users and their passwords. A password does not leave this process: what is sent is its salted form."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from grpc import aio

from ottla.client import arguments
from ottla.client.connection import Client
from ottla.client.errors import ConfigError, OttlaError, from_server
from ottla.client.login import checked_password
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_user_name
from ottla.v1 import admin_pb2
from ottla.v1.admin_pb2_grpc import AdminServiceStub

_CALL_MARGIN_S = 2.0


@dataclass(frozen=True, slots=True)
class User:
    """A user. `credentials`: by mechanism (SCRAM-SHA-256, SCRAM-SHA-512), how often its password is hashed."""

    name: str
    credentials: Mapping[str, int]


class UserAdmin:
    """The part of `Admin` that is about users."""

    _client: Client
    _timeout_ms: int

    async def list_users(self) -> dict[str, User]:
        """All users by name."""
        answer = await self._client.on_any_node(partial(_describe, self._timeout_ms), self._timeout_ms)
        return {
            user.name: User(user.name, {_mechanism(each.mechanism): each.iterations for each in user.credentials})
            for user in answer.users
        }

    async def create_user(
        self, name: str, password: str, *, iterations: int = scram.ITERATIONS, validate_only: bool = False
    ) -> None:
        """Makes a user, who can log in with SCRAM-SHA-256, SCRAM-SHA-512 and, over TLS, PLAIN. Returns when every live
        broker knows it. Raises OttlaError: DUPLICATE_RESOURCE where there is one of that name."""
        changes = _changes(name, exists=False)
        changes.credentials.extend(await _salted(password, iterations))
        await self._alter_user(changes, validate_only)

    async def change_password(
        self, name: str, password: str, *, iterations: int = scram.ITERATIONS, validate_only: bool = False
    ) -> None:
        """Replaces a user's password for every mechanism. Who is logged in with the old one is not any more. Raises
        OttlaError: RESOURCE_NOT_FOUND."""
        changes = _changes(name, exists=True, remove_all=True)
        changes.credentials.extend(await _salted(password, iterations))
        await self._alter_user(changes, validate_only)

    async def remove_user(self, name: str, *, validate_only: bool = False) -> None:
        """Removes a user and ends its sessions. Raises OttlaError: RESOURCE_NOT_FOUND."""
        await self._alter_user(_changes(name, exists=True, remove_all=True), validate_only)

    async def _alter_user(self, changes: admin_pb2.UserScramChanges, validate_only: bool) -> None:
        request = admin_pb2.AlterUserScramCredentialsRequest(
            users=[changes],
            validate_only=arguments.flag("validate_only", validate_only),
            timeout_ms=self._timeout_ms,
        )
        timeout_s = self._timeout_ms / 1000 + _CALL_MARGIN_S
        answer = await self._client.on_any_node(
            lambda channel: AdminServiceStub(channel).AlterUserScramCredentials(request, timeout=timeout_s),
            self._timeout_ms,
            repeatable=False,
        )
        if not answer.users:
            raise OttlaError("the server's answer has no user. Next: check that client and server have one version")
        if answer.users[0].error.code:
            raise from_server(answer.users[0].error)


def _changes(name: object, *, exists: bool, remove_all: bool = False) -> admin_pb2.UserScramChanges:
    text = arguments.text("name", name)
    try:
        check_user_name(text)
    except ApiError as error:
        raise ConfigError(f"name {arguments.shown(text)}: {error.message}") from None
    return admin_pb2.UserScramChanges(name=text, exists=exists, remove_all=remove_all)


async def _salted(password: object, iterations: object) -> list[admin_pb2.NewScramCredential]:
    """A credential for each mechanism: some ten milliseconds of work, in another thread."""
    text = checked_password(password)
    times = arguments.whole("iterations", iterations, scram.ITERATIONS_MIN, scram.ITERATIONS_MAX)
    return await asyncio.to_thread(lambda: [_credential(each, text, times) for each in scram.MECHANISMS.values()])


def _credential(mechanism: scram.Mechanism, password: str, iterations: int) -> admin_pb2.NewScramCredential:
    salt = os.urandom(scram.SALT_BYTES)
    return admin_pb2.NewScramCredential(
        mechanism=admin_pb2.ScramMechanism.ValueType(mechanism.number),
        iterations=iterations,
        salt=salt,
        salted_password=scram.salted_password(mechanism, password, salt, iterations),
    )


def _mechanism(number: int) -> str:
    known = scram.MECHANISMS.get(number)
    return f"mechanism {number}" if known is None else known.name


async def _describe(timeout_ms: int, channel: aio.Channel) -> admin_pb2.DescribeUserScramCredentialsResponse:
    request = admin_pb2.DescribeUserScramCredentialsRequest()
    return await AdminServiceStub(channel).DescribeUserScramCredentials(request, timeout=timeout_ms / 1000)
