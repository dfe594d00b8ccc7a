"""What a language model is asked, wherever it runs: prompts, and the jobs that are made of them."""

import dataclasses
import hashlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trec_cli.attention.target import TargetAttention, find_target
from trec_cli.core.attributes import check_attributes
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import UsageError
from trec_cli.core.lineage import stale
from trec_cli.core.outputs import partial_path
from trec_cli.core.progress import Progress
from trec_cli.core.runs import NO_USER_SUFFIX, RunFolder
from trec_cli.core.shards import find_shard
from trec_cli.core.text import counted
from trec_cli.models.source import ModelSource
from trec_cli.prompts.learnt import SETTINGS_FILE, LearntPrompt, load_settings, template_hash
from trec_cli.prompts.questions import SummarizedExample, with_summaries, without_user
from trec_cli.prompts.recommend import Cuts, PromptBuilder, PromptPart, PromptTree, tree_bytes
from trec_cli.prompts.settings import PromptSettings, adapter_name
from trec_cli.score.adapters import Adapter, check_attention, check_prompt, read_adapter
from trec_cli.score.job import Cost, Job, Material, read_material
from trec_cli.score.kinds import LLM
from trec_cli.score.options import Asked, LlmOptions, ScoreOptions

_PROMPT_OPTIONS = {
    "recent": "recent",
    "max_length": "max_length",
    "candidate_tokens": "candidate_tokens",
    "attributes": "attributes",
    "chat_template": "chat",
    "ask": "ask",
}
"""Options that decide the prompt, and their fields in :class:`PromptSettings`."""

_KEPT_TOKENS = 1 << 23
"""Tokens of prompt trees that are kept from planning to scoring; measured at 10 bytes each."""

_THINKS = "nothing is done against thinking"


@dataclass(frozen=True)
class Prompting:
    """What a user asks of a language model.

    Attributes:
        asked: the questions.
        mode: names summaries and adapter.
        summaries: file; None for mode ``none``.
        options: adapter, vectors, templates.
        source: the base model, or where the tokenizer of a served one lies.
        store: of what the model has said without a user.
        served: name of the model at the server.
        prompt: its settings, where no adapter brings them.
        given: options that were not left at their defaults.
    """

    asked: Asked
    mode: str
    summaries: Path | None
    options: LlmOptions
    source: ModelSource
    prompt: PromptSettings
    given: frozenset[str]
    store: Path = IN_MEMORY
    served: str = ""

    @classmethod
    def of(cls, options: ScoreOptions, given: frozenset[str]) -> "Prompting":
        """Take from all options what matters to a language model.

        Raises:
            UsageError: there are no summaries for the mode.
        """
        source, local = options.source, options.llm.engine == "local"
        if options.llm.engine == "openai":  # a served model's files are those of its tokenizer
            source = dataclasses.replace(source, name=options.served.tokenizer or source.name)
            given = given - {"model"} | ({"model"} if "tokenizer" in given else set())
        return cls(
            asked=options.asked,
            mode=options.mode,
            summaries=options.summaries_file(),
            options=options.llm,
            source=source,
            prompt=options.prompt,
            given=given,
            store=options.embedding.store_file(options.asked.run) if local else IN_MEMORY,
            served=options.source.name,
        )

    @property
    def files(self) -> list[Path]:
        """The files to read."""
        return self.asked.files(self.summaries)

    def system(self, adapter: Adapter | None) -> str:
        """Name the output."""
        ask = adapter.learnt.settings.ask if adapter else self.prompt.ask
        name = adapter_name(self.mode, ask)
        name = name if adapter else f"{name}-zeroshot"
        return f"{name}{NO_USER_SUFFIX}" if self.options.no_user else name

    def read(self) -> Material:
        """Read the questions with their summaries."""
        shard = find_shard(self.options.shard)
        return read_material(self.asked, LLM, self.summaries, learns=False, shard=shard)

    def find_adapter(self) -> Adapter | None:
        """Find the adapter, and refuse options that do not fit it.

        Raises:
            InputError: the adapter is damaged or not there.
            UsageError: it has another base model or prompt than was asked for.
        """
        folder = self.options.adapter
        if folder is None and not self.options.zero_shot and self.asked.run is not None:
            usual = RunFolder(self.asked.run).adapter(adapter_name(self.mode, self.prompt.ask))
            folder = usual if usual.is_dir() else None
        if folder is None:
            return None
        adapter = read_adapter(folder)
        if "model" in self.given:
            adapter.check_base(self.source.name)
        self._check_prompt(adapter.learnt.settings, folder)
        return adapter

    def unfinished_adapter(self) -> str | None:
        """Name the training whose adapter was looked for and is not finished; None without one."""
        if self.asked.run is None:
            return None
        usual = RunFolder(self.asked.run).adapter(adapter_name(self.mode, self.prompt.ask))
        if not partial_path(usual).exists():
            return None
        return f"the training of {usual} is not finished (the same command goes on with it)"

    def base(self, adapter: Adapter | None) -> ModelSource:
        """Return the base model: the one given, else the adapter's, else the default.

        An adapter may pin its revision.
        """
        if adapter is None:
            return self.source
        name = self.source.name if "model" in self.given else adapter.base_model
        revision = self.source.revision or adapter.revision
        return dataclasses.replace(self.source, name=name, revision=revision)

    def learnt_prompt(self, adapter: Adapter | None) -> LearntPrompt | None:
        """Return the prompt of the adapter, or of a merged model (``trec train --merge``).

        None where nothing was trained: then the prompt is the one asked for.

        Raises:
            UsageError: another prompt was asked for.
        """
        if adapter:
            return adapter.learnt
        merged = Path(self.source.name)
        if not (merged / SETTINGS_FILE).is_file():
            return None
        learnt = load_settings(merged)
        self._check_prompt(learnt.settings, merged)
        return learnt

    def _check_prompt(self, learnt: PromptSettings, folder: Path) -> None:
        """Refuse options that would change the prompt which ``folder`` brings."""
        if "prompts" in self.given:
            raise UsageError(
                f"--prompts cannot be used with {folder}, which brings its own template in "
                "prompt.json; leave it out, or score the base model (--zero-shot)"
            )
        fields = [field for option, field in _PROMPT_OPTIONS.items() if option in self.given]
        check_prompt(learnt, folder, {field: getattr(self.prompt, field) for field in fields})


