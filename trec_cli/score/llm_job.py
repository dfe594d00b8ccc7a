"""Scoring with a language model: log-odds of yes, base model or adapter.

The score of a candidate is ``logit(yes) - logit(no)`` at the answer's place; the softmax over
the two in the paper (section 3.4) is its logistic function, so the ranking is the same and
ties by rounding near 0 and 1 do not occur.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trec_cli.attention.target import find_target
from trec_cli.core.attributes import check_attributes
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.lineage import stale
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item
from trec_cli.models.device import Placement, choose_device
from trec_cli.models.load import (
    LanguageModel,
    load_adapted,
    load_config,
    load_tokenizer,
    max_positions,
    model_identity,
)
from trec_cli.models.log_odds import BranchScorer, plan_rows, row_limits
from trec_cli.models.source import ModelSource
from trec_cli.prompts.questions import SummarizedExample, with_summaries
from trec_cli.prompts.recommend import (
    Cuts,
    PromptBuilder,
    PromptPart,
    PromptTree,
    template_hash,
)
from trec_cli.score.adapters import Adapter
from trec_cli.score.request import ScoreRequest
from trec_cli.score.writing import Cost

_DECIMALS = 6


@dataclass(frozen=True)
class Survey:
    """What all prompts come to, known before any weights are loaded.

    Attributes:
        costs: of each example.
        cuts: of all together.
    """

    costs: Sequence[Cost]
    cuts: Cuts

    @property
    def total(self) -> Cost:
        """Cost of all examples."""
        return sum(self.costs, Cost())


class TreeJob:
    """What every :class:`~trec_cli.score.writing.Job` on prompt trees has.

    Trees are built twice, once to plan and once to score, so that memory does not grow
    with the number of users.
    """

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        *,
        settings: Mapping[str, Any],
        inputs: Sequence[Path],
        progress: Progress,
    ) -> None:
        """Prepare to score ``questions``.

        Args:
            questions: examples with their summaries.
            builder: for the model's tokenizer.
            settings: see :class:`~trec_cli.score.writing.Job`.
            inputs: the same.
            progress: where to say what goes on.
        """
        self.examples = [question.example for question in questions]
        self.settings, self.inputs = settings, inputs
        self._questions, self._builder, self._progress = questions, builder, progress
        self._survey: Survey | None = None

    def tree(self, place: int) -> PromptTree:
        """Build the prompts of an example."""
        return self._questions[place].tree(self._builder)

    def describe(self, place: int) -> list[PromptPart]:
        """Write out the first prompt of an example, part by part."""
        return self._builder.describe(self.tree(place))

    @property
    def survey(self) -> Survey:
        """Build all prompts once and measure them."""
        if self._survey is None:
            costs, cuts = [], Cuts()
            with self._progress.task("building prompts", len(self._questions)) as bar:
                for place in range(len(self._questions)):
                    tree = self.tree(place)
                    costs.append(self._measure(tree))
                    cuts += tree.cuts
                    bar.advance()
            self._survey = Survey(costs, cuts)
        return self._survey

    def _measure(self, tree: PromptTree) -> Cost:
        return Cost(1, len(tree.branches), tree.size, tree.separate_size)

    def cost(self, place: int) -> Cost:
        """Give the cost of an example."""
        return self.survey.costs[place]

    def details(self) -> dict[str, Any]:
        """Give answers and cuts."""
        answers = self._builder.answers
        return {
            "answers": {answers.yes_text: answers.yes, answers.no_text: answers.no},
            "cuts": dataclasses.asdict(self.survey.cuts),
        }


class LlmJob(TreeJob):
    """A :class:`~trec_cli.score.writing.Job` for a causal LM in this process.

    The model is loaded when the first batch needs it.
    """

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        load: Callable[[], LanguageModel],
        *,
        placement: Placement,
        max_tokens: int,
        **more: Any,
    ) -> None:
        """Prepare to score ``questions``.

        Args:
            questions, builder, more: see :class:`TreeJob`.
            load: loads the model, with its adapter where there is one.
            placement: where the model will run.
            max_tokens: of one forward pass (a single prompt may be longer).
        """
        super().__init__(questions, builder, **more)
        self._load, self._max_tokens, self._placement = load, max_tokens, placement
        self._scorer: BranchScorer | None = None

    def batches(self) -> list[list[int]]:
        """Group small trees, the largest first; a large tree is a batch of its own."""
        limit = row_limits(self._placement.device, self._max_tokens).row
        return plan_rows([cost.tokens for cost in self.survey.costs], limit)

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples, rounded to what float32 can tell."""
        if self._scorer is None:
            self._scorer = self._start()
        rows = self._scorer([self.tree(place) for place in batch])
        return [[round(value, _DECIMALS) for value in row] for row in rows]

    def details(self) -> dict[str, Any]:
        """Give device, way of computing, answers and cuts."""
        return {"device": self._placement.reason, "way": self.way, **super().details()}

    def remarks(self) -> list[str]:
        """Say where and how it ran, and what was cut."""
        return [f"ran on {self._placement.reason}; {self.way}", f"prompts: {self.survey.cuts}"]

    @property
    def way(self) -> str:
        """Say how the scores were computed."""
        if self._scorer is None:
            return "no batch was left to score"
        if self._scorer.fallback:
            return f"one prompt at a time: {self._scorer.fallback}"
        return "shared prefix, checked against one prompt at a time"

    def _start(self) -> BranchScorer:
        """Load the model and check that sharing the prefix is exact for it."""
        llm = self._load()
        scorer = BranchScorer(llm.model, self._builder.answers, self._max_tokens)
        sizes = [cost.tokens for cost in self.survey.costs]
        extremes = {min(range(len(sizes)), key=sizes.__getitem__), sizes.index(max(sizes))}
        scorer.check([self.tree(place) for place in sorted(extremes)])
        if scorer.fallback:
            self._progress.warn(f"{scorer.fallback}; scoring one prompt at a time, slowly")
        return scorer


