"""What AdminService changes is written down where it is carried out, whichever door and node it came by."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from node import audit
from ottla.protocol.errors import ApiError, name_of

Handler = Callable[[Any, Any], Awaitable[Any]]
READS: Final = frozenset(
    {
        "DescribeConfigs",
        "ListReassignments",
        "DescribeFeatures",
        "DescribeUserScramCredentials",
        "DescribeAcls",
        "TestAcl",
        "DescribeClientQuotas",
    }
)
"""Methods that change nothing: every other one, and so every new one, is written down."""


def audited(handlers: dict[str, Handler]) -> dict[str, Handler]:
    """Handlers that write down what they change, and what they refuse to."""
    return {name: handler if name in READS else _audited(name, handler) for name, handler in handlers.items()}


def _audited(name: str, handler: Handler) -> Handler:
    async def call(request: Any, context: Any) -> Any:
        if getattr(request, "validate_only", False):
            return await handler(request, context)
        try:
            response = await handler(request, context)
        except ApiError as error:
            if not error.retriable:  # it is tried again, here or elsewhere
                audit.change(name, audit.shown(request), error.name)
            raise
        audit.change(name, audit.shown(request), _outcome(response))
        return response

    return call


def _outcome(response: Any) -> str:
    """`ok`, or the errors of its items."""
    errors = [response.error] if "error" in response.DESCRIPTOR.fields_by_name else []
    for field, value in response.ListFields():
        if field.is_repeated and field.message_type and "error" in field.message_type.fields_by_name:
            errors += [item.error for item in value]
    codes = {error.code for error in errors if error.code}
    return ",".join(sorted(map(name_of, codes))) or audit.OK
