"""Scoring with a language model, base model or adapter.

With ``--ask answer`` the score of a candidate is ``logit(yes) - logit(no)`` at the answer's
position; the softmax over the two in the paper (section 3.4) is its logistic function, so the
ranking is the same and ties by rounding near 0 and 1 do not occur.

With ``--ask text`` it is ``log p(text | user) - log p(text | nobody)``, in nats: how much
likelier summary and history make the candidate's text as the next line.  What is subtracted
takes the length of a text and how common its words are out of the ranking.  An adapter that has
learnt listwise is scored as it has learnt: less what the base model says, so that what it knows
of an item for everybody counts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from trec_cli.core.progress import Progress
from trec_cli.core.shards import BLOCK
from trec_cli.models.device import Placement, choose_device
from trec_cli.models.likelihood import TextScorer
from trec_cli.models.load import (
    LanguageModel,
    load_adapted,
    load_config,
    load_tokenizer,
    max_positions,
    model_identity,
)
from trec_cli.models.log_odds import BranchScorer, TreeScorer, plan_rows, row_limits
from trec_cli.models.vector_store import VectorStore
from trec_cli.prompts.alone import TextsAlone
from trec_cli.score.adapters import Adapter
from trec_cli.score.job import check_there
from trec_cli.score.prompting import Prompting, Prompts, TreeJob, make_prompts

_DECIMALS = 6


class LlmJob(TreeJob):
    """A job for a causal LM in this process; it is loaded when the first batch needs it."""

    def __init__(
        self,
        system: str,
        prompts: Prompts,
        load: Callable[[], LanguageModel],
        *,
        placement: Placement,
        max_tokens: int,
        settings: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        """Prepare to score.

        Args:
            system, prompts, settings, progress: see :class:`TreeJob`.
            load: loads the model, with its adapter where there is one.
            placement: where the model will run.
            max_tokens: of one forward pass (a single prompt may be longer).
        """
        own = {
            "device": placement.device.type,
            "dtype": placement.precision,
            "max_tokens": max_tokens,
        }
        super().__init__(system, prompts, {**settings, **own}, progress)
        self._load, self._max_tokens, self._placement = load, max_tokens, placement
        self._scorer: TreeScorer | None = None

    def batches(self) -> list[list[int]]:
        """Group small trees, the largest first; a large tree is a batch of its own.

        Trees of different blocks (:mod:`~trec_cli.core.shards`) never share a row, so that
        the company of a tree, which decides the last bits of its scores, does not depend
        on how many shards there are.
        """
        limit = row_limits(self._placement.device, self._max_tokens).row
        sizes, count = self.sizes, len(self.examples)
        rows = [
            [start + place for place in row]
            for start in range(0, count, BLOCK)
            for row in plan_rows(sizes[start : start + BLOCK], limit)
        ]
        return sorted(rows, key=lambda row: -sizes[row[0]])

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples, rounded to what float32 can tell."""
        rows = self.scorer([self.tree(index) for index in batch])
        return [[round(value, _DECIMALS) for value in row] for row in rows]

    @property
    def scorer(self) -> TreeScorer:
        """The model with its way of scoring, loaded when it is first asked for."""
        if self._scorer is None:
            self._scorer = self._start()
        return self._scorer

    def details(self) -> dict[str, Any]:
        """Return device, way of computing, answers and cuts."""
        return {"device": self._placement.reason, "way": self.way, **super().details()}

    def remarks(self) -> list[str]:
        """Return where and how it ran, and what was cut."""
        return [f"ran on {self._placement.reason}; {self.way}", f"prompts: {self.cuts}"]

    @property
    def way(self) -> str:
        """How the scores were computed, in words."""
        if self._scorer is None:
            return "no batch was left to score"
        if self._scorer.fallback:
            return f"one prompt at a time: {self._scorer.fallback}"
        return "shared prefix, checked against one prompt at a time"

    def _make(self, model: Any) -> TreeScorer:
        return BranchScorer(model, self._builder.answers, self._max_tokens)

    def _start(self) -> TreeScorer:
        """Load the model and check that sharing the prefix is exact for it."""
        scorer = self._make(self._load().model)
        scorer.tell = self._progress.warn
        sizes = self.sizes
        extremes = {min(range(len(sizes)), key=sizes.__getitem__), sizes.index(max(sizes))}
        scorer.check([self.tree(index) for index in sorted(extremes)])
        if scorer.fallback:
            self._progress.warn(f"{scorer.fallback}; scoring one prompt at a time, slowly")
        return scorer


