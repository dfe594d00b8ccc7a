"""From the options to an adapter in its folder: inputs, prompts, provenance, card."""

from array import array
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

from trec_cli.attention.target import find_target
from trec_cli.core.attributes import check_attributes
from trec_cli.core.cost import Work
from trec_cli.core.errors import SettingsChanged, UsageError
from trec_cli.core.jsonl import content_hash, is_stream, read_items
from trec_cli.core.lineage import other_versions
from trec_cli.core.manifest import Provenance, read_manifest, up_to_date
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example
from trec_cli.core.shelves import Chosen
from trec_cli.core.stored import open_examples, open_summaries
from trec_cli.core.text import counted
from trec_cli.models.device import choose_device
from trec_cli.models.likelihood import TextScorer
from trec_cli.models.load import (
    LanguageModel,
    load_adapted,
    load_config,
    load_model,
    load_tokenizer,
    max_positions,
    model_identity,
)
from trec_cli.models.processes import Processes
from trec_cli.models.vector_store import VectorStore
from trec_cli.prompts.alone import TextsAlone
from trec_cli.prompts.learnt import Less, template_hash
from trec_cli.prompts.questions import SummarizedExample, fingerprint, with_summaries
from trec_cli.prompts.recommend import PromptBuilder, PromptPart
from trec_cli.train.callbacks import keep_events
from trec_cli.train.dataset import check_targets, check_trainable
from trec_cli.train.lora import gathered, quantization, upper_layers
from trec_cli.train.plan import Draw
from trec_cli.train.prepared import PreparedTraining, prepare
from trec_cli.train.publish import Card, publish
from trec_cli.train.run import Outcome, train
from trec_cli.train.settings import BEFORE_OPTIONS, TrainOptions
from trec_cli.train.untrained import QUESTIONS, Untrained, ask_untrained
from trec_cli.train.work import WorkFolder

_ELSEWHERE_IN_CARD = {"model", "inputs", "mode", "records"}


