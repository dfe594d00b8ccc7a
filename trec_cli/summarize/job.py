"""One call of ``trec summarize``: what is read, what is left to do, and what is written."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trec_cli.core.errors import SettingsChanged, UsageError
from trec_cli.core.jsonl import content_hash, is_stream, read_items
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.records import Summary
from trec_cli.core.shards import find_shard
from trec_cli.core.stored import open_examples
from trec_cli.summarize.asking import Asker, CallCounts
from trec_cli.summarize.engine import Store
from trec_cli.summarize.quality import QualityAudit
from trec_cli.summarize.remote import make_setup
from trec_cli.summarize.run import (
    Written,
    choose,
    line_hashes,
    no_summaries,
    save,
    summarize,
    without_newest,
)
from trec_cli.summarize.settings import SummarizeOptions

if TYPE_CHECKING:
    from trec_cli.models.vectors import VectorMaker
    from trec_cli.summarize.attention import Attender


class SummaryJob:
    """Empty summaries (mode ``none``), and what every mode has in common.

    Attributes:
        options: as given.
        files: where everything is.
        items: the catalogue; empty where no text is needed.
        examples: those chosen, of a shard its own.
        shard: which part of them that is; None for all.
        written: what the output holds, once :meth:`run` has made it.
    """

    def __init__(self, options: SummarizeOptions, progress: Progress) -> None:
        """Read catalogue and examples.

        Raises:
            InputError: a file is missing, or says something wrong.
            UsageError: no example is of the splits asked for.
        """
        self.options, self._progress = options, progress
        self.files = options.files()
        self.files.check()
        catalogue = None if self.files.items is None else read_items(self.files.items)
        everything = open_examples(self.files.examples, catalogue)
        self.items = catalogue or {}
        self.examples = choose(everything, options.split, options.limit)
        self.written = Written()
        if not self.examples:
            splits = ", ".join(options.split)
            raise UsageError(f"{self.files.examples} has no example of split {splits}")
        self.shard = find_shard(options.shard)
        if self.shard:
            self.examples = self.shard.take(self.examples)

    def run(self, *, overwrite: bool = False) -> bool:
        """Make and write the summaries; return False where they are there already.

        Where the settings are the same and the inputs have grown, summaries that are still
        right are made of texts in the store, and ``written`` counts them.

        Raises:
            SettingsChanged: the output was made with other settings, or of examples that are
                not there any more, and not ``overwrite``.
            ModelError, PartialError: texts are missing; those made are in the store.
        """
        provenance = self._provenance()
        with nullcontext() if is_stream(self.files.out) else locked(self.files.out):
            if self._is_done(provenance, overwrite=overwrite):
                return False
            self._write(provenance)
        return True

    def refusal(self, *, overwrite: bool) -> SettingsChanged | None:
        """Return why :meth:`run` would refuse to write; None where it would not."""
        try:
            self._is_done(self._provenance(), overwrite=overwrite)
        except SettingsChanged as change:
            return change
        return None

    def details(self) -> dict[str, Any]:
        """Return what the manifest says beside settings and inputs."""
        return dict(self.written.asdict())

    def spent(self) -> dict[str, Any]:
        """Return what the run has cost, also where it failed."""
        return {}

    def _settings(self) -> dict[str, Any]:
        """Return what decides the summaries, beside inputs, splits and limit."""
        return {"mode": self.options.mode}

    def _write(self, provenance: Provenance) -> None:
        lines = self.written.lines(no_summaries(self.examples))
        save(lines, self.files.out, provenance, self.details)

    def _provenance(self) -> Provenance:
        """Start the manifest; what came through a stream is known by its content."""
        files = self.files
        inputs = [path for path in (files.items, files.examples) if path is not None]
        splits = tuple(dict.fromkeys(self.options.split))
        about = {**self._settings(), "splits": splits, "limit": self.options.limit}
        if self.shard:
            about["shard"] = str(self.shard)
        if is_stream(files.examples):
            about["examples"] = content_hash(self.examples)
        if files.items is not None and is_stream(files.items):
            about["items"] = content_hash(self.items.values())
        return Provenance("summarize", about, inputs)

    def _is_done(self, provenance: Provenance, *, overwrite: bool) -> bool:
        """Return whether all outputs are there, made with these settings of these inputs."""
        outputs = [path for path in (self.files.out, self.files.vectors) if path]
        states = [
            self._state(output, provenance, overwrite=overwrite)
            for output in outputs
            if not is_stream(output)
        ]
        return all(states) and not is_stream(self.files.out)

    def _state(self, output: Path, provenance: Provenance, *, overwrite: bool) -> bool:
        try:
            return up_to_date(output, provenance.settings, overwrite=overwrite)
        except SettingsChanged as change:
            # Vectors without their summaries may belong to those of another run.
            alone = output != self.files.out and not self.files.out.exists()
            if alone or not change.only_inputs:
                raise
            self.written = Written(self._earlier(change))
            return False

    def _earlier(self, change: SettingsChanged) -> Mapping[str, bytes]:
        """Hash the lines of an output whose inputs have changed.

        Raises:
            SettingsChanged: an example that has a summary is gone, which no input loses that
                has only grown.
        """
        out = self.files.out
        earlier = line_hashes(out) if out.exists() else {}
        own = {example.example_id for example in self.examples}
        if self.shard:  # what a shard has no more, another has now
            return {name: line for name, line in earlier.items() if name in own}
        if earlier.keys() - own:
            raise change
        return earlier


class ModelJob(SummaryJob):
    """Summaries that a model writes.

    Attributes:
        setup: how they are made.
        shortened: the examples, their histories without the newest items that are left out.
        writer: writes the prompts, and counts what was cut.
        counts: what the calls came to.
        audit: how good the summaries are.
        vectors: what made item vectors; None in the modes without attention.
    """

    def __init__(self, options: SummarizeOptions, progress: Progress) -> None:
        """Read catalogue and examples, and load the tokenizer; no weights.

        Raises:
            InputError, UsageError: see :class:`SummaryJob`, and options that cannot work.
            ModelError: the model's folder is not usable.
        """
        self.setup = make_setup(options)
        super().__init__(options, progress)
        self.writer = self.setup.writer(self.items)
        self.counts, self.audit = CallCounts(), QualityAudit(self.items)
        self.vectors: VectorMaker | None = None
        self._device = ""
        skipped = self.setup.summary.skip_recent
        self.shortened = without_newest(self.examples, skipped)
        empty = sum(not example.history for example in self.shortened)
        if empty:
            what = f"no history before the {skipped} newest items" if skipped else "no history"
            progress.warn(
                f"{empty} of {len(self.examples)} examples have {what}; their summary is empty"
            )

    def details(self) -> dict[str, Any]:
        """Return counts, quality and costs."""
        made = self.vectors
        embedded = {"texts_embedded": made.made, "vectors_found": made.hits} if made else {}
        return {
            **self.written.asdict(),
            **self.counts.asdict(),
            "cuts": self.writer.cuts.asdict(),
            "quality": self.audit.asdict(),
            "device": self._device,
            "store": str(self.files.store),
            **embedded,
            **self.spent(),
        }

    def spent(self) -> dict[str, Any]:
        """Return what a server was asked and what it cost; nothing before the first text."""
        return self.setup.details() if self._device else {}

    def _settings(self) -> dict[str, Any]:
        return self.setup.describe(self.writer)

    def _write(self, provenance: Provenance) -> None:
        attender, beside = self._attention()
        with Store(self.files.store) as store:
            lines = self.written.lines(self._summaries(store, attender))
            save(lines, self.files.out, provenance, self.details, beside)

    def _attention(self) -> "tuple[Attender | None, dict[Path, bytes]]":
        """Embed the items where the blocks are weighed; return the file of vectors, too."""
        asked = self.examples if self.files.vectors else self.shortened
        made = self.setup.attender(self.items, asked, self.writer, self.files.store, self._progress)
        if made is None:
            return None, {}
        attender, self.vectors = made
        if self.files.vectors is None:
            return attender, {}
        return attender, {self.files.vectors: attender.target.encoded(self.vectors.identity)}

    def _summaries(self, store: Store, attender: "Attender | None") -> Iterator[Summary]:
        """Yield the summaries as they are made, measured on the way."""
        engine, self._device = self.setup.engine(self.writer, self._progress.warn)
        name = engine.identity["name"]
        self._progress.info(f"{name} on {self._device}; texts are kept in {self.files.store}")
        asker = Asker(
            engine,
            store,
            self._progress,
            checker=self.setup.checker(self.writer),
            retries=self.setup.retries,
        )
        self.counts = asker.counts
        made = summarize(self.shortened, self.options.mode, self.writer, asker.ask, name, attender)
        yield from self.audit.watch(made, (example.history for example in self.shortened))


def make_job(options: SummarizeOptions, progress: Progress) -> SummaryJob:
    """Return the job that the options ask for, ready to run.

    Raises:
        InputError, ModelError, UsageError: see :class:`ModelJob`.
    """
    kind = SummaryJob if options.mode == "none" else ModelJob
    return kind(options, progress)