def make_llm_job(request: ScoreRequest, adapter: Adapter | None, progress: Progress) -> LlmJob:
    """Read everything but the weights.

    Raises:
        InputError: a file is at fault, or summaries are missing.
        ModelError: the tokenizer or configuration cannot be loaded or used.
        UsageError: the device is not there, or the prompt settings leave no room or name
            attributes that no item has.
    """
    source = model_source(request, adapter)
    placement = choose_device(source.device, source.dtype)
    identity = model_identity(source)
    if adapter and (difference := adapter.other_weights(identity)):
        progress.warn(difference)
    positions = max_positions(load_config(source))
    material = read_material(request, adapter, load_tokenizer(source), positions, progress)
    settings = {
        **material.settings,
        "model": identity,
        "device": placement.device.type,
        "dtype": str(placement.dtype).removeprefix("torch."),
        "max_tokens": request.max_tokens,
    }
    return LlmJob(
        material.questions,
        material.builder,
        partial(load_adapted, source, adapter.folder if adapter else None, pack=True),
        placement=placement,
        max_tokens=request.max_tokens,
        settings=settings,
        inputs=material.inputs,
        progress=progress,
    )


@dataclass(frozen=True)
class Material:
    """What a job scores, and what decides the scores whoever computes them."""

    questions: Sequence[SummarizedExample]
    builder: PromptBuilder
    settings: Mapping[str, Any]
    inputs: Sequence[Path]


def read_material(
    request: ScoreRequest,
    adapter: Adapter | None,
    tokenizer: Any,
    max_positions: int | None,
    progress: Progress,
) -> Material:
    """Read the files and prepare the prompts.

    Raises:
        InputError: a file is at fault, or summaries are missing.
        UsageError: the prompt settings leave no room or name attributes that no item has, or
            evidence is of another kind than the adapter has learnt from.
    """
    items = read_items(request.items)
    chosen = request.choose(read_examples(request.examples, items))
    summaries = read_summaries(request.summaries) if request.summaries else None
    place = request.summaries or request.examples
    target = find_target(summaries, request.summaries, request.vectors)
    if target and (difference := request.check_target(adapter, target)):
        progress.warn(difference)
    if request.summaries:
        for name in stale(request.summaries, (request.items, request.examples)):
            progress.warn(
                f"{request.summaries} was made from another version of {name}; run trec summarize "
                "again with --overwrite, or its summaries may not fit"
            )
    questions = with_summaries(chosen, summaries, request.split, file=place, target=target)
    builder = _builder(request, adapter, items, tokenizer, max_positions, target=target is not None)
    settings = {
        **request.settings(items, [*chosen, *(summaries or {}).values()]),
        "mode": request.mode,
        "adapter": adapter is not None,
        "prompt": dataclasses.asdict(builder.settings),
        "template": template_hash(builder.template),
    }
    inputs = [
        *request.files,
        *(target.files if target else []),
        *(adapter.files if adapter else []),
    ]
    return Material(questions, builder, settings, inputs)


def _builder(
    request: ScoreRequest,
    adapter: Adapter | None,
    items: Mapping[str, Item],
    tokenizer: Any,
    max_positions: int | None,
    *,
    target: bool,
) -> PromptBuilder:
    """Build prompts with the adapter's settings and template, else those asked for."""
    learnt = request.learnt_prompt(adapter)
    if learnt is None:
        check_attributes(request.prompt.attributes, items)
    return PromptBuilder(
        tokenizer,
        items,
        learnt.settings if learnt else request.prompt,
        max_positions=max_positions,
        prompts=request.prompts,
        template=learnt.template if learnt else None,
        target=target,
    )


def model_source(request: ScoreRequest, adapter: Adapter | None) -> ModelSource:
    """Say which base model to load; an adapter may pin its revision."""
    source = request.source
    revision = source.revision or (adapter.revision if adapter else None)
    return dataclasses.replace(source, name=request.base_model(adapter), revision=revision)
