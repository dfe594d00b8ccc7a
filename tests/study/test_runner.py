"""Several steps at once: never before what they need, never more than there are hands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.progress import Silent
from trec_cli.study.launch import Ending
from trec_cli.study.runner import Runner
from trec_cli.study.steps import Step

NOWHERE = Path("nowhere")


def step(stage: str, name: str) -> Step:
    return Step(stage, (stage, name), NOWHERE / name)


class Crew:
    """Commands that end in the order that ``draw`` decides; ``failing`` ones fail."""

    def __init__(self, size: int, draw: Any, failing: Sequence[str]) -> None:
        self.size, self._draw, self._failing = size, draw, set(failing)
        self.working: dict[str, str] = {}
        self.ended: list[str] = []
        self.log: list[tuple[str, set[str], list[str]]] = []

    def start(self, name: str, arguments: Sequence[str]) -> None:
        self.log.append((arguments[1], set(self.working.values()), list(self.ended)))
        self.working[name] = arguments[1]

    def wait(self) -> tuple[str, Ending]:
        name = self._draw(st.sampled_from(sorted(self.working)))
        what = self.working.pop(name)
        self.ended.append(what)
        return name, Ending(4 if what in self._failing else 0)


PREPARE = step("prepare", "data")
SUMMARIES = [step("summarize", f"texts{number}") for number in range(3)]
TRAINED = [step("train", f"adapter{number}") for number in range(3)]
CHAINS = {
    "bm25": [PREPARE, step("score", "bm25")],
    "none": [PREPARE, step("train", "plain"), step("score", "none")],
    **{
        f"hier{number}": [PREPARE, SUMMARIES[number], TRAINED[number], step("score", f"h{number}")]
        for number in range(3)
    },
    "again": [PREPARE, SUMMARIES[0], step("train", "other"), step("score", "again")],
}


@given(
    size=st.integers(1, 5),
    names=st.permutations(sorted(CHAINS)),
    failing=st.sets(st.sampled_from(sorted({s.arguments[1] for c in CHAINS.values() for s in c}))),
    data=st.data(),
)
def test_each_step_runs_once_after_all_it_needs(
    size: int, names: list[str], failing: set[str], data: st.DataObject
) -> None:
    chains = {name: CHAINS[name] for name in names}
    crew = Crew(size, data.draw, sorted(failing))
    outcome = Runner(chains, crew, Silent()).run()  # type: ignore[arg-type]
    names_run = [what for what, _, _ in crew.log]
    assert len(names_run) == len(set(names_run))
    for what, busy, ended in crew.log:
        assert len(busy) < size
        for chain in chains.values():
            words = [its.arguments[1] for its in chain]
            if what in words:
                needed = words[: words.index(what)]
                assert set(needed) <= set(ended) - failing
        if what.startswith("texts"):
            assert not any(other.startswith("texts") for other in busy)
    for name, chain in chains.items():
        first = next((s for s in chain if s.arguments[1] in failing), None)
        assert (outcome.failed[name].stage if name in outcome.failed else None) == (
            first.stage if first else None
        )
        for its in chain:
            assert (its.arguments[1] in names_run) == (
                not any(s.arguments[1] in failing for s in chain[: chain.index(its)])
            )


def test_alone_steps_run_arm_by_arm() -> None:
    crew: Crew = Crew(1, lambda _: next(iter(crew.working)), ())
    Runner(CHAINS, crew, Silent()).run()  # type: ignore[arg-type]
    assert [what for what, _, _ in crew.log][:6] == [
        "data", "bm25", "plain", "none", "texts0", "adapter0"
    ]  # fmt: skip