class TextJob(LlmJob):
    """A job that asks how likely texts are, with the user and without.

    What is subtracted is what the model itself says without a user or, for an adapter that has
    learnt against it, what the base model says.  With ``--no-user`` the questions are without a
    user, and of the first kind nothing is left to subtract.
    """

    def __init__(
        self,
        system: str,
        prompts: Prompts,
        *arguments: Any,
        store: Path,
        no_user: bool,
        base: Callable[[], LanguageModel] | None,
        **own: Any,
    ) -> None:
        """Prepare to score.

        Args:
            system, prompts, arguments, own: see :class:`LlmJob`.
            store: of what was asked for before.
            no_user: whether the questions are without a user.
            base: loads the model that is subtracted, where that is another one.
        """
        super().__init__(system, prompts, *arguments, **own)
        self._store_file, self._load_base = store, base
        self._alone = None if no_user and base is None else self._texts_alone(prompts)

    def _texts_alone(self, prompts: Prompts) -> TextsAlone:
        asked = (item for e in prompts.material.everything for item in e.candidates)
        return TextsAlone(
            self._builder,
            asked,
            model=self.settings["model"],
            placement=self._placement,
            max_tokens=self._max_tokens,
            adapter=() if self._load_base else prompts.adapter,
        )

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:
        """Open the store; what is written there outlives a killed run."""
        with super().running(out), VectorStore(self._store_file) as self._store:
            yield

    def _make(self, model: Any) -> TreeScorer:
        return TextScorer(model, self._max_tokens)

    def _start(self) -> TreeScorer:
        """Ask the base model first where it is another one, so that one is loaded at a time."""
        if self._alone is not None and self._load_base is not None:
            items = (item for example in self.examples for item in example.candidates)
            self._alone.every(items, self._store, cache(self._base_scorer), self._progress)
        return super()._start()

    def _base_scorer(self) -> TreeScorer:
        assert self._load_base is not None
        assert self._alone is not None
        return self._alone.checked(self._make(self._load_base().model), self._progress)

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples, in nats."""
        rows = super().score(batch)
        if self._alone is None:
            return rows
        return [
            [
                round(value - self._alone.of(item, self._store, lambda: self.scorer), _DECIMALS)
                for value, item in zip(row, self.examples[index].candidates, strict=True)
            ]
            for row, index in zip(rows, batch, strict=True)
        ]

    def remarks(self) -> list[str]:
        """Add how many texts had been asked for before."""
        if self._alone is None or not self._alone.found:
            return super().remarks()
        known = f"{self._alone.found} texts without the user: found in the store"
        return [*super().remarks(), known]


def make_llm_job(prompting: Prompting, max_tokens: int, progress: Progress) -> LlmJob:
    """Read everything but the weights; say which model it is, loudly.

    Raises:
        InputError: a file is at fault, or summaries are missing.
        ModelError: the tokenizer or configuration cannot be loaded or used.
        UsageError: the device is not there, or the prompt settings leave no room or name
            attributes that no item has.
    """
    check_there(prompting.files)
    adapter = prompting.find_adapter()
    source = prompting.base(adapter)
    _announce(prompting, adapter, source.name, progress)
    placement = choose_device(source.device, source.dtype)
    config = load_config(source)
    identity = model_identity(source, config)
    if adapter:
        for difference in filter(None, (adapter.changed(), adapter.other_weights(identity))):
            progress.warn(difference)
    tokenizer = load_tokenizer(source)
    prompts = make_prompts(
        prompting, adapter, prompting.read(), tokenizer, max_positions(config), progress
    )
    folder = adapter.folder if adapter else None
    text = prompts.builder.text  # every token's logits are wanted there, else those of an answer
    load = partial(load_adapted, source, pack=True, head=text, tokenizer=tokenizer, config=config)
    kind: Callable[..., LlmJob] = LlmJob
    if text:
        kind = partial(
            TextJob,
            no_user=prompting.options.no_user,
            store=prompting.store,
            base=partial(load, None) if adapter and adapter.learnt.less == "base" else None,
        )
    return kind(
        prompting.system(adapter),
        prompts,
        partial(load, folder),
        placement=placement,
        max_tokens=max_tokens,
        settings={"model": identity},
        progress=progress,
    )


def _announce(prompting: Prompting, adapter: Adapter | None, base: str, progress: Progress) -> None:
    if adapter:
        progress.info(f"adapter {adapter.folder} on {base}")
    elif prompting.options.zero_shot:
        progress.info(f"zero-shot: {base} without an adapter")
    else:
        missing = prompting.unfinished_adapter() or (
            f"no adapter of mode {prompting.mode} is there (trec train makes one)"
        )
        progress.warn(
            f"{missing}, so this is the untrained base model {base}; --zero-shot says that you "
            "want it"
        )
