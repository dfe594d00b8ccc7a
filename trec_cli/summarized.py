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
        InputError: examples without a summary; the message counts and names them.
    """
    chosen = [e for e in examples if e.split == split][:limit]
    if summaries is None:
        return [SummarizedExample(example, "") for example in chosen]
    missing = [e.example_id for e in chosen if e.example_id not in summaries]
    if missing:
        named = ", ".join(missing[:3])
        raise InputError.of(
            file,
            f"{len(missing)} of {len(chosen)} examples of split {split} have no summary "
            f"({named}{', …' if len(missing) > 3 else ''})",
            "run trec summarize again; it adds what is missing",
        )
    return [SummarizedExample(example, summaries[example.example_id].summary) for example in chosen]


def fingerprint(questions: Sequence[SummarizedExample]) -> str:
    """Hash examples and summaries, where they came through a pipe and no file can be hashed."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(encode({"example": question.example, "summary": question.summary}))
    return digest.hexdigest()
