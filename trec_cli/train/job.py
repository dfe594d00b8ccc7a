"""From a request to an adapter in its place: inputs, prompts, provenance, card."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from trec_cli.attention.target import find_target
from trec_cli.core.attributes import check_attributes
from trec_cli.core.jsonl import content_hash, is_stream, read_examples, read_items, read_summaries
from trec_cli.core.lineage import other_versions
from trec_cli.core.manifest import Provenance, read_manifest, up_to_date
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.models.device import choose_device
from trec_cli.models.load import (
    load_config,
    load_model,
    load_tokenizer,
    max_positions,
    model_identity,
)
from trec_cli.models.source import ModelSource
from trec_cli.prompts.questions import SummarizedExample, fingerprint, with_summaries
from trec_cli.prompts.recommend import PromptBuilder, PromptPart, template_hash
from trec_cli.prompts.settings import PromptSettings
from trec_cli.train.card import Card
from trec_cli.train.dataset import Draw, check_trainable
from trec_cli.train.lora import quantization
from trec_cli.train.processes import Processes
from trec_cli.train.request import TrainRequest
from trec_cli.train.run import Outcome, Prepared, finish, prepare, train
from trec_cli.train.tracking import keep_events
from trec_cli.train.work import WorkFolder

_OWN_PLACE_IN_CARD = {"model", "inputs", "mode", "records"}


def make_job(request: TrainRequest, processes: Processes, progress: Progress) -> "TrainingJob":
    """Read and check the inputs; load the tokenizer, but no weights.

    Raises:
        InputError: an input is wrong, has no training examples, or summaries are missing.
        ModelError: the model is not there, or cannot answer yes and no.
        UsageError: the prompt settings leave no room or name attributes that no item has,
            or the device cannot be had.
    """
    source = processes.place(ModelSource(**request.source))
    items = read_items(request.items)
    examples = read_examples(request.examples, items)
    summaries = read_summaries(request.summaries) if request.summaries else None
    file, limit = request.summaries, request.limit
    target = find_target(summaries, file, request.vectors)
    joined = partial(with_summaries, examples, summaries, file=file, target=target)
    questions = joined("train", limit=limit)
    valid = joined("valid", limit=request.valid_limit)
    check_trainable(questions, request.examples)
    prompt = PromptSettings(**request.prompt)
    check_attributes(prompt.attributes, items)
    builder = PromptBuilder(
        load_tokenizer(source),
        items,
        prompt,
        max_positions=max_positions(load_config(source)),
        prompts=request.prompts,
        target=target is not None,
        attention=target.recorded() if target else None,
    )
    return TrainingJob(request, processes, source, builder, questions, valid, progress)


class TrainingJob:
    """A training with its inputs read."""

    def __init__(
        self,
        request: TrainRequest,
        processes: Processes,
        source: ModelSource,
        builder: PromptBuilder,
        questions: Sequence[SummarizedExample],
        valid: Sequence[SummarizedExample],
        progress: Progress,
    ) -> None:
        """Take what :func:`make_job` has read, and hash the inputs.

        Raises:
            UsageError: the device is not there.
        """
        self.request, self.source = request, source
        self._processes, self._progress = processes, progress
        self._builder, self._questions, self._valid = builder, questions, valid
        self._placement = choose_device(source.device, source.dtype)
        target = questions[0].target
        inputs = [*request.inputs, *(target.files if target else [])]
        self._provenance = Provenance("train", self._settings(), inputs)

    def _settings(self) -> dict[str, Any]:
        """Give everything beside the inputs that decides the adapter."""
        request = self.request
        training = asdict(request.settings)
        lora = {f"lora_{name}": value for name, value in training.pop("lora").items()}
        settings: dict[str, Any] = {
            "mode": request.mode,
            "limit": request.limit,
            "model": model_identity(self.source),
            "device": self._placement.device.type,
            "dtype": str(self._placement.dtype).removeprefix("torch."),
            **asdict(self._builder.settings),
            "template": template_hash(self._builder.template),
            **training,
            **lora,
        }
        if any(map(is_stream, request.inputs)):
            settings["records"] = fingerprint([*self._questions, *self._valid])
        if is_stream(request.items):
            settings["items"] = content_hash(self._builder.items.values())
        return settings

    @cached_property
    def prepared(self) -> Prepared:
        """Measure all prompts, plan the steps, and warn of what was cut or is missing."""
        prepared = prepare(
            self._questions,
            self._valid,
            self._builder,
            self.request.settings,
            self._placement.device,
            self._progress,
        )
        for warning in [*prepared.warnings(), *self._stale()]:
            self._progress.warn(warning)
        return prepared

    def _stale(self) -> list[str]:
        """Say so where the summaries were made from other examples than those at hand."""
        summaries = self.request.summaries
        manifest = read_manifest(summaries) if summaries else None
        changed = other_versions(manifest or {}, self._provenance.inputs)
        return [
            f"{summaries} was made from another version of {name}; run trec summarize again "
            "with --overwrite, or the adapter learns from summaries that may not fit"
            for name in changed
        ]

    def _facts(self) -> dict[str, Any]:
        """Say what is learnt from, the evidence of candidates included."""
        attention = self._builder.attention or {}
        return {
            **self.prepared.facts(),
            **{f"attention {name}": value for name, value in attention.items()},
        }

    def describe(self) -> list[PromptPart]:
        """Write out the first prompt of the first example, part by part, with its label."""
        labelled, answers = self.prepared.data[Draw(0, 0)], self._builder.answers
        label = answers.yes_text if labelled.labels[0] else answers.no_text
        return [*self._builder.describe(labelled.tree), PromptPart("label", label, 1)]

    def cost(self) -> dict[str, Any]:
        """Say what the training would consist of."""
        return {
            **self.prepared.facts(),
            "optimizer steps": self.prepared.plan.steps,
            "steps between validations": self.prepared.eval_every,
        }

    def run(self) -> Outcome | None:
        """Train and put the adapter into place; None where it is there already.

        Only the main process locks and writes; the others compute.

        Raises:
            SettingsChanged: an adapter or unfinished work with other settings is there.
            OutputLocked: another run is writing it.
            ModelError: the weights cannot be loaded or do not fit, or training diverged.
        """
        with locked(self.request.out) if self._processes.is_main else nullcontext():
            work, wanted = WorkFolder(self.request.out), self._provenance.settings
            overwrite = self.request.overwrite
            if not work.is_unfinished() and up_to_date(work.out, wanted, overwrite=overwrite):
                return None
            if self._processes.is_main:
                work.open(wanted, overwrite=overwrite)
            return self._train(work)

    def _train(self, work: WorkFolder) -> Outcome:
        request, prepared = self.request, self.prepared
        extra = quantization(request.settings.quantize, self._placement)
        llm = load_model(self.source, **extra)
        self._progress.info(f"training on {llm.placement.reason}")
        if request.report_to:
            keep_events(work.out)
        model, outcome = train(
            llm,
            prepared,
            work,
            save_every=request.save_every,
            report_to=request.report_to,
            progress=self._progress,
        )
        if self._processes.is_main:
            details = {**self._facts(), **outcome.details(), "device": llm.placement.reason}
            card = self._card(outcome)
            finish(work, model, self._builder, card, self._provenance, details)
        return outcome

    def _card(self, outcome: Outcome) -> Card:
        settings, inputs = self._provenance.settings, self._provenance.inputs
        return Card(
            base_model=self.source.name,
            revision=settings["model"]["revision"],
            mode=self.request.mode,
            data=self._facts(),
            settings={n: v for n, v in settings.items() if n not in _OWN_PLACE_IN_CARD},
            best=outcome.best,
            steps=outcome.steps,
            inputs={Path(name).name: value for name, value in inputs.items()},
        )
