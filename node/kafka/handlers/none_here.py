"""What there is none of here, and tools of Kafka list before they tell of anything else."""

from node.api.access import Access
from node.kafka.connection import Call
from node.kafka.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from node.kafka.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from node.kafka.wire import Message
from ottla.protocol.acls import DESCRIBE
from ottla.protocol.errors import ApiError

REASSIGNMENTS_LOW, REASSIGNMENTS_HIGH = 0, 0
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


def transactions(request: Message, call: Call) -> Message:
    """None is under way, in no state. Lists have the transactional ids that may be described."""
    assert isinstance(request, ListTransactionsRequest)
    return ListTransactionsResponse()
