"""What there is none of here, and tools of Kafka list before they tell of anything else."""

from node.kafka.connection import Call
from node.kafka.messages.describe_client_quotas import DescribeClientQuotasRequest, DescribeClientQuotasResponse
from node.kafka.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from node.kafka.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from node.kafka.wire import Message

REASSIGNMENTS_LOW, REASSIGNMENTS_HIGH = 0, 0
QUOTAS_LOW, QUOTAS_HIGH = 0, 1
TRANSACTIONS_LOW, TRANSACTIONS_HIGH = 0, 2


def reassignments(request: Message, call: Call) -> Message:
    """Partitions stay where they are."""
    assert isinstance(request, ListPartitionReassignmentsRequest)
    return ListPartitionReassignmentsResponse(error_message=None)


def quotas(request: Message, call: Call) -> Message:
    """Nobody has one."""
    assert isinstance(request, DescribeClientQuotasRequest)
    return DescribeClientQuotasResponse(error_message=None, entries=())


def transactions(request: Message, call: Call) -> Message:
    """None is under way, in no state."""
    assert isinstance(request, ListTransactionsRequest)
    return ListTransactionsResponse()
