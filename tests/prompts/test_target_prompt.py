"""The prompt of target attention: evidence in the branch, within its budget, never instead of
candidate or answer.  One token per byte, so that lengths can be counted by hand.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.prompts.test_recommend import BYTES, ITEMS, builder, text_of
from trec_cli.attention.evidence import Evidence, Passage
from trec_cli.core.errors import InputError, UsageError
from trec_cli.prompts.learnt import load_settings, save_settings
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings
from trec_cli.prompts.template import Template

TARGET = Template("recommend_target", "R:{recent}\nC:{candidate}\nE:{evidence}?")
END = len("?\nAnswer:")


def target_builder(**more: Any) -> PromptBuilder:
    settings = {"max_length": 1000, "candidate_tokens": 100, "recent": 1, **more}
    return PromptBuilder(BYTES, ITEMS, PromptSettings(**settings), template=TARGET)


def evidence(*passages: tuple[str, float], budget: int = 64) -> Evidence:
    return Evidence([Passage(*passage) for passage in passages], budget)


def test_evidence_stands_behind_the_candidate_in_its_branch() -> None:
    asked = [evidence(("likes é", 0.7), ("likes 鮨", 0.3)), evidence(("likes c", 1.0))]
    tree = target_builder().tree(["i1", "i2"], "never shown", ["i3", "i4"], evidence=asked)
    assert BYTES.decode(tree.prefix) == "R:t: bbbbbbb\nC:"
    assert text_of(tree) == "R:t: bbbbbbb\nC:t: ccccccc\nE:likes é\nlikes 鮨?\nAnswer:"
    assert text_of(tree, 1) == "R:t: bbbbbbb\nC:t: ddddddd\nE:likes c?\nAnswer:"
    assert not tree.cuts


def test_without_evidence_the_prompt_says_unknown() -> None:
    tree = target_builder().tree([], "", ["i3"], evidence=[evidence()])
    assert text_of(tree) == "R:unknown\nC:t: ccccccc\nE:unknown?\nAnswer:"


def test_the_budget_is_shared_by_weight_line_breaks_included() -> None:
    asked = evidence(("a" * 50, 0.75), ("b" * 50, 0.25), budget=40)
    tree = target_builder().tree(["i1"], "", ["i3"], evidence=[asked])
    # 30 and 10 tokens, one of each for a line break.
    assert f"E:{'a' * 29}\n{'b' * 9}?" in text_of(tree)
    assert not tree.cuts  # the budget is a choice, not a loss


def test_a_long_candidate_takes_the_room_of_evidence_and_it_is_counted() -> None:
    room = 20
    share = 100 + len("\nE:") + END + room  # "long" has 100 bytes
    asked = evidence(("a" * 50, 1.0), budget=30)
    tree = target_builder(candidate_tokens=share).tree(["i1"], "", ["long"], evidence=[asked])
    assert f"t: {'e' * 97}\nE:{'a' * 19}?\nAnswer:" in text_of(tree)
    assert tree.cuts.evidence_tokens == 10
    assert "10 tokens of evidence" in str(tree.cuts)
    none_left = target_builder(candidate_tokens=60)
    tree = none_left.tree(["i1"], "", ["long"], evidence=[asked])
    assert text_of(tree).endswith(f"t: {'e' * 97}\nE:unknown?\nAnswer:")
    assert tree.cuts.long_candidates == 1


def test_a_branch_depends_on_its_own_candidate_alone() -> None:
    asked = [evidence(("likes a", 1.0)), evidence(("likes long things " * 9, 1.0))]
    together = target_builder().tree(["i1"], "", ["i3", "long"], evidence=asked)
    alone = target_builder().tree(["i1"], "", ["i3"], evidence=asked[:1])
    assert text_of(together) == text_of(alone)


def test_the_parts_are_named_and_make_up_the_prompt() -> None:
    shown = target_builder()
    tree = shown.tree(["i1"], "", ["i3", "i4"], evidence=[evidence(("likes", 1.0))] * 2)
    parts = shown.describe(tree, 1)
    assert "".join(part.text for part in parts) == text_of(tree, 1)
    assert [part.name for part in parts] == [
        "instruction",
        "recent items",
        "instruction",
        "candidate",
        "instruction",
        "evidence",
        "answer",
    ]


def test_summaries_and_prompt_must_be_of_one_kind() -> None:
    with pytest.raises(UsageError, match="different kinds"):
        target_builder().tree(["i1"], "", ["i3"])
    with pytest.raises(UsageError, match="different kinds"):
        builder().tree(["i1"], "", ["i3"], evidence=[evidence()])


def test_the_built_in_template_and_a_users_own_are_checked(tmp_path: Path) -> None:
    built_in = PromptBuilder(BYTES, ITEMS, PromptSettings(), target=True)
    assert built_in.target
    tree = built_in.tree(["i1"], "", ["i3"], evidence=[evidence(("likes tea", 1.0))])
    assert text_of(tree).endswith("candidate:\nlikes tea\nAnswer:")
    (tmp_path / "recommend_target.txt").write_text("{candidate} {recent} {evidence}")
    with pytest.raises(InputError, match="another order"):
        PromptBuilder(BYTES, ITEMS, PromptSettings(), prompts=tmp_path, target=True)


def test_an_adapters_prompt_remembers_its_kind(tmp_path: Path) -> None:
    save_settings(tmp_path, target_builder())
    learnt = load_settings(tmp_path)
    assert PromptBuilder(BYTES, ITEMS, learnt.settings, template=learnt.template).target


@given(
    st.lists(st.tuples(st.text(max_size=60), st.floats(0.01, 1)), max_size=5),
    st.integers(0, 120),
    st.sampled_from(["i1", "long", "empty"]),
    st.integers(20, 300),
)
def test_evidence_keeps_to_its_budget_and_share_whatever_the_texts(
    passages: list[tuple[str, float]], budget: int, candidate: str, share: int
) -> None:
    shown = target_builder(candidate_tokens=share)
    asked = evidence(*passages, budget=budget)
    tree = shown.tree(["i1"], "", [candidate], evidence=[asked])
    whole = shown.describe(tree)
    by_name = {part.name: part.tokens for part in whole}
    # "unknown" stands where there is nothing, whatever the budget.
    assert by_name["evidence"] <= max(budget, len("unknown"))
    bare = len(BYTES.encode(ITEMS[candidate].text() or "unknown")) + len("\nE:") + END
    assert len(tree.branches[0]) <= max(share, bare + len("unknown"))
