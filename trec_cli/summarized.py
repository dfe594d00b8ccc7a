"""Examples joined with their summaries: what train and score make prompts of."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trec_cli.errors import InputError
from trec_cli.jsonl import encode
from trec_cli.records import Example, Split, Summary


@dataclass(frozen=True)
class SummarizedExample:
    """An example with the summary that stands in its prompts."""

    example: Example
    summary: str

    @property
    def negatives(self) -> list[str]:
        """Candidates that are not right, by id, so that the file's order changes no draw."""
        return sorted(set(self.example.candidates) - set(self.example.positives))


def with_summaries(
    examples: Sequence[Example],
    summaries: Mapping[str, Summary] | None,
    split: Split,
    *,
    file: object,
    limit: int | None = None,
) -> list[SummarizedExample]:
    """Give the first ``limit`` examples of a split with their summaries.

    ``summaries`` None stands for mode ``none``: every summary is empty.

    Raises:
        InputError: examples without a summary, or summaries of items that are not in the
            history; the message counts and names them.
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
    return [SummarizedExample(example, summaries[example.example_id].summary) for example in chosen]


def _named(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")


def _end(summary: Summary) -> int:
    """Give the place behind the last history item that a summary speaks of."""
    return max((block.end for block in summary.blocks), default=0)


def fingerprint(questions: Sequence[SummarizedExample]) -> str:
    """Hash examples and summaries, where they came through a pipe and no file can be hashed."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(encode({"example": question.example, "summary": question.summary}))
    return digest.hexdigest()
