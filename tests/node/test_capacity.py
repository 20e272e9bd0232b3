"""What a node promises to carry fits into the descriptors that it has."""

import pytest

from node.capacity import DESCRIPTORS_MIN, OWN, capacity


@pytest.mark.parametrize("descriptors", [DESCRIPTORS_MIN, 128, 256, 1024, 4096, 65_536, 2**20])
def test_all_shares_together_fit(descriptors: int) -> None:
    shares = capacity(descriptors)
    few = max(6, descriptors // 32)
    taken = OWN + shares.http + min(16, few) + few + shares.segments + shares.spares
    assert taken + shares.partitions + shares.connections <= descriptors
    assert shares.partitions > 0
    assert shares.connections >= 4
    assert shares.spares >= 16


def test_what_usual_limits_are_enough_for() -> None:
    found = {descriptors: capacity(descriptors)[1:3] for descriptors in (128, 256, 1024)}
    assert found == {128: (22, 8), 256: (108, 36), 1024: (570, 190)}
    assert capacity(65_536).partitions > 4000
