"""Type errors in a user's words."""

import msgspec
import pytest

from trec_cli.core.records import Summary
from trec_cli.core.type_errors import in_words

BLOCK = {"level": 0, "start": 0, "end": 1, "summary": "s"}


def said(blocks: object, **changes: object) -> str:
    fields = {"example_id": "e", "user_id": "u", "split": "test", "mode": "hier"}
    whole = {**fields, "summary": "", "model": "m", "blocks": blocks, **changes}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(whole, Summary)
    return in_words(str(caught.value))


def test_a_field_within_a_list_is_named_from_its_end() -> None:
    assert said([BLOCK, {**BLOCK, "level": "x"}]) == (
        "`level` in entry 2 of `blocks` must be a whole number, not a text"
    )
    assert said([{"level": 0}]) == "the field `start` is missing in entry 1 of `blocks`"
    assert said([{**BLOCK, "end": -1}]) == (
        "`end` in entry 1 of `blocks` must be a whole number >= 0"
    )


def test_values_outside_a_list_of_words_are_named() -> None:
    assert said([], split="fast") == "`split` cannot be 'fast'"


def test_several_types_are_joined() -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert([1, "a"], list[float | None])
    assert in_words(str(caught.value)) == "entry 2 of the line must be a number or null, not a text"


def test_what_is_not_known_stays_as_it_is() -> None:
    assert in_words("something else") == "something else"
