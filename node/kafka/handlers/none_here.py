"""What there is none of here, and tools of Kafka list before they tell of anything else."""

from node.kafka.connection import Call
from node.kafka.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse
from node.kafka.wire import Message

TRANSACTIONS_LOW, TRANSACTIONS_HIGH = 0, 2


def transactions(request: Message, call: Call) -> Message:
    """None is under way, in no state. Lists have the transactional ids that may be described."""
    assert isinstance(request, ListTransactionsRequest)
    return ListTransactionsResponse()
