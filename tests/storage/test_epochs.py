"""The epoch table beside a naive one: a list with the epoch of every offset."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.epochs import EpochTable
from storage.errors import InvariantError


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12),
    st.integers(0, 40),
    st.integers(0, 40),
    st.integers(-1, 40),
)
def test_it_answers_like_a_list_of_every_offsets_epoch(
    appends: list[tuple[int, int]], cut: int, trim: int, asked: int
) -> None:
    table, every, epoch = EpochTable(), list[int](), 0
    for newer, count in appends:
        epoch += newer
        table.assign(epoch, len(every))
        every.extend([epoch] * count)
    cut, trim = min(cut, len(every)), min(trim, cut, len(every))
    table.truncate_to(cut)
    del every[cut:]
    table.advance_start(trim)
    known = sorted(set(every[trim:]))
    if trim < len(every):
        assert table.entries() == [(e, max(every.index(e), trim)) for e in known]
        below = [e for e in known if e <= asked]
        expected = (below[-1], len(every) - every[::-1].index(below[-1])) if below else None
        assert table.end_offset_for(asked, len(every)) == expected
        assert [table.epoch_at(offset) for offset in range(trim, len(every))] == every[trim:]
    assert table.latest_epoch == (every[-1] if every else None)


def test_the_last_epoch_of_an_emptied_log_is_not_forgotten() -> None:
    table = EpochTable([(3, 0), (5, 10)])
    assert table.advance_start(50)
    assert table.entries() == [(5, 50)]
    assert table.end_offset_for(7, 50) == (5, 50)
    assert not table.advance_start(50)


@pytest.mark.parametrize(("epoch", "start"), [(4, 20), (6, 9)])
def test_going_back_is_a_bug(epoch: int, start: int) -> None:
    with pytest.raises(InvariantError):
        EpochTable([(5, 10)]).assign(epoch, start)


def test_an_epoch_that_wrote_nothing_leaves() -> None:
    assert EpochTable([(1, 0), (2, 10), (5, 10)]).entries() == [(1, 0), (5, 10)]
