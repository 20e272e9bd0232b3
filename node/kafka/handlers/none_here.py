"""What there is none of here, and tools of Kafka list before they tell of anything else."""

from node.api.access import Access
from node.kafka.connection import Call
from node.kafka.messages.describe_client_quotas import DescribeClientQuotasRequest, DescribeClientQuotasResponse
from node.kafka.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from node.kafka.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from node.kafka.wire import Message
from ottla.protocol.acls import DESCRIBE, DESCRIBE_CONFIGS
from ottla.protocol.errors import ApiError

REASSIGNMENTS_LOW, REASSIGNMENTS_HIGH = 0, 0
QUOTAS_LOW, QUOTAS_HIGH = 0, 1
TRANSACTIONS_LOW, TRANSACTIONS_HIGH = 0, 2


class NoneHereHandlers:
    """Who may not ask is told so, as if there were some."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def reassignments(self, request: Message, call: Call) -> Message:
        """Partitions stay where they are."""
        assert isinstance(request, ListPartitionReassignmentsRequest)
        try:
            self._access.check_cluster(DESCRIBE)
        except ApiError as error:
            return ListPartitionReassignmentsResponse(error_code=error.code, error_message=error.message)
        return ListPartitionReassignmentsResponse(error_message=None)

    def quotas(self, request: Message, call: Call) -> Message:
        """Nobody has one."""
        assert isinstance(request, DescribeClientQuotasRequest)
        try:
            self._access.check_cluster(DESCRIBE_CONFIGS)
        except ApiError as error:
            return DescribeClientQuotasResponse(error_code=error.code, error_message=error.message, entries=None)
        return DescribeClientQuotasResponse(error_message=None, entries=())


def transactions(request: Message, call: Call) -> Message:
    """None is under way, in no state. Lists have the transactional ids that may be described."""
    assert isinstance(request, ListTransactionsRequest)
    return ListTransactionsResponse()
