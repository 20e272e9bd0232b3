"""Who is connected, and when last heard of: soft state. Pure.

After a change of coordinator each member has its session time-out to come back, and no partition moves meanwhile.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from typing import Final

from node.groups.model import Member
from node.groups.overlay import Overlay

LOST_CLIENT_GRACE_MS: Final = 300
"""How long a member may take to resume after the node that held its connection saw it close (docs/protocol.md)."""

MemberKey = tuple[str, str]
"""(group id, member id)."""


@dataclass(frozen=True, slots=True)
class Contact:
    """A member's. `session` None = not connected. `polls`: it has no stream, and hears what the answers to its own
    heartbeats say. `revoke_by_ms`: when it must have given back what it is to."""

    group_id: str
    member_id: str
    session: int | None
    last_contact_ms: int
    assignment_id: int = 0
    heartbeats: bool = False
    lost_client: bool = False
    polls: bool = False
    revoke_by_ms: int | None = None

    @property
    def key(self) -> MemberKey:
        return self.group_id, self.member_id

    def expires_ms(self, member: Member) -> int | None:
        """When the member is lost if nothing is heard of it; None while its stream's keepalive vouches for it."""
        if self.session is not None and not self.heartbeats:
            return None
        grace = self.session is None and self.lost_client and not member.instance_id
        silent_ms = self.last_contact_ms + (LOST_CLIENT_GRACE_MS if grace else member.session_timeout_ms) + 1
        return silent_ms if self.revoke_by_ms is None else min(silent_ms, self.revoke_by_ms)


@dataclass(slots=True)
class Sessions:
    """Contacts by member, and members by stream."""

    contacts: MutableMapping[MemberKey, Contact] = field(default_factory=dict)
    by_session: MutableMapping[int, MemberKey] = field(default_factory=dict)

    def staged(self) -> "Sessions":
        return Sessions(Overlay(self.contacts), Overlay(self.by_session))

    def changed(self) -> list[MemberKey]:
        """Whose contact was changed since this was staged."""
        assert isinstance(self.contacts, Overlay)
        return list(self.contacts.touched())

    def land(self) -> None:
        """What was changed here holds in the sessions that this was staged from."""
        assert isinstance(self.contacts, Overlay)
        assert isinstance(self.by_session, Overlay)
        self.contacts.land()
        self.by_session.land()

    def of(self, session: int) -> Contact | None:
        """Whose stream it is; None where it has been replaced or removed."""
        key = self.by_session.get(session)
        return None if key is None else self.contacts.get(key)

    def connected(self, key: MemberKey) -> int | None:
        """The member's stream."""
        contact = self.contacts.get(key)
        return None if contact is None else contact.session

    def polls(self, key: MemberKey) -> bool:
        """The member is here, and without a stream."""
        contact = self.contacts.get(key)
        return contact is not None and contact.session is not None and contact.polls

    def connect(self, key: MemberKey, session: int, now_ms: int, *, polls: bool = False) -> None:
        """The member speaks over this stream, and over no other any more. Who polls is to go on with it."""
        self._forget_stream(key)
        self.contacts[key] = Contact(*key, session, now_ms, heartbeats=polls, polls=polls)
        self.by_session[session] = key

    def step_out(self, key: MemberKey, now_ms: int) -> None:
        """The member says that it is away from now on."""
        self._forget_stream(key)
        self.contacts[key] = Contact(*key, None, now_ms)

    def revokes(self, key: MemberKey, by_ms: int | None) -> None:
        """The member has something to give back until then; None = it has not."""
        self.contacts[key] = replace(self.contacts[key], revoke_by_ms=by_ms)

    def forget(self, key: MemberKey) -> None:
        self._forget_stream(key)
        self.contacts.pop(key, None)

    def _forget_stream(self, key: MemberKey) -> None:
        if (old := self.connected(key)) is not None:
            self.by_session.pop(old, None)

    def heard(self, session: int, now_ms: int, *, heartbeat: bool = False) -> Contact | None:
        """The member lives. Who has sent one heartbeat must go on: its silence then counts."""
        key = self.by_session.get(session)
        return None if key is None else self.heard_of(key, now_ms, heartbeat=heartbeat)

    def heard_of(self, key: MemberKey, now_ms: int, *, heartbeat: bool = False) -> Contact | None:
        contact = self.contacts.get(key)
        if contact is not None:
            contact = replace(contact, last_contact_ms=now_ms, heartbeats=contact.heartbeats or heartbeat)
            self.contacts[key] = contact
        return contact

    def disconnect(self, session: int) -> None:
        """The member says no more over its stream."""
        contact = self.of(session)
        if contact is not None:
            self._forget_stream(contact.key)
            self.contacts[contact.key] = replace(contact, session=None)

    def closed(self, session: int, now_ms: int, *, by_client: bool) -> Contact | None:
        """The stream ended without a word. `by_client`: the node that held the client's connection saw it close."""
        contact = self.of(session)
        if contact is None:
            return None
        self._forget_stream(contact.key)
        heard_ms = now_ms if by_client or not contact.heartbeats else contact.last_contact_ms
        contact = replace(contact, session=None, last_contact_ms=heard_ms, lost_client=by_client)
        self.contacts[contact.key] = contact
        return contact
