"""Examples joined with their summaries: what train and score make prompts of."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from trec_cli.attention.target import TargetAttention, level_zero
from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import encode
from trec_cli.core.records import Block, Example, Split, Summary
from trec_cli.prompts.recommend import PromptBuilder, PromptTree


@dataclass(frozen=True)
class SummarizedExample:
    """An example with what stands in its prompts.

    Attributes:
        example: history and candidates.
        summary: the same for all candidates.
        target: where every candidate asks the history itself, what answers it.
        blocks: the block summaries that it chooses from.
    """

    example: Example
    summary: str
    target: TargetAttention | None = None
    blocks: Sequence[Block] = ()

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
) -> list[SummarizedExample]:
    """Return the first ``limit`` examples of a split with their summaries.

    ``summaries`` None stands for mode ``none``: every summary is empty.  With ``target``
    the candidates choose among the block summaries.

    Raises:
        InputError: examples without a summary, summaries of items that are not in the
            history, or items without a vector; the message counts and names them.
    """
    chosen = [e for e in examples if e.split == split][:limit]
    if summaries is None:
        return [SummarizedExample(example, "") for example in chosen]
    counted = f"of {len(chosen)} examples of split {split}"
    missing = [e.example_id for e in chosen if e.example_id not in summaries]
    if missing:
        raise InputError.of(
            file,
            f"{len(missing)} {counted} have no summary ({_named(missing)})",
            "run trec summarize again; it adds what is missing",
        )
    # Examples prepared anew keep their ids, and the old summary may speak of the target.
    beyond = [e.example_id for e in chosen if _end(summaries[e.example_id]) > len(e.history)]
    if beyond:
        raise InputError.of(
            file,
            f"the summaries of {len(beyond)} {counted} speak of more items than the history "
            f"holds ({_named(beyond)}), so they were made of other examples",
            "run trec summarize again with --overwrite",
        )
    if target is None:
        return [SummarizedExample(e, summaries[e.example_id].summary) for e in chosen]
    without = [e.example_id for e in chosen if target.missing(e)]
    if without:
        raise InputError.of(
            file,
            f"{len(without)} {counted} have items without a vector ({_named(without)})",
            "run trec summarize again with --overwrite",
        )
    found = [(e, summaries[e.example_id]) for e in chosen]
    return [SummarizedExample(e, s.summary, target, level_zero(s.blocks)) for e, s in found]


def without_user(question: SummarizedExample) -> SummarizedExample:
    """Leave summary and history out: what is asked then is the same of everybody."""
    example = msgspec.structs.replace(question.example, history=[])
    return SummarizedExample(example, "", question.target)


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")


def _end(summary: Summary) -> int:
    """Return the index behind the last history item that a summary speaks of."""
    return max((block.end for block in summary.blocks), default=0)


def fingerprint(questions: Sequence[SummarizedExample]) -> str:
    """Hash examples and summaries, where they came through a pipe and no file can be hashed."""
    digest = hashlib.sha256()
    for question in questions:
        blocks = {"blocks": list(question.blocks)} if question.blocks else {}
        digest.update(encode({"example": question.example, "summary": question.summary, **blocks}))
    return digest.hexdigest()
