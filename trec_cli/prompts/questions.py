"""Examples joined with their summaries: what train and score make prompts of."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trec_cli.attention.target import TargetAttention, level_zero
from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import encode
from trec_cli.core.manifest import read_manifest
from trec_cli.core.records import Block, Example, Split, Summary
from trec_cli.core.shelves import Slices
from trec_cli.core.stored import of_split
from trec_cli.prompts.recommend import PromptBuilder, PromptTree

_NAMED = 3


@dataclass(frozen=True)
class SummarizedExample:
    """An example with what stands in its prompts.

    Attributes:
        example: history and candidates.
        summary: the same for all candidates.
        target: where every candidate asks the history itself, what answers it.
        blocks: the block summaries that it chooses from.
        told: how many items of the history, from the oldest on, the summary may speak of.
    """

    example: Example
    summary: str
    target: TargetAttention | None = None
    blocks: Sequence[Block] = ()
    told: int = 0

    @property
    def negatives(self) -> list[str]:
        """Candidates that are not right, by id, so that the file's order changes no draw."""
        return sorted(set(self.example.candidates) - set(self.example.positives))

    def tree(self, builder: PromptBuilder, candidates: Sequence[str] | None = None) -> PromptTree:
        """Build the prompts of ``candidates``, or of all of the example."""
        example = self.example
        asked = example.candidates if candidates is None else candidates
        evidence = None
        if self.target is not None:
            evidence = self.target.evidence(example.history, self.blocks, asked)
        return builder.tree(
            example.history, self.summary, asked, example=example.example_id, evidence=evidence
        )


def with_summaries(
    examples: Sequence[Example],
    summaries: Mapping[str, Summary] | None,
    split: Split,
    *,
    file: object,
    limit: int | None = None,
    target: TargetAttention | None = None,
) -> Sequence[SummarizedExample]:
    """Return the first ``limit`` examples of a split with their summaries, joined when asked for.

    ``summaries`` None stands for mode ``none``: every summary is empty.  With ``target``
    the candidates choose among the block summaries.

    Raises:
        InputError: examples without a summary, summaries of items that are not in the
            history, or items without a vector; the message counts and names them.
    """
    chosen = of_split(examples, split, limit)
    if summaries is not None:
        _check(chosen, summaries, split, file, target)
    return _Joined(chosen, summaries, target)


class _Joined(Slices[SummarizedExample]):
    """Examples with their summaries."""

    def __init__(
        self,
        examples: Sequence[Example],
        summaries: Mapping[str, Summary] | None,
        target: TargetAttention | None,
    ) -> None:
        self._examples, self._summaries, self._target = examples, summaries, target

    def __len__(self) -> int:
        return len(self._examples)

    def at(self, index: int) -> SummarizedExample:
        example = self._examples[index]
        if self._summaries is None:
            return SummarizedExample(example, "")
        summary = self._summaries[example.example_id]
        told = _told(summary, example)
        if self._target is None:
            return SummarizedExample(example, summary.summary, told=told)
        blocks = level_zero(summary.blocks)
        return SummarizedExample(example, summary.summary, self._target, blocks, told)


def _told(summary: Summary, example: Example) -> int:
    """Return how many items a summary may speak of: up to its last block, or all without blocks."""
    if not summary.summary:
        return 0
    return max((block.end for block in summary.blocks), default=len(example.history))


def _check(
    chosen: Sequence[Example],
    summaries: Mapping[str, Summary],
    split: Split,
    file: object,
    target: TargetAttention | None,
) -> None:
    """Check that every example has a summary of its own history, and vectors."""
    counted = f"of {len(chosen)} examples of split {split}"
    missing, beyond, without = _Names(), _Names(), _Names()
    for example in chosen:
        summary = summaries.get(example.example_id)
        if summary is None:
            missing.add(example)
        # Examples prepared anew keep their ids, and the old summary may speak of the target.
        elif any(block.end > len(example.history) for block in summary.blocks):
            beyond.add(example)
        elif target is not None and target.missing(example):
            without.add(example)
    if missing.count:
        raise InputError.of(
            file,
            f"{missing.count} {counted} have no summary ({missing})",
            _fix(file, len(chosen), split),
        )
    if beyond.count:
        raise InputError.of(
            file,
            f"the summaries of {beyond.count} {counted} speak of more items than the history "
            f"holds ({beyond}), so they were made of other examples",
            "run trec summarize again with --overwrite",
        )
    if without.count:
        raise InputError.of(
            file,
            f"{without.count} {counted} have items without a vector ({without})",
            "run trec summarize again with --overwrite",
        )


def _fix(file: object, asked: int, split: Split) -> str:
    """Say how the summaries come by those that are missing, after how they were made."""
    manifest = read_manifest(Path(str(file)))
    if manifest is None:
        return "add theirs to the file, or make all of them with trec summarize --overwrite"
    limit, splits = (manifest.get("settings", {}).get(name) for name in ("limit", "splits"))
    if splits and split not in splits:
        left = " ".join(f"--split {name}" for name in splits)
        return f"made with {left}: {_MAKE_ALL.format('--split')}"
    if limit is not None and asked > limit:
        here = f"give --limit {limit} here, too"
        return f"made with --limit {limit}: {here}, or {_MAKE_ALL.format('--limit')}"
    return "run trec summarize again; it adds what is missing"


_MAKE_ALL = "run the same trec summarize without {} and with --overwrite; it keeps finished texts"


class _Names:
    """Counts examples, and names the first."""

    def __init__(self) -> None:
        self.count, self._first = 0, list[str]()

    def add(self, example: Example) -> None:
        self.count += 1
        if self.count <= _NAMED:
            self._first.append(example.example_id)

    def __str__(self) -> str:
        return ", ".join(self._first) + (", …" if self.count > _NAMED else "")


def without_user(question: SummarizedExample) -> SummarizedExample:
    """Leave summary and history out: what is asked then is the same of everybody."""
    example = msgspec.structs.replace(question.example, history=[])
    return SummarizedExample(example, "", question.target)


def fingerprint(questions: Iterable[SummarizedExample]) -> str:
    """Hash examples and summaries, where they came through a pipe and no file can be hashed."""
    digest = hashlib.sha256()
    for question in questions:
        blocks = {"blocks": list(question.blocks)} if question.blocks else {}
        partly = question.summary and question.told < len(question.example.history)
        told = {"told": question.told} if partly else {}
        said = {"example": question.example, "summary": question.summary}
        digest.update(encode({**said, **blocks, **told}))
    return digest.hexdigest()
