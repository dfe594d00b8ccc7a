"""Settings that differ from an earlier run's, in the words of the command line."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest

from trec_cli.core.changes import as_typed
from trec_cli.core.options import Option, declared
from trec_cli.core.outputs import changed_settings


@dataclass(frozen=True, kw_only=True)
class Decoding:
    most: int = 64
    penalty: Annotated[float, Option("Penalty.")] = 1.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: Annotated[str, Option("Model.", names=("--model",))] = "m"
    size: Annotated[int, Option("Size.", names=("--max-size",))] = 64
    budget: Annotated[int | None, Option("Budget.", default_text="--max-size")] = None
    limit: Annotated[int | None, Option("Limit.")] = None
    targets: Annotated[str, Option("Targets.")] = "last"
    mode: Annotated[str, Option("Mode.")] = "hier"
    split: Annotated[tuple[str, ...], Option("Splits.", recorded="splits")] = ()
    common: Annotated[bool, Option("Common.", names=("--common",))] = False
    repair: Annotated[bool, Option("Repair.")] = True
    chat: Annotated[bool | None, Option("Chat.", names=("--chat/--no-chat",))] = None
    decoding: Decoding = field(default_factory=Decoding)


def told(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return as_typed(changed_settings(old, new), list(declared(Settings)))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"size": 16}, {"size": 64}, "--max-size 16 before, 64 now"),
        ({"limit": 3}, {"limit": None}, "--limit 3 before, not given now"),
        ({"mode": "hier"}, {"mode": "none"}, "--mode hier before, none now"),
        ({"targets": "all"}, {}, "--targets all before, default now"),
        (
            {"splits": ["test", "valid"]},
            {"splits": []},
            "--split test, valid before, not given now",
        ),
        ({"common": True}, {}, "--common given before, not given now"),
        ({}, {"common": True}, "--common not given before, given now"),
        ({"repair": True}, {"repair": False}, "--repair before, --no-repair now"),
        ({"chat": None}, {"chat": False}, "not given before, --no-chat now"),
        (
            {"decoding": {"penalty": 1.0}},
            {"decoding": {"penalty": 1.2}},
            "--penalty 1.0 before, 1.2 now",
        ),
        ({"name": {"x": 1}}, {"name": {"x": 2}}, "name.x: 1 before, 2 now"),
        ({"odd": 2}, {}, "odd: 2 before, not given now"),
        ({"text": "a" * 16}, {"text": "b" * 64}, "text: other content now"),
    ],
)
def test_a_setting_is_told_as_it_is_typed(
    old: dict[str, Any], new: dict[str, Any], words: str
) -> None:
    assert told(old, new) == [words]


def test_what_is_worked_out_of_an_option_is_left_out_where_that_is_named() -> None:
    old = {"size": 16, "budget": 16, "decoding": {"most": 8}}
    new = {"size": 64, "budget": 64, "decoding": {"most": 32}}
    assert told(old, new) == ["--max-size 16 before, 64 now"]
    assert told({**old, "budget": 7}, new) == [
        "--budget 7 before, 64 now",
        "--max-size 16 before, 64 now",
    ]
    assert told({"decoding": {"most": 8}}, {"decoding": {"most": 32}}) == [
        "decoding.most: 8 before, 32 now"
    ]


def test_a_model_is_told_by_its_name_and_inputs_as_they_are() -> None:
    old = {"model": {"name": "a", "revision": "1"}, "inputs": ["x"]}
    new = {"model": {"name": "b", "revision": "2"}, "inputs": ["y"]}
    assert told(old, new) == ["inputs: other content now in file 1", "--model a before, b now"]


def test_what_is_as_before_is_not_told() -> None:
    assert told({"size": 3, "limit": None}, {"size": 3}) == []