class TrainingJob:
    """A training with its inputs read.

    Attributes:
        options, files: as asked for.
        source: the base model, on the device of this process.
        settings: of the training.
    """

    def __init__(self, options: TrainOptions, processes: Processes, progress: Progress) -> None:
        """Read, check and hash the inputs; load the tokenizer, but no weights.

        Raises:
            InputError: an input is wrong, has no training examples, or summaries are missing.
            ModelError: the model is not there, or cannot answer yes and no.
            UsageError: the prompt settings leave no room or name attributes that no item has,
                or the device cannot be had.
        """
        self.options, self.files = options, options.files()
        self.settings = options.for_processes(processes.count)
        processes.check(quantized=self.settings.quantize is not None)
        if options.against_base and (self.settings.quantize or processes.deal_out_weights):
            raise UsageError(
                "--ask text --loss listwise asks the whole base model first: train without "
                "--quantize and FSDP"
            )
        self.source = processes.place(options.model)
        self._processes, self._progress = processes, progress
        self._read()
        self._placement = choose_device(self.source.device, self.source.dtype)
        upper_layers(load_config(self.source), self.settings.lora.layers)
        if self._placement.int8:
            raise UsageError("--dtype int8 cannot be trained; it is for summarize and score")
        inputs = [*self.files.inputs, *(self._target.files if self._target else [])]
        self._provenance = Provenance("train", self._recorded(), inputs)

    def _read(self) -> None:
        """Read items, examples and summaries, each once, and make the builder of prompts."""
        options, files = self.options, self.files
        items = read_items(files.items)
        examples = self._answered(open_examples(files.examples, items))
        summaries = open_summaries(files.summaries) if files.summaries else None
        self._target = find_target(summaries, files.summaries, options.vectors)
        joined = partial(
            with_summaries, examples, summaries, file=files.summaries, target=self._target
        )
        self._questions = joined("train", limit=options.limit)
        self._valid = joined("valid", limit=options.valid_limit)
        negatives = "catalogue" if options.continues else self.settings.negatives_from
        check_trainable(self._questions, files.examples, negatives)
        if self.settings.targets == "all":
            if self._target is not None:
                raise UsageError(
                    "--targets all does not go with summaries of --query candidate; use "
                    "--targets last"
                )
            check_targets(self._questions, files.summaries)
        check_attributes(options.prompt.attributes, items)
        self._builder = PromptBuilder(
            load_tokenizer(self.source),
            items,
            options.prompt,
            max_positions=max_positions(load_config(self.source)),
            prompts=options.prompts,
            target=self._target is not None,
            attention=self._target.recorded() if self._target else None,
        )

    def _answered(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Leave out questions whose right answer a retrieval has missed: nothing to learn."""
        learns = (e.split in ("train", "valid") and not e.positives for e in examples)
        places = array("q", (place for place, bare in enumerate(learns) if not bare))
        answered = Chosen(examples, places)
        if missing := len(examples) - len(answered):
            have = counted(missing, "example has", "examples have")
            self._progress.warn(f"{have} no positive among the candidates")
        return answered

    def _recorded(self) -> dict[str, Any]:
        """Return everything beside the inputs that decides the adapter, for the manifest."""
        training, unsaid = asdict(self.settings), BEFORE_OPTIONS.items()
        lora = {f"lora_{name}": value for name, value in training.pop("lora").items()}
        settings: dict[str, Any] = {
            "mode": self.options.mode,
            "limit": self.options.limit,
            "model": model_identity(self.source),
            "device": self._placement.device.type,
            "dtype": self._placement.precision,
            **self._builder.settings.recorded(),
            "template": template_hash(self._builder.template),
            **{n: v for n, v in {**training, **lora}.items() if (n, v) not in unsaid},
        }
        if any(map(is_stream, self.files.inputs)):
            settings["records"] = fingerprint(chain(self._questions, self._valid))
        if is_stream(self.files.items):
            settings["items"] = content_hash(self._builder.items.values())
        return settings

    @cached_property
    def prepared(self) -> PreparedTraining:
        """Measure all prompts, plan the steps, and warn of what was cut or is missing."""
        device = self._placement.device
        prepared = prepare(
            self._questions, self._valid, self._builder, self.settings, device, self._progress
        )
        for warning in [*prepared.warnings(), *self._stale()]:
            self._progress.warn(warning)
        return prepared

    def _stale(self) -> list[str]:
        """Warn where the summaries were made from other examples than those at hand."""
        summaries = self.files.summaries
        manifest = read_manifest(summaries) if summaries else None
        changed = other_versions(manifest or {}, self._provenance.inputs)
        return [
            f"{summaries} was made from another version of {name}; run trec summarize again "
            "with --overwrite, or the adapter learns from summaries that may not fit"
            for name in changed
        ]

    def _facts(self) -> dict[str, Any]:
        """Describe what is learnt from, the evidence of candidates included."""
        attention = self._builder.attention or {}
        return {
            **self.prepared.facts(),
            **{f"attention {name}": value for name, value in attention.items()},
        }

    def describe(self) -> list[PromptPart]:
        """Write out the first prompt of the first example, part by part, with its label."""
        labelled = self.prepared.data[Draw(0, 0)]
        if self._builder.text:
            return self._builder.describe(labelled.tree)
        answers = self._builder.answers
        label = answers.yes_text if labelled.labels[0] else answers.no_text
        return [*self._builder.describe(labelled.tree), PromptPart("label", label, 1)]

    def cost(self) -> dict[str, Any]:
        """Describe what the training would consist of."""
        return {
            **self.prepared.facts(),
            "optimizer steps": self.prepared.plan.steps,
            "steps between validations": self.prepared.eval_every,
            "tokens of a validation": self._validation_tokens,
            **({"tokens asked of the base model": self._base_tokens} if self._base_tokens else {}),
        }

    def work(self) -> Work:
        """Return the tokens that are learnt from in all epochs: what grows with the users.

        Validation does not, and the base model is asked of items.
        """
        tokens = self.prepared.measure.total.expected * self.settings.epochs
        return Work(learnt=tokens, recomputed=self.settings.gradient_checkpointing)

    @cached_property
    def _validation_tokens(self) -> int:
        return sum(question.tree(self._builder).size for question in self._valid)

    @cached_property
    def _base_tokens(self) -> int:
        """Count what is read before texts are learnt against the base model, nothing kept yet."""
        if not self.options.against_base:
            return 0
        alone = self._builder.tree([], "", sorted(self._asked_items())).size
        if self.settings.temperature is not None:
            return alone
        return alone + sum(q.tree(self._builder).size for q in self._temperature_questions())

    def _temperature_questions(self) -> Sequence[SummarizedExample]:
        return (self._valid or self._questions)[:QUESTIONS]

    def refusal(self, *, overwrite: bool) -> SettingsChanged | None:
        """Return why :meth:`run` would refuse to write; None where it would not."""
        out, wanted = self.files.out, self._provenance.settings
        work = WorkFolder(out)
        try:
            if not work.is_unfinished():
                up_to_date(out, wanted, overwrite=overwrite)
            if not overwrite:
                work.check(wanted)
        except SettingsChanged as change:
            return change
        return None

    def run(self, *, overwrite: bool = False) -> Outcome | None:
        """Train and move the adapter to its folder; return None where it is there already.

        Only the main process locks and writes; the others compute.

        Raises:
            SettingsChanged: an adapter or unfinished work with other settings is there.
            OutputLocked: another run is writing it.
            ModelError: the weights cannot be loaded or do not fit, or training diverged.
        """
        out, wanted = self.files.out, self._provenance.settings
        with locked(out) if self._processes.is_main else nullcontext():
            work = WorkFolder(out)
            if not work.is_unfinished() and up_to_date(out, wanted, overwrite=overwrite):
                return None
            if self._processes.is_main:
                work.open(wanted, overwrite=overwrite, warn=self._progress.warn)
            return self._train(work)

    def _untrained(self) -> Untrained | None:
        """Ask the base model what texts are learnt against; None where it is not needed.

        The other processes find in the store what the main one has asked for.
        """
        if not self.options.against_base:
            return None
        items = self._asked_items()
        texts = TextsAlone(
            self._builder,
            items,
            model=model_identity(self.source),
            placement=self._placement,
            max_tokens=self.settings.max_tokens,
        )
        some = list(self._temperature_questions())
        on_cpu = self._placement.device.type == "cpu"
        with (
            self._processes.main_first(cpu=on_cpu),
            VectorStore(self.options.store_file) as store,
        ):
            return ask_untrained(
                texts,
                self._builder,
                items,
                some,
                store,
                self._base_scorer,
                self._progress,
                temperature=self.settings.temperature,
            )

    def _asked_items(self) -> set[str]:
        """Return the items whose texts may be candidates, in training or validation."""
        learnt = [question.example for question in self._questions]
        found = {item for e in learnt for item in e.candidates}
        found |= {item for q in self._valid for item in q.example.candidates}
        if self.settings.negatives_from == "catalogue":
            found |= set(self._builder.items)
        if self.settings.targets == "all":
            shown = slice(-self._builder.settings.recent, None)
            found |= {item for e in learnt for item in e.history[shown]}
        return found

    def _base_scorer(self) -> TextScorer:
        llm = load_adapted(self.source, None, pack=True, head=True)
        return TextScorer(llm.model, self.settings.max_tokens)

    def _train(self, work: WorkFolder) -> Outcome:
        options, prepared = self.options, self.prepared
        untrained = self._untrained()
        llm = self._load()
        self._progress.info(f"training on {llm.placement.reason}")
        if options.trackers:
            keep_events(work.out)
        model, outcome = train(
            llm,
            prepared,
            work,
            save_every=options.save_every,
            report_to=options.trackers,
            progress=self._progress,
            untrained=untrained,
        )
        weights = gathered(model)
        if self._processes.is_main:
            self._provenance.earlier_seconds = outcome.earlier_seconds
            details = {**self._facts(), **outcome.details(), "device": llm.placement.reason}
            if untrained is not None:
                details["temperature_used"] = untrained.temperature
            details["weights_dealt_out"] = weights is not None
            card = self._card(outcome, untrained)
            less: Less = "base" if options.against_base else "own"
            publish(work, model, self._builder, less, card, self._provenance, details, weights)
        return outcome

    def _load(self) -> LanguageModel:
        """Load the weights; those that are to be dealt out into main memory, in their type."""
        if not self._processes.deal_out_weights:
            return load_model(self.source, **quantization(self.settings.quantize, self._placement))
        source = replace(self.source, device="cpu", dtype=self._placement.precision)
        llm = load_model(source)
        return replace(llm, placement=self._placement)

    def _card(self, outcome: Outcome, untrained: Untrained | None) -> Card:
        settings, inputs = dict(self._provenance.settings), self._provenance.inputs
        if untrained is not None:
            settings["temperature"] = untrained.temperature
        return Card(
            base_model=self.source.name,
            revision=settings["model"]["revision"],
            mode=self.options.mode,
            data=self._facts(),
            settings={n: v for n, v in settings.items() if n not in _ELSEWHERE_IN_CARD},
            best=outcome.best,
            steps=outcome.steps,
            inputs={Path(name).name: value for name, value in inputs.items()},
        )
