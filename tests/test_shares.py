"""How batches are shared out: all of them, in order, none empty, as even as whole batches allow."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from skillneurons.inputs import EncodedExample
from skillneurons.shares import Share, contiguous
from skillneurons.types import Example


def test_shares_by_hand() -> None:
    assert contiguous([1, 1, 1, 1], 2) == [range(2), range(2, 4)]
    assert contiguous([9, 1, 1, 1], 2) == [range(1), range(1, 4)]
    assert contiguous([1, 1, 1, 9], 2) == [range(3), range(3, 4)]
    assert contiguous([5, 5], 4) == [range(1), range(1, 2)]
    assert contiguous([7], 1) == [range(1)]
    assert contiguous([0, 0, 0], 3) == [range(1), range(1, 2), range(2, 3)]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.integers(1, 70))
def test_every_batch_has_one_shard(costs: list[int], n: int) -> None:
    found = contiguous(costs, n)
    assert [i for own in found for i in own] == list(range(len(costs)))
    assert len(found) == min(n, len(costs)) and all(found)
    assert found == contiguous([10 * cost for cost in costs], n)


@given(st.lists(st.integers(1, 100), min_size=8, max_size=60), st.integers(1, 8))
def test_no_share_is_larger_than_its_part_and_one_batch(costs: list[int], n: int) -> None:
    for own in contiguous(costs, n):
        assert len(own) == 1 or sum(costs[i] for i in own) <= sum(costs) / n + max(costs)


def test_a_share_keeps_how_its_batches_run() -> None:
    def row(i: int, length: int) -> EncodedExample:
        return EncodedExample(i, Example(str(i), "p", "t"), "p", tuple(range(length)), (1,), None)

    whole = Share([[row(0, 4), row(1, 4)], [row(2, 8)], [row(3, 1)] * 8], apart=True, in_memory=1100)
    assert whole.cut(1) == [whole]
    first, second = whole.cut(2)  # 8, 8 and 8 tokens: the earlier one of two ends that are as near
    assert (first.batches, second.batches) == (whole.batches[:1], whole.batches[1:])
    assert first.apart and second.apart and (first.in_memory, second.in_memory) == (200, 900)
    assert len(whole.cut(9)) == 3
