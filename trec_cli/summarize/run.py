"""Summaries of all examples, in waves of users, and the estimate of what that would cost."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import SpooledTemporaryFile
from types import MappingProxyType
from typing import Any

import msgspec

from trec_cli.core.errors import OutputFailed
from trec_cli.core.json_file import UNREADABLE
from trec_cli.core.jsonl import encode, is_stream, open_input
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import write_bytes, write_lines
from trec_cli.core.records import Example, Mode, Summary
from trec_cli.core.shelves import Chosen, Slices
from trec_cli.core.stored import splits_of
from trec_cli.summarize.engine import Keys
from trec_cli.summarize.modes import (
    Result,
    Summarizer,
    summarize_blocks,
    summarize_hierarchical,
    summarize_recurrent,
)
from trec_cli.summarize.prompts import Answer, Ask, Prompt, PromptWriter

SUMMARIZERS: Mapping[str, Summarizer] = MappingProxyType(
    {
        "hier": summarize_hierarchical,
        "recurrent": summarize_recurrent,
        "attention": summarize_blocks,
    }
)
Attend = Callable[[Example, Result], Result]
WAVE = 2048
"""Examples worked on together: enough for full batches, few enough to fit in memory."""
WAVE_ITEMS = 1 << 16
"""History items of these together: with long histories fewer examples make a wave."""
_SPOOL_BYTES = 1 << 25


def summarize(
    examples: Iterable[Example],
    mode: Mode,
    writer: PromptWriter,
    ask: Ask,
    model: str,
    attend: Attend | None = None,
) -> Iterator[Summary]:
    """Summarise examples in their order, wave by wave (see :func:`waves`).

    Memory depends on the wave, not on the number of examples or the length of histories.
    ``attend`` makes the summary of mode ``attention`` from the blocks.
    """
    for wave in waves(examples):
        histories = [example.history for example in wave]
        starts = [example.start for example in wave]
        results = SUMMARIZERS[mode](histories, writer, ask, starts)
        for example, result in zip(wave, results, strict=True):
            done = attend(example, result) if attend else result
            yield _record(example, mode, done, model)


def without_newest(examples: Sequence[Example], newest: int) -> Sequence[Example]:
    """Return the examples, their histories without the ``newest`` items."""
    return _Shortened(examples, newest) if newest else examples


class _Shortened(Slices[Example]):
    """Examples whose histories end some items earlier."""

    def __init__(self, examples: Sequence[Example], newest: int) -> None:
        self._examples, self._newest = examples, newest

    def __len__(self) -> int:
        return len(self._examples)

    def at(self, index: int) -> Example:
        example = self._examples[index]
        return msgspec.structs.replace(example, history=example.history[: -self._newest])


def waves(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Cut examples, in order, into waves: :data:`WAVE` at most, with :data:`WAVE_ITEMS`.

    A history that is longer than that makes a wave of its own.
    """
    wave: list[Example] = []
    items = 0
    for example in examples:
        length = len(example.history)
        if wave and (len(wave) == WAVE or items + length > WAVE_ITEMS):
            yield wave
            wave, items = [], 0
        wave.append(example)
        items += length
    if wave:
        yield wave


def no_summaries(examples: Iterable[Example]) -> Iterator[Summary]:
    """Return an empty summary for every example: the recommender without long-term interest."""
    for example in examples:
        yield _record(example, "none", Result("", []), "none")


def _record(example: Example, mode: Mode, result: Result, model: str) -> Summary:
    return Summary(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        mode=mode,
        summary=result.summary,
        blocks=result.blocks,
        model=model,
        attention=result.attention,
    )


@dataclass
class Round:
    """Calls of one kind (blocks, merge 1, step 2, …) and the tokens they read."""

    calls: int = 0
    prompt_tokens: int = 0


@dataclass
class CostEstimate:
    """What a run would cost at most: nothing in the store, every summary as long as allowed.

    Attributes:
        rounds: by what is asked, in order.
        shared: requests answered together with an equal one.
    """

    rounds: dict[str, Round] = field(default_factory=dict)
    shared: int = 0

    @property
    def calls(self) -> int:
        """Calls of all rounds."""
        return sum(each.calls for each in self.rounds.values())

    @property
    def prompt_tokens(self) -> int:
        """Tokens to read in all rounds."""
        return sum(each.prompt_tokens for each in self.rounds.values())