@dataclass(frozen=True)
class Prompts:
    """The questions of a material as prompts for one tokenizer.

    Attributes:
        material: what was read.
        questions: examples with what stands in their prompts.
        builder: makes the prompts.
        settings: what decides them.
        inputs, adapter: further files that do.
    """

    material: Material
    questions: Sequence[SummarizedExample]
    builder: PromptBuilder
    settings: Mapping[str, Any]
    inputs: Sequence[Path]
    adapter: Sequence[Path]


def make_prompts(
    prompting: Prompting,
    adapter: Adapter | None,
    material: Material,
    tokenizer: Any,
    max_positions: int | None,
    progress: Progress,
) -> Prompts:
    """Join examples with their summaries and prepare their prompts.

    Raises:
        InputError: summaries are missing or of other examples.
        UsageError: the prompt settings leave no room or name attributes that no item has, or
            evidence is of another kind than the adapter has learnt from.
    """
    summaries = prompting.summaries
    learnt = prompting.learnt_prompt(adapter)
    target = find_target(material.summaries, summaries, prompting.options.vectors)
    if target and (difference := _other_evidence(prompting, adapter, learnt, target)):
        progress.warn(difference)
    _warn_of_stale(summaries, material, progress)
    if learnt is None:
        check_attributes(prompting.prompt.attributes, material.items)
    builder = PromptBuilder(
        tokenizer,
        material.items,
        learnt.settings if learnt else prompting.prompt,
        max_positions=max_positions,
        prompts=prompting.options.prompts,
        template=learnt.template if learnt else None,
        target=target is not None,
    )
    settings = {
        "mode": prompting.mode,
        "adapter": adapter is not None,
        "prompt": builder.settings.recorded(),
        "template": template_hash(builder.template),
        **({"no_user": True} if prompting.options.no_user else {}),
    }
    if builder.thinking:
        settings["thinking"] = builder.thinking
    _tell_of_thinking(learnt, builder, progress)
    return Prompts(
        material=material,
        questions=_questions(prompting, material, target),
        builder=builder,
        settings=settings,
        inputs=target.files if target else [],
        adapter=adapter.files if adapter else [],
    )


def _questions(
    prompting: Prompting, material: Material, target: TargetAttention | None
) -> Sequence[SummarizedExample]:
    """Join examples with their summaries, or leave both summary and history out."""
    asked, file = prompting.asked, prompting.summaries or prompting.asked.examples_file
    questions = with_summaries(
        material.examples, material.summaries, asked.split, file=file, target=target
    )
    return list(map(without_user, questions)) if prompting.options.no_user else questions


def _tell_of_thinking(
    learnt: LearntPrompt | None, builder: PromptBuilder, progress: Progress
) -> None:
    """Say how a model is kept from thinking, and where that was another way in training."""
    if learnt and learnt.thinking not in (None, builder.thinking):
        progress.warn(
            f"the chat template has changed since the training: {learnt.thinking or _THINKS} then, "
            f"{builder.thinking or _THINKS} now; the scores may mean less"
        )
    if builder.thinking:
        progress.info(builder.thinking)


