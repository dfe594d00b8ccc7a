"""Between modes and engine: nothing twice, everything counted, batches kept."""

from collections.abc import Iterator, Mapping, Sequence

import pytest

from tests.summarize.helpers import ScriptedEngine, history, make_asker, make_writer, texts_of
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import ModelError, PartialError
from trec_cli.summarize.engine import Generation, Keys, Store
from trec_cli.summarize.prompts import Prompt


def prompts(*items: str) -> list[Prompt]:
    writer = make_writer()
    return [writer.block([item]) for item in items]


def test_equal_prompts_are_asked_once() -> None:
    engine = ScriptedEngine("ab")
    asker = make_asker(engine)
    assert texts_of(asker.ask(prompts("i1", "i2", "i1"), "blocks")) == ["a", "b", "a"]
    assert (asker.counts.calls, asker.counts.shared, asker.counts.hits) == (2, 1, 0)


def test_what_the_store_holds_is_not_asked_again() -> None:
    store = Store(IN_MEMORY)
    make_asker(ScriptedEngine("ab"), store).ask(prompts("i1", "i2"), "blocks")
    again = make_asker(ScriptedEngine("c"), store)
    assert texts_of(again.ask(prompts("i2", "i3", "i1"), "blocks")) == ["b", "c", "a"]
    assert (again.counts.calls, again.counts.hits) == (1, 2)


def test_another_engine_has_texts_of_its_own() -> None:
    store = Store(IN_MEMORY)
    make_asker(ScriptedEngine("a"), store).ask(prompts("i1"), "blocks")
    other = ScriptedEngine("z")
    other.identity = {"name": "scripted", "repetition_penalty": 1.2}
    assert texts_of(make_asker(other, store).ask(prompts("i1"), "blocks")) == ["z"]


def test_no_prompts_are_no_work() -> None:
    assert texts_of(make_asker(ScriptedEngine()).ask([], "merge 1")) == []


def test_doubtful_texts_are_counted() -> None:
    engine = ScriptedEngine(["", "- title: thing 2 \n", "Summary: fine"])
    asker = make_asker(engine)
    writer = make_writer()
    five = writer.block(history(5))
    echo = Generation("thing 0\n- title: thing 1", 9, 3, stopped=False)
    asker._store.put({Keys(engine.identity).key(five.ids): echo})
    texts = texts_of(asker.ask([*prompts("i1", "i2", "i3"), five], "blocks"))
    assert texts == ["", "title: thing 2", "fine", "thing 0, title: thing 1"]
    counts = asker.counts
    assert (counts.empty, counts.echoes, counts.at_limit) == (1, 1, 1)


class _FailingEngine(ScriptedEngine):
    """Fails at its n-th batch, as a killed process would stop."""

    def __init__(self, fail_at: int, batch: int) -> None:
        super().__init__(batch=batch)
        self._left = fail_at

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        if self._left == 0:
            raise ModelError("gone")
        self._left -= 1
        return super().generate(prompts)


class _LossyEngine(ScriptedEngine):
    """Answers each prompt by itself, and fails at the last."""

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        for place, prompt in enumerate(prompts[:-1]):
            yield {place: Generation(self.answers.popleft(), len(prompt.ids), 1, True)}
        raise PartialError("1 text is missing")


def test_texts_given_before_an_engine_fails_are_kept() -> None:
    store = Store(IN_MEMORY)
    with pytest.raises(PartialError):
        make_asker(_LossyEngine("ab"), store).ask(prompts("i1", "i2", "i3"), "blocks")
    engine = ScriptedEngine("c")
    texts = texts_of(make_asker(engine, store).ask(prompts("i1", "i2", "i3"), "blocks"))
    assert texts == ["a", "b", "c"]
    assert len(engine.asked) == 1


def test_a_stopped_round_continues_with_the_same_batches() -> None:
    names = [f"i{n}" for n in range(8)]
    store = Store(IN_MEMORY)
    make_asker(ScriptedEngine("y"), store).ask(prompts("i1"), "blocks")
    broken = _FailingEngine(fail_at=1, batch=3)
    with pytest.raises(ModelError):
        make_asker(broken, store).ask(prompts(*names), "blocks")
    assert broken.sizes == [3]
    engine = ScriptedEngine("defg", batch=3)
    asker = make_asker(engine, store)
    # i1 was there before; the first batch (i0 i2 i3) is done; i4 i5 i6 and i7 are left,
    # in the batches of the first run, although only four are missing now.
    assert texts_of(asker.ask(prompts(*names), "blocks")) == [
        "a",
        "y",
        "b",
        "c",
        "d",
        "e",
        "f",
        "g",
    ]
    assert engine.sizes == [3, 1]
    assert (asker.counts.calls, asker.counts.hits) == (4, 4)


def test_a_finished_round_leaves_no_plan_behind() -> None:
    store = Store(IN_MEMORY)
    make_asker(ScriptedEngine(), store).ask(prompts("i1", "i2"), "blocks")
    assert store._db.execute("SELECT count(*) FROM plans").fetchone() == (0,)
