"""What is flagged, mended, refused, asked again and replaced."""

from collections.abc import Iterator, Mapping, Sequence

import pytest

from tests.summarize.helpers import ScriptedEngine, make_asker, make_writer, tokenizer
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import ModelError
from trec_cli.core.records import Item
from trec_cli.models.chat import encode_text
from trec_cli.summarize.asking import Asker
from trec_cli.summarize.engine import Generation, Store
from trec_cli.summarize.modes import summarize_hierarchical, summarize_recurrent
from trec_cli.summarize.prompts import Answer, Prompt
from trec_cli.summarize.repair import Checker
from trec_cli.summarize.settings import SummarySettings

TITLES = ["Green tea", "Jazz piano", "Wool socks", "Chess board", "Copper kettle", "Red lamp"]
ITEMS = {title.split()[0]: Item(title, {"title": title}) for title in TITLES}
ALL = list(ITEMS)
WRITER = make_writer(SummarySettings(block_size=3), ITEMS)
BLOCK = WRITER.block(ALL[:3])


def count(text: str) -> int:
    return len(encode_text(tokenizer(), text))


def check(
    text: str,
    *,
    stopped: bool = True,
    repair: bool = True,
    prompt: Prompt = BLOCK,
    budget: int = 64,
) -> Answer:
    checker = Checker(budget, count, one_line=True, repair=repair)
    return checker.check(prompt, Generation(text, 9, 9, stopped)).answer


def test_a_good_text_has_no_flags() -> None:
    assert check(" Green tea, jazz, wool\n\nItems: more") == Answer("Green tea, jazz, wool")


@pytest.mark.parametrize(
    ("text", "wanted", "flags"),
    [
        ("green tea, opera, jazz, wool", "green tea, jazz, wool", ("filtered",)),
        ("green tea, jazz, wool, tea green", "green tea, jazz, wool", ()),
        ("jazz, tea", "jazz, tea, Wool socks", ("extended",)),
        ("title: tea, Title: jazz piano, jazz, wool", "tea, jazz piano, wool", ()),
        ("opera, ballet", "", ("empty", "filtered")),
        ("", "", ("empty",)),
    ],
)
def test_texts_are_mended_and_what_was_done_is_told(
    text: str, wanted: str, flags: tuple[str, ...]
) -> None:
    assert check(text) == Answer(wanted, flags)


def test_a_text_cut_by_the_limit_ends_with_its_last_whole_phrase() -> None:
    assert "cut" in check("green tea, wool, jazz pia", stopped=False, repair=False).flags
    assert check("wool, tea, jazz, green te", stopped=False) == Answer("wool, tea, jazz", ("cut",))
    # A model that goes on after its line was not cut.
    assert check("wool, tea, jazz\nItems", stopped=False).flags == ()


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("Green tea, jazz, opera", "unfaithful"),
        ("wool socks green tea wool socks green tea wool socks", "repeats"),
        ("", "empty"),
        ("Hardcover, Wireless Headset, Tablets, Racing Legends 7, jazz, tea", "echo"),
        ("jazz", "narrow"),
    ],
)
def test_without_repair_texts_stay_as_they_are_and_are_flagged(text: str, flag: str) -> None:
    answer = check(text, repair=False)
    assert answer.text == text
    assert flag in answer.flags


def test_a_text_far_beyond_its_limit_is_cut_before_it_is_checked() -> None:
    """A server may ignore max_tokens; checking so many words would take hours."""
    checker = Checker(40, count, cut=WRITER.cut)
    endless = "green tea, jazz piano, wool " + " ".join(f"word{n}" for n in range(100_000))
    answer = checker.check(BLOCK, Generation(endless, 9, 9, True)).answer
    assert answer.text == "green tea, jazz piano, Wool socks"
    assert answer.flags == ("cut", "extended")
    longer = "green tea, jazz piano, wool socks, red lamp, chess"  # as another tokenizer counts
    assert 40 < count(longer) <= 80
    assert "cut" not in checker.check(BLOCK, Generation(longer, 9, 9, True)).answer.flags


def test_a_merge_that_repeats_one_of_its_summaries_is_an_echo() -> None:
    merge = WRITER.merge(["green tea, jazz", "wool socks, green tea"], ALL)
    assert check("wool socks, green tea", prompt=merge, repair=False).flags == ("echo",)
    assert check("wool socks, jazz", prompt=merge, repair=False).flags == ()
    same = WRITER.merge(["green tea, jazz", "jazz, green tea"], ALL)
    assert check("jazz, green tea", prompt=same, repair=False).flags == ()