def _other_evidence(
    prompting: Prompting,
    adapter: Adapter | None,
    learnt: LearntPrompt | None,
    target: TargetAttention,
) -> str:
    """Refuse evidence of another kind than was learnt from; return a warning, or nothing.

    Raises:
        UsageError: see :func:`~trec_cli.score.adapters.check_attention`.
    """
    folder = adapter.folder if adapter else Path(prompting.source.name)
    attention = learnt.attention if learnt else None
    return check_attention(attention, folder, target.recorded(), target.files[0])


def _warn_of_stale(summaries: Path | None, material: Material, progress: Progress) -> None:
    """Warn where the summaries were made from other items or examples than those at hand."""
    if summaries is None:
        return
    read = [path for path in material.files if path != summaries]
    for name in stale(summaries, read, material.hashes):
        progress.warn(
            f"{summaries} was made from another version of {name}; run trec summarize again "
            "with --overwrite, or its summaries may not fit"
        )


class TreeJob(Job):
    """A job on prompt trees.

    A tree is built once, to plan and to score.  Where there are more than fit
    :data:`_KEPT_TOKENS`, the others are built again when they are scored, so that memory
    does not grow with the number of users.
    """

    def __init__(
        self, system: str, prompts: Prompts, settings: Mapping[str, Any], progress: Progress
    ) -> None:
        """Prepare to score; ``settings`` are those beside the prompts'."""
        super().__init__(
            system,
            prompts.material,
            {**prompts.settings, **settings},
            prompts.inputs,
            prompts.adapter,
        )
        self._questions, self._builder = prompts.questions, prompts.builder
        self._progress = progress
        self._trees: dict[int, PromptTree] = {}
        self._kept_tokens = 0
        self._costs: tuple[array[int], array[int]] | None = None
        self._cuts = Cuts()

    def tree(self, index: int) -> PromptTree:
        """Return the prompts of an example; built now where they are not kept."""
        if index in self._trees:
            return self._trees[index]
        tree = self._questions[index].tree(self._builder)
        if self._kept_tokens + tree.size <= _KEPT_TOKENS:
            self._kept_tokens += tree.size
            self._trees[index] = tree
        return tree

    def describe(self) -> list[PromptPart]:
        """Write out the first prompt, part by part."""
        return self._builder.describe(self.tree(0)) if self.examples else []

    @property
    def sizes(self) -> Sequence[int]:
        """Tokens that each example costs."""
        return self._survey()[0]

    @property
    def cuts(self) -> Cuts:
        """What did not fit into all prompts together."""
        self._survey()
        return self._cuts

    def _survey(self) -> "tuple[array[int], array[int]]":
        """Build all prompts, once, and measure them: what they cost, shared and separate."""
        if self._costs is None:
            shared, separate = array("q"), array("q")
            with self._progress.task("building prompts", len(self._questions)) as bar:
                for index in range(len(self._questions)):
                    tree = self.tree(index)
                    shared.append(self._size(tree))
                    separate.append(tree.separate_size)
                    self._cuts += tree.cuts
                    bar.advance()
            self._costs = shared, separate
        return self._costs

    def _size(self, tree: PromptTree) -> int:
        """Return the tokens that a tree costs."""
        return tree.size

    def keys(self, batch: Sequence[int]) -> list[str]:
        """Hash the tokens of a batch; who shares a batch changes the last bits of a score."""
        digest = hashlib.blake2b(digest_size=16)
        for index in batch:
            digest.update(tree_bytes(self.tree(index)))
        return [f"{digest.hexdigest()}-{position}" for position in range(len(batch))]

    def cost(self, index: int) -> Cost:
        """Return what an example costs."""
        shared, separate = self._survey()
        return Cost(1, len(self.examples[index].candidates), shared[index], separate[index])

    def outlook(self, out: Path) -> tuple[str, dict[str, Any]]:
        """Return what scoring would cost, and what would be cut."""
        shared, separate = self._survey()
        candidates = sum(len(example.candidates) for example in self.examples)
        cost = Cost(len(self.examples), candidates, sum(shared), sum(separate))
        words = (
            f"{counted(cost.users, 'user')}, {counted(cost.candidates, 'candidate')}, "
            f"{counted(cost.tokens, 'token')} to compute "
            f"instead of {cost.separate_tokens} ({cost.saved:.0%} saved by sharing); "
            f"{self.cuts}; would write {out}"
        )
        return words, {**dataclasses.asdict(cost), "cuts": dataclasses.asdict(self.cuts)}

    def details(self) -> dict[str, Any]:
        """Return answers and cuts."""
        cuts = {"cuts": dataclasses.asdict(self.cuts)}
        if self._builder.text:
            return cuts
        answers = self._builder.answers
        return {"answers": {answers.yes_text: answers.yes, answers.no_text: answers.no}, **cuts}
