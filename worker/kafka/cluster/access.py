"""Which permissions a worker lacks, as far as brokers report them without any change to them."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from typing import TYPE_CHECKING, Any

import kafka.errors
from kafka.protocol.consumer import JoinGroupRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kafka import KafkaAdminClient

COORDINATOR_PATIENCE = 10.0
"""Seconds for a coordinator: the first group of a new cluster waits until the brokers have created
`__consumer_offsets`, which takes 1 s on a quiet machine."""

_CODE = re.compile(r"\[Error (-?\d+)\]")
"""How the client begins the text of a broker's error."""

_NOT_YET = (
    kafka.errors.CoordinatorNotAvailableError,
    kafka.errors.CoordinatorLoadInProgressError,
    kafka.errors.NotCoordinatorError,
)


def allows(described: dict[str, Any], operation: str) -> bool:
    """Whether a topic's or a group's description grants an operation; true if it does not say."""
    granted = described.get("authorized_operations")
    return granted is None or operation.upper() in granted


def describe_group(admin: KafkaAdminClient, group_id: str) -> dict[str, Any]:
    """A group as its coordinator describes it; one that does not exist has no members.

    Raises:
        kafka.errors.KafkaError: Also what the coordinator says of the group, which kafka-python
            3.0.12 puts into the description as a text, with no members.
    """
    described: dict[str, Any] = admin.describe_groups([group_id])[group_id]
    if text := described.get("error"):
        code = _CODE.match(text)
        error = kafka.errors.for_code(int(code[1])) if code else kafka.errors.KafkaError
        if error is not kafka.errors.GroupIdNotFoundError:
            raise error(text)
    return described


def reads_group(admin: KafkaAdminClient, group_id: str) -> bool:
    """Whether this client may join the group and commit; true if the brokers do not say.

    Raises:
        kafka.errors.KafkaError: The cluster does not answer.
    """
    described = _of_coordinator(lambda: describe_group(admin, group_id))
    return described is not None and allows(described, "Read")


def sees_transactions(admin: KafkaAdminClient, transactional_id: str) -> bool:
    """Whether this client may describe its transactions.

    Whether it may write them cannot be known without ending those of a replica that runs.

    Raises:
        kafka.errors.KafkaError: The cluster does not answer.
    """

    def describe() -> dict[str, Any]:
        with contextlib.suppress(kafka.errors.TransactionalIdNotFoundError):
            admin.describe_transactions([transactional_id])
        return {}

    return _of_coordinator(describe) is not None


def takes_session(admin: KafkaAdminClient, group_id: str, seconds: float) -> bool:
    """Whether the group's coordinator takes this session timeout; true if it does not say.

    It is asked as a member that the group does not have, which changes nothing: a coordinator
    looks at the timeout first, and then refuses the member.

    Raises:
        kafka.errors.KafkaError: The cluster does not answer.
    """

    async def join() -> dict[str, Any]:
        node = await admin._find_coordinator_id(group_id)  # noqa: SLF001 - there is no other way
        request = JoinGroupRequest(
            group_id=group_id,
            session_timeout_ms=int(seconds * 1_000),
            rebalance_timeout_ms=int(seconds * 1_000),
            member_id=f"nobody-{uuid.uuid4().hex}",
            group_instance_id=None,
            protocol_type="consumer",
            protocols=[("range", b"")],
            max_version=7,
        )
        answer = await admin._manager.send(request, node_id=node)  # noqa: SLF001
        error = kafka.errors.for_code(answer.error_code)
        if error in _NOT_YET:
            raise error
        return {"taken": error is not kafka.errors.InvalidSessionTimeoutError}

    answer = _of_coordinator(lambda: admin._manager.run(join))  # noqa: SLF001
    return answer is None or bool(answer.get("taken", True))


def _of_coordinator(ask: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A coordinator's answer: None if asking is forbidden, empty if there is no coordinator yet."""
    end = time.monotonic() + COORDINATOR_PATIENCE
    while True:
        try:
            return ask()
        except kafka.errors.AuthorizationError:
            return None
        except _NOT_YET:
            if time.monotonic() > end:
                return {}
            time.sleep(0.2)


def forbidden(failure: BaseException) -> bool:
    """Whether the broker refused the client's credentials, or the client lacks a permission."""
    kinds = (kafka.errors.AuthorizationError, kafka.errors.SaslAuthenticationFailedError)
    return isinstance(failure.__cause__, kinds)


def may_not_write_transactions(failure: BaseException) -> bool:
    """Whether the client lacks the permission to use its transactional id."""
    return isinstance(failure.__cause__, kafka.errors.TransactionalIdAuthorizationFailedError)


def advice(lacking: Iterable[str], who: str) -> str:
    """The line that says which ACLs to add: `Read on topic tweets`."""
    operations = [f"operation {each}" for each in lacking]
    acls = "an ACL" if len(operations) == 1 else "ACLs"
    return f"permission is missing: add {acls}: {' and '.join(operations)} for {who}"
