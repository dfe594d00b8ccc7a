"""Which examples a shard has."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.errors import UsageError
from trec_cli.core.shards import BLOCK, Shard, find_shard, owner


def test_blocks_are_dealt_out_in_turn() -> None:
    total = 3 * BLOCK + 5
    assert list(Shard(1, 2).places(total)) == [*range(BLOCK), *range(2 * BLOCK, 3 * BLOCK)]
    assert list(Shard(2, 2).places(total)) == [*range(BLOCK, 2 * BLOCK), *range(3 * BLOCK, total)]
    assert list(Shard(5, 5).places(total)) == []


@given(st.integers(0, 500), st.integers(1, 12))
def test_every_place_has_one_owner_and_shards_keep_the_order(total: int, count: int) -> None:
    shares = [list(Shard(index, count).places(total)) for index in range(1, count + 1)]
    assert sorted(place for share in shares for place in share) == list(range(total))
    assert all(share == sorted(share) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= BLOCK
    for index, share in enumerate(shares, 1):
        assert all(owner(place, count) == Shard(index, count) for place in share)


def test_a_shard_takes_its_records() -> None:
    records = [f"r{n}" for n in range(BLOCK + 2)]
    assert list(Shard(2, 2).take(records)) == [f"r{BLOCK}", f"r{BLOCK + 1}"]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "-1/4", "1/4/2", "1.5/4", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="the first is 1"):
        Shard.parse(text)


def test_files_of_shards_are_named_after_the_output() -> None:
    path = Shard.parse("2/8").out(Path("run/scores-hier.jsonl"))
    assert path == Path("run/scores-hier.jsonl.shards/2-of-8.jsonl")
    assert str(Shard(2, 8)) == "2/8"


def test_streams_have_no_shards() -> None:
    with pytest.raises(UsageError, match="cannot write to stdout"):
        Shard(1, 2).out(Path("-"))
    with pytest.raises(UsageError, match="none can be standard input"):
        find_shard("1/2", [Path("a"), Path("-")])
    assert find_shard(None, [Path("-")]) is None
