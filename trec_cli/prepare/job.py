"""One preparation, from its options to the files in RUN: what the command and the API run."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

from trec_cli.core.errors import SettingsChanged, UsageError
from trec_cli.core.jsonl import is_stream, uncollected
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.options import declared
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.core.runs import RunFolder
from trec_cli.prepare.archive import Source
from trec_cli.prepare.build import Auditor, Prepared, build, save
from trec_cli.prepare.collection import ReadOptions
from trec_cli.prepare.detect import detect
from trec_cli.prepare.formats import Found
from trec_cli.prepare.growth import Growth
from trec_cli.prepare.settings import PrepareOptions
from trec_cli.prepare.sources.columns import parse_columns
from trec_cli.prepare.space import DISK_FROM, Engine

_FOR_EVERY_FORMAT = "attributes"


@contextmanager
def opened(
    options: PrepareOptions, given: Collection[str], progress: Progress
) -> Iterator["PrepareJob"]:
    """Open the source and recognise its format; close it at the end of the block.

    Args:
        options: of the preparation.
        given: names of the options that were not left at their default.
        progress: where messages and bars go.

    Raises:
        InputError: nothing that is known lies there.
        UsageError: an option is for another format, or RUN cannot be written to.
    """
    columns = parse_columns(options.read.columns)
    with Source(options.source, items=options.read.items, columns=columns) as files:
        yield PrepareJob(options, files, given, progress)


class PrepareJob:
    """A collection that was found, and what is to be made of it.

    Attributes:
        found: its format and files.
        run: the folder to write into.
        growth: what :meth:`write` kept of earlier output whose source has grown; None where
            there was none.
    """

    def __init__(
        self, options: PrepareOptions, files: Source, given: Collection[str], progress: Progress
    ) -> None:
        """Recognise the format; nothing is read yet.  Errors are those of :func:`opened`."""
        self._files, self._progress = files, progress
        self.found = detect(files, options.format)
        self.run = RunFolder(options.out)
        self.growth: Growth | None = None
        self._engine = options.engine
        if _is_big(self.found, self._engine):
            files.work_on_disk()
        self._refuse_foreign(given)
        self._settings = options.settings(self.found.format.defaults)
        self._check_out()

    def _refuse_foreign(self, given: Collection[str]) -> None:
        """Refuse an option that is for another format."""
        reading = {option.parameter: option.flag for option in declared(ReadOptions)}
        own = {*self.found.format.options, _FOR_EVERY_FORMAT}
        foreign = reading.keys() & set(given) - own
        if foreign:
            named = ", ".join(sorted(reading[name] for name in foreign))
            raise UsageError(f"{named}: not an option of the format {self.found.format.name}")

    def _check_out(self) -> None:
        """Refuse to write where the source lies, or to a stream: there are two files."""
        if is_stream(self.run.path):
            raise UsageError("trec prepare writes two files: name a folder with --out")
        sources = {Path(file).resolve() for file in self.found.inputs}
        for output in (self.run.items, self.run.examples):
            if output.resolve() in sources:
                raise UsageError(
                    f"{output} is a file of the source; name another folder with --out"
                )

    @cached_property
    def prepared(self) -> Prepared:
        """The collection, read and cut into questions that are still to be written out."""
        found, settings = self.found, self._settings
        collection = found.format.read(self._files, found.files, settings.read, self._progress)
        return build(collection, settings, self._progress, self._files.space)

    def write(self, *, overwrite: bool = False, audit: Auditor | None = None) -> bool:
        """Write items and examples, unless they are finished; return whether they were made.

        Args:
            overwrite: replace what was made with other settings.
            audit: what it finds in the files stands in their manifests.

        Raises:
            SettingsChanged: they were made with other settings, and not ``overwrite``.
            UsersGone: they have users whom the source has not any more, and not ``overwrite``.
            InputError: a file of the source is at fault, or nothing is left of it.
        """
        in_memory = not _is_big(self.found, self._engine)
        with locked(self.run.examples), uncollected() if in_memory else nullcontext():
            provenance = self._provenance()
            done, grown = _is_done(self.run, provenance, overwrite=overwrite)
            if not done:
                self.growth = save(self.prepared, self.run, provenance, audit, grown=grown)
            return not done

    def _provenance(self) -> Provenance:
        described = {"format": self.found.format.name, **self._settings.as_dict()}
        own = self._settings.candidates_file
        inputs = [*self.found.inputs, *([own] if own else [])]
        provenance = Provenance("prepare", described, inputs)
        provenance.inputs = self._files.as_named(provenance.inputs)
        return provenance


def _is_big(found: Found, engine: Engine) -> bool:
    """Decide whether to work on disk."""
    if engine != "auto":
        return engine == "disk"
    return sum(file.stat().st_size for file in found.inputs) >= DISK_FROM


def _is_done(run: RunFolder, provenance: Provenance, *, overwrite: bool) -> tuple[bool, bool]:
    """Check for finished output; say as well whether the inputs alone have changed.

    Raises:
        SettingsChanged: it was made with other settings.
    """
    done, grown = True, False
    for output in (run.items, run.examples):
        try:
            done &= up_to_date(output, provenance.settings, overwrite=overwrite)
        except SettingsChanged as changed:
            if not changed.only_inputs:
                raise
            done, grown = False, True
    return done, grown