def test_an_update_must_speak_of_the_new_items_and_of_what_came_before() -> None:
    update = WRITER.update("green tea, jazz", ALL, 2)
    assert check("green tea, jazz", prompt=update, repair=False).flags == ("echo", "narrow")
    assert check("copper kettle, red lamp", prompt=update, repair=False).flags == ("narrow",)
    assert check("copper kettle, jazz", prompt=update, repair=False).flags == ()


def test_what_a_text_leaves_out_is_added_where_there_is_room() -> None:
    update = WRITER.update("green tea, jazz", ALL, 2)
    everything = "green tea, jazz, Red lamp, Copper kettle, Chess board, Wool socks"
    wanted = Answer(everything, ("extended",))
    assert check("green tea, jazz", prompt=update) == wanted
    assert check("green tea, jazz", prompt=update, budget=count("green tea, jazz")).flags == (
        "echo",
        "narrow",
    )


def ladder(
    answers: list[str], retries: int = 1, store: Store | None = None
) -> tuple[ScriptedEngine, Asker, Answer]:
    engine = ScriptedEngine(answers)
    asker = make_asker(engine, store, checker=Checker(64, count), retries=retries)
    return engine, asker, asker.ask([BLOCK], "blocks")[0]


def test_a_refused_text_is_asked_again_under_a_key_of_its_own() -> None:
    store = Store(IN_MEMORY)
    engine, asker, answer = ladder(["opera", "jazz, wool, tea"], store=store)
    assert answer == Answer("jazz, wool, tea", ("retried",))
    assert engine.sizes == [1, 1]
    _, asker, answer = ladder([], store=store)
    assert answer == Answer("jazz, wool, tea", ("retried",))
    assert asker.counts.hits == 2


def test_what_is_refused_to_the_last_is_replaced_and_counted() -> None:
    _, asker, answer = ladder(["opera", "ballet"])
    assert answer == Answer("Wool socks, Jazz piano, Green tea", ("empty", "extractive"))
    assert dict(asker.counts.flags) == {"empty": 1, "extractive": 1}
    assert asker.counts.texts == 1


@pytest.mark.parametrize(("retries", "calls"), [(0, 1), (2, 3)])
def test_so_many_retries_as_asked_for(retries: int, calls: int) -> None:
    engine, _, answer = ladder(["opera"] * 4, retries)
    assert sum(engine.sizes) == calls
    assert answer.flags == ("empty", "extractive")


def test_only_refused_texts_are_asked_again() -> None:
    engine = ScriptedEngine(["wool, tea, jazz", "opera", "copper, chess, lamp"])
    asker = make_asker(engine, checker=Checker(64, count), retries=1)
    answers = asker.ask([BLOCK, WRITER.block(ALL[3:])], "blocks")
    assert [answer.flags for answer in answers] == [(), ("retried",)]
    assert engine.sizes == [2, 1]


def test_a_run_killed_between_rungs_takes_the_same_way_again() -> None:
    class Dying(ScriptedEngine):
        def retry(self, attempt: int) -> "Dying":
            raise_on_use = Dying([])
            raise_on_use.identity = {"name": "scripted", "attempt": attempt}
            return raise_on_use

        def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
            if "attempt" in self.identity:
                raise ModelError("gone")
            return super().generate(prompts)

    store = Store(IN_MEMORY)
    with pytest.raises(ModelError):
        make_asker(Dying(["opera"]), store, checker=Checker(64, count), retries=1).ask(
            [BLOCK], "blocks"
        )
    engine, _, answer = ladder(["jazz, wool, tea"], store=store)
    assert answer == Answer("jazz, wool, tea", ("retried",))
    assert engine.sizes == [1]


def test_an_empty_merge_answer_leaves_no_empty_summary() -> None:
    answers = ["wool, tea, jazz", "copper, chess, lamp", "", ""]
    asker = make_asker(ScriptedEngine(answers), checker=Checker(64, count), retries=1)
    [result] = summarize_hierarchical([ALL], WRITER, asker.ask)
    assert result.summary == "Red lamp, copper, wool, Copper kettle, chess, tea, Chess board, jazz"
    assert result.blocks[-1].flags == ("empty", "extractive")


def test_without_a_checker_an_empty_merge_or_update_leaves_what_was_before() -> None:
    answers = ["green tea", "copper kettle", ""]
    [merged] = summarize_hierarchical([ALL], WRITER, make_asker(ScriptedEngine(answers)).ask)
    assert merged.summary == "copper kettle"
    [updated] = summarize_recurrent([ALL], WRITER, make_asker(ScriptedEngine(["tea", ""])).ask)
    assert updated.summary == "tea"