def estimate(examples: Iterable[Example], mode: Mode, writer: PromptWriter) -> CostEstimate:
    """Walk through a run without a model: placeholders stand for the summaries."""
    result, keys, seen = CostEstimate(), Keys({}), set[bytes]()

    def ask(prompts: Sequence[Prompt], what: str) -> list[Answer]:
        answers = []
        for prompt in prompts:
            key = keys.key(prompt.ids)
            if key in seen:
                result.shared += 1
            else:
                each = result.rounds.setdefault(what, Round())
                each.calls += 1
                each.prompt_tokens += len(prompt.ids)
            seen.add(key)
            # The key makes different prompts have different answers, as they would.
            answers.append(Answer(key.hex() + " x" * writer.settings.summary_tokens))
        return answers

    for _ in summarize(examples, mode, writer, ask, ""):
        pass
    return result


@dataclass
class Written:
    """What an output holds, counted while its lines are made.

    Attributes:
        earlier: of the output that this one replaces because its inputs have grown, a hash
            of each line by its example; empty where there is none.
        examples: lines.
        empty_histories: examples without an item to summarise; their summary is empty without a
            call.
        empty_summaries: examples with a history whose summary is empty all the same.
        kept, remade: lines of earlier examples that are the same as before, and others.
    """

    earlier: Mapping[str, bytes] = field(default_factory=dict)
    examples: int = 0
    empty_histories: int = 0
    empty_summaries: int = 0
    kept: int = 0
    remade: int = 0

    def lines(self, summaries: Iterable[Summary]) -> Iterator[bytes]:
        """Encode summaries, and count them."""
        for summary in summaries:
            self.examples += 1
            self.empty_histories += not summary.blocks
            self.empty_summaries += bool(summary.blocks) and not summary.summary
            line = encode(summary)
            if summary.example_id in self.earlier:
                same = self.earlier[summary.example_id] == _line_hash(line)
                self.kept += same
                self.remade += not same
            yield line

    @property
    def added(self) -> int:
        """Examples that the earlier output did not have."""
        return self.examples - self.kept - self.remade

    def asdict(self) -> dict[str, int]:
        """Return the counts by name; those against an earlier output where there was one."""
        names = ["examples", "empty_histories", "empty_summaries"]
        names += ["kept", "remade", "added"] if self.earlier else []
        return {name: getattr(self, name) for name in names}


class _Line(msgspec.Struct):
    """The part of a summary by which an earlier output is compared."""

    example_id: str


def line_hashes(summaries: Path) -> dict[str, bytes]:
    """Hash every line of an earlier output, by its example; damaged lines are left out."""
    decode = msgspec.json.Decoder(_Line).decode
    found: dict[str, bytes] = {}
    with open_input(summaries) as stream:
        for line in stream:
            with suppress(*UNREADABLE):
                found[decode(line).example_id] = _line_hash(line)
    return found


def _line_hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def save(
    lines: Iterable[bytes],
    out: Path,
    provenance: Provenance,
    details: Callable[[], Mapping[str, Any]] = dict,
    beside: Mapping[Path, bytes] = MappingProxyType({}),
) -> None:
    """Write lines to a file or stdout when the last one is made, whole or not at all.

    Until then they wait in memory or in an unnamed file, which nothing leaves behind.

    Args:
        lines: made while they are read.
        out: the file (gets a manifest) or ``-``.
        provenance: of this run.
        details: returns what else the manifest says, once all lines are made.
        beside: further files by name, written with the output.

    Raises:
        OutputFailed: no space, or the folder cannot be written.
    """
    folder = None if is_stream(out) else str(out.parent)
    with SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=folder) as spool:
        for line in lines:
            try:
                spool.write(line)
            except OSError as error:
                raise OutputFailed(out, error) from None
        spool.seek(0)
        if is_stream(out):
            write_lines(out, spool)
            _write_beside(beside)
            return
        with provenance.publish(out, *beside) as told:
            told.update(details())
            _write_beside(beside)
            write_lines(out, spool)


def _write_beside(files: Mapping[Path, bytes]) -> None:
    for file, content in files.items():
        write_bytes(file, [content])


def choose(
    examples: Sequence[Example], splits: Collection[str] = (), limit: int | None = None
) -> Sequence[Example]:
    """Keep the examples of some splits (all if none is named), the first ``limit`` of each."""
    return Chosen(examples, _places(splits_of(examples), splits, limit))


def _places(found: Iterable[str], splits: Collection[str], limit: int | None) -> Iterator[int]:
    """Yield the places of the examples to keep, given the split of each."""
    taken: Counter[str] = Counter()
    for place, split in enumerate(found):
        if splits and split not in splits:
            continue
        taken[split] += 1
        if limit is None or taken[split] <= limit:
            yield place
