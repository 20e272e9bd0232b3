"""Requests of many items, cut: each item keeps its place in the answer."""

import pytest

from node import limits
from node.controller.slices import joined, slices_of
from ottla.v1 import admin_pb2 as admin


@pytest.mark.parametrize("partitions", [1, limits.AT_ONCE])
def test_results_are_in_the_order_of_the_items_where_some_are_of_one_name(partitions: int) -> None:
    """Names that collide are decided together, whatever is between them."""
    names = ["a.b", "c", "a_b", "d", "c"]
    request = admin.CreateTopicsRequest(
        topics=[admin.NewTopic(name=name, num_partitions=partitions) for name in names], validate_only=True
    )
    answers = []
    together = []
    for part, places in slices_of(request):
        assert part.validate_only
        of_part = [topic.name for topic in part.topics]
        together.append(set(of_part))
        made = [admin.CreateTopicResult(name=name) for name in of_part]
        answers.append((admin.CreateTopicsResponse(topics=made), places))
    assert [topic.name for topic in joined(request, answers).topics] == names
    assert together == ([{"a.b", "a_b", "c", "d"}] if partitions == 1 else [{"a.b", "a_b"}, {"c"}, {"d"}])
