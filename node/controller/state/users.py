"""Users: SCRAM credentials, which are set, removed and listed, and never shown (KIP-554)."""

from collections import Counter

from node import limits
from node.controller.state.draft import Draft
from node.controller.state.features import check_level
from node.metadata.apply import credential_record
from node.metadata.image import USERS_METADATA_VERSION
from ottla.internal.v1 import metadata_pb2 as records
from ottla.protocol import scram
from ottla.protocol.errors import ApiError
from ottla.protocol.names import check_user_name
from ottla.v1 import admin_pb2 as admin
from ottla.v1 import error_pb2 as pb


def describe_users(
    draft: Draft, request: admin.DescribeUserScramCredentialsRequest
) -> admin.DescribeUserScramCredentialsResponse:
    """Shows which mechanisms users have credentials for."""
    response = admin.DescribeUserScramCredentialsResponse()
    for name in request.users or sorted(draft.view.users):
        shown = response.users.add(name=name[:300])
        found = draft.view.users.get(name)
        if found is None:
            shown.error.CopyFrom(_no_user(name).to_proto())
            continue
        for mechanism, kept in sorted(found.items()):
            shown.credentials.add(mechanism=admin.ScramMechanism.ValueType(mechanism), iterations=kept.iterations)
    return response


def alter_users(
    draft: Draft, request: admin.AlterUserScramCredentialsRequest
) -> admin.AlterUserScramCredentialsResponse:
    """Changes users; each one's changes are made all or none. Raises UNSUPPORTED_VERSION."""
    check_level(draft, USERS_METADATA_VERSION, "users are kept")
    if request.validate_only:
        draft = draft.scratch()
    named = Counter(changes.name for changes in request.users)
    response = admin.AlterUserScramCredentialsResponse()
    for changes in request.users:
        result = response.users.add(name=changes.name[:300])
        try:
            if named[changes.name] > 1:
                raise ApiError(
                    pb.ERROR_CODE_DUPLICATE_RESOURCE,
                    f"the request names {changes.name[:300]!r} twice",
                    next_step="name each user once",
                )
            _alter(draft, changes)
        except ApiError as error:
            result.error.CopyFrom(error.to_proto())
    return response


def _alter(draft: Draft, changes: admin.UserScramChanges) -> None:
    """Raises ApiError before the first record."""
    check_user_name(changes.name)
    there = draft.view.users.get(changes.name, {})
    if changes.HasField("exists") and changes.exists != bool(there):
        if changes.exists:
            raise _no_user(changes.name)
        raise ApiError(pb.ERROR_CODE_DUPLICATE_RESOURCE, f"there is a user {changes.name!r} already")
    removed = sorted(there) if changes.remove_all else sorted(changes.removals)
    for mechanism in [*changes.removals, *(each.mechanism for each in changes.credentials)]:
        _check_mechanism(mechanism)
    for mechanism in changes.removals:
        if mechanism not in there:
            name = scram.MECHANISMS[mechanism].name
            raise ApiError(pb.ERROR_CODE_RESOURCE_NOT_FOUND, f"user {changes.name!r} has no credential for {name}")
    for times in (Counter(changes.removals), Counter(each.mechanism for each in changes.credentials)):
        if any(count > 1 for count in times.values()):
            raise ApiError(
                pb.ERROR_CODE_DUPLICATE_RESOURCE,
                f"the changes of user {changes.name!r} name a mechanism twice",
                next_step="name each mechanism once",
            )
    if not removed and not changes.credentials:
        if changes.remove_all:
            raise _no_user(changes.name)
        raise ApiError(pb.ERROR_CODE_INVALID_REQUEST, f"nothing is to be changed of user {changes.name!r}")
    for new in changes.credentials:
        _check_credential(new)
    if changes.credentials and not there and len(draft.view.users) >= limits.USERS_MAX:
        raise ApiError(
            pb.ERROR_CODE_POLICY_VIOLATION,
            f"there are {len(draft.view.users)} users, {limits.USERS_MAX} are allowed",
            next_step="remove some",
        )
    for number in removed:
        removal = records.RemoveUserScramCredentialRecord(user=changes.name, mechanism=number)
        draft.add(records.MetadataRecord(remove_user_scram_credential=removal))
    if changes.credentials and not draft.view.secret:
        secret = records.ClusterSecretRecord(secret=draft.new_id() + draft.new_id())
        draft.add(records.MetadataRecord(cluster_secret=secret))
    for new in changes.credentials:
        kept = scram.credential(scram.MECHANISMS[new.mechanism], new.salted_password, new.salt, new.iterations)
        draft.add(records.MetadataRecord(user_scram_credential=credential_record(changes.name, new.mechanism, kept)))


def _check_mechanism(mechanism: int) -> None:
    if mechanism not in scram.MECHANISMS:
        raise ApiError(
            pb.ERROR_CODE_UNSUPPORTED_SASL_MECHANISM,
            f"SCRAM mechanism {mechanism} is not known: {', '.join(scram.BY_NAME)} are",
        )


def _check_credential(new: admin.NewScramCredential) -> None:
    mechanism = scram.MECHANISMS[new.mechanism]
    low, high = scram.ITERATIONS_MIN, scram.ITERATIONS_MAX
    if not low <= new.iterations <= high:
        wrong = f"{new.iterations} iterations: {low} to {high} are allowed"
    elif not scram.SALT_MIN_BYTES <= len(new.salt) <= scram.SALT_MAX_BYTES:
        wrong = f"a salt of {len(new.salt)} bytes: {scram.SALT_MIN_BYTES} to {scram.SALT_MAX_BYTES} are allowed"
    elif len(new.salted_password) != mechanism.size:
        wrong = f"a salted password of {len(new.salted_password)} bytes: {mechanism.name} has {mechanism.size}"
    else:
        return
    raise ApiError(pb.ERROR_CODE_UNACCEPTABLE_CREDENTIAL, wrong)


def _no_user(name: str) -> ApiError:
    return ApiError(pb.ERROR_CODE_RESOURCE_NOT_FOUND, f"there is no user {name[:300]!r}")
