"""Measure summaries: are they true, and does the summary alone find the next item?

    python benchmarks/summary_quality.py RUN --model models/SmolLM2-135M-Instruct
    python benchmarks/summary_quality.py RUN --summaries before=old.jsonl hier=new.jsonl

Every file of summaries is measured on the same users of one split.  Usefulness: the
candidates of each user are ranked with nothing but the summary as query, by BM25 and (with
``--embedder MODEL``) by the cosine of sentence embeddings, beside
texts of the same number of tokens (each user's summary sets it): the titles, newest first
or oldest first, and the deterministic extractive summary.  Intervals are 95 % bootstrap over users.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trec_cli.core.database import IN_MEMORY
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.records import FLAGS, Example, Item, Summary
from trec_cli.core.text import terms
from trec_cli.evaluate.metrics import Floats, evaluate
from trec_cli.evaluate.statistics import UserSums, bootstrap, interval
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.source import ModelSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import VectorMaker, embedding_text
from trec_cli.signals import similarity
from trec_cli.summarize.extract import extract
from trec_cli.summarize.prompts import SourceTexts
from trec_cli.summarize.quality import QualityAudit

METRICS = ("recall@5", "mrr@10", "auc")
RESAMPLES = 10_000
Score = Callable[["Data", Sequence[str]], list[list[float]]]
"""Scores the candidates of every example against its query."""


@dataclass(frozen=True)
class Data:
    """Items and the examples of one split that have a history."""

    items: Mapping[str, Item]
    examples: Sequence[Example]

    def history(self, example: Example) -> list[Item]:
        """Return the items of a history, oldest first."""
        return [self.items[item] for item in example.history]


class Tokens:
    """Counts and cuts by the tokens of a model."""

    def __init__(self, model: str) -> None:
        """Load the tokenizer of a model, by name or folder."""
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(model)

    def count(self, text: str) -> int:
        """Count tokens."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def cut(self, text: str, most: int) -> str:
        """Return the first ``most`` tokens of a text."""
        ids = self._tokenizer.encode(text, add_special_tokens=False)[:most]
        return str(self._tokenizer.decode(ids)).rstrip("\ufffd")


def bm25_scores(data: Data, queries: Sequence[str]) -> list[list[float]]:
    """Score the candidates of every example against its query; the catalogue weighs terms."""
    rows = {item: row for row, item in enumerate(data.items)}
    texts = [" ".join(item.attributes.values()) for item in data.items.values()]
    counts = similarity.count_matrix(map(terms, [*texts, *queries]))
    documents, asked = similarity.bm25(counts[: len(rows)]), counts[len(rows) :]
    scores = []
    for place, example in enumerate(data.examples):
        wanted = documents[[rows[candidate] for candidate in example.candidates]]
        scores.append((wanted @ asked[place].T).toarray().ravel().tolist())
    return scores


@contextmanager
def embedder(name: str) -> Iterator[VectorMaker]:
    """Open an embedder that makes the vector of a text once while the block runs."""
    with VectorStore(IN_MEMORY) as store:
        yield VectorMaker(EmbedderSource(name, ModelSource(name)), store, max_tokens=4096)


def embedding_scores(maker: VectorMaker, data: Data, queries: Sequence[str]) -> list[list[float]]:
    """Score the candidates of every example by the cosine of their texts with its query."""
    asked = dict.fromkeys(c for e in data.examples for c in e.candidates)
    texts = {item: embedding_text(data.items[item]) for item in asked}
    made = maker.vectors([*texts.values(), *queries])
    size = len(next(iter(made.values())))
    vectors = {text: vector / np.linalg.norm(vector) for text, vector in made.items()}
    vectors[""] = np.zeros(size, np.float32)
    return [
        [round(float(vectors[texts[c]] @ vectors[query]), 6) for c in example.candidates]
        for example, query in zip(data.examples, queries, strict=True)
    ]


def usefulness(data: Data, queries: Sequence[str], score: Score = bm25_scores) -> Floats:
    """Return the metrics ``[examples, METRICS]`` of ranking by ``queries``."""
    marks = [[c in e.positives for c in e.candidates] for e in data.examples]
    values = evaluate(score(data, queries), marks, (5, 10))
    return np.stack([values[name] for name in METRICS], axis=1)


def rival_texts(data: Data, texts: Sequence[str], tokens: Tokens) -> dict[str, list[str]]:
    """Return what a summary must beat, at the number of tokens of each summary."""
    budgets = [tokens.count(text) for text in texts]
    pairs = list(zip(map(data.history, data.examples), budgets, strict=True))

    def titles(order: Callable[[list[Item]], Iterable[Item]]) -> list[str]:
        joined = (", ".join(item.title for item in order(items)) for items, _ in pairs)
        return [tokens.cut(t, b) for t, (_, b) in zip(joined, pairs, strict=True)]

    return {
        "titles": titles(reversed),
        "titles from the oldest": titles(iter),
        "extractive": [extract(SourceTexts(tuple(items)), b, tokens.count) for items, b in pairs],
    }


def ranked(
    data: Data, systems: Mapping[str, Sequence[str]], seed: int, score: Score
) -> dict[str, dict[str, list[float]]]:
    """Return mean, low and high of every metric of every text, and of the first less the others."""
    values = np.stack([usefulness(data, texts, score) for texts in systems.values()])
    sums = UserSums.of(values, [example.user_id for example in data.examples])
    draws, means = bootstrap(sums, RESAMPLES, seed), sums.means()
    names = list(systems)
    table = {name: _rows(means[n], draws[:, n]) for n, name in enumerate(names)}
    for n, name in enumerate(names[1:], start=1):
        table[f"{names[0]} - {name}"] = _rows(means[0] - means[n], draws[:, 0] - draws[:, n])
    return table


def _rows(means: Floats, draws: Floats) -> dict[str, list[float]]:
    low, high = interval(draws)
    triples = np.stack([means, low, high], axis=1).round(4).tolist()
    return dict(zip(METRICS, triples, strict=True))


def report(
    data: Data,
    summaries: Mapping[str, Summary],
    tokens: Tokens,
    seed: int,
    scores: Mapping[str, Score],
) -> dict[str, Any]:
    """Measure one file of summaries."""
    chosen = [summaries[example.example_id] for example in data.examples]
    audit = QualityAudit(data.items)
    for summary, example in zip(chosen, data.examples, strict=True):
        audit.add(summary, data.history(example))
    texts = [summary.summary for summary in chosen]
    systems = {"summary": texts, **rival_texts(data, texts, tokens)}
    blocks = [block for summary in chosen for block in summary.blocks]
    return {
        **audit.asdict(),
        "tokens": round(float(np.mean([tokens.count(text) for text in texts])), 1),
        "texts": len(blocks),
        "text_flags": dict(Counter(flag for block in blocks for flag in block.flags)),
        "ranking": {name: ranked(data, systems, seed, score) for name, score in scores.items()},
    }


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def show(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Write Markdown tables: what summaries are like, what all texts are flagged, how they rank."""
    measures = [
        *("faithfulness", "named_faithfulness", "phrases_in_one_item", "coverage"),
        *("repetition", "empty", "words", "tokens"),
    ]
    lines = ["| summaries | " + " | ".join(measures) + " |", "|---" * (len(measures) + 1) + "|"]
    lines += [f"| {name} | {_row(r[m] for m in measures)} |" for name, r in results.items()]
    lines += ["", "| summaries | texts | " + " | ".join(FLAGS) + " |"]
    lines.append("|---" * (len(FLAGS) + 2) + "|")
    for name, result in results.items():
        counts = _row(result["text_flags"].get(flag, 0) for flag in FLAGS)
        lines.append(f"| {name} | {result['texts']} | {counts} |")
    head = ("summaries", "similarity", "ranked by", *METRICS)
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, result in results.items():
        for kind, systems in result["ranking"].items():
            for system, row in systems.items():
                cells = _row(f"{v:.3f} [{low:.3f}, {high:.3f}]" for v, low, high in row.values())
                lines.append(f"| {name} | {kind} | {system} | {cells} |")
    return "\n".join(lines)


def _row(values: Any) -> str:
    return " | ".join(map(_number, values))


def _named(word: str) -> tuple[str, Path]:
    name, _, file = word.partition("=")
    return name, Path(file)


def _found(run: Path) -> dict[str, Path]:
    """Find the summaries of a run folder, by mode; empty ones are left out."""
    files = {file.stem.removeprefix("summaries-"): file for file in run.glob("summaries-*.jsonl")}
    return {mode: files[mode] for mode in sorted(files) if mode != "none"}


def load(
    run: Path, files: Mapping[str, Path], splits: Sequence[str]
) -> tuple[Data, dict[str, Mapping[str, Summary]]]:
    """Read a run and its summaries; only examples that all files speak of are used."""
    items = read_items(run / "items.jsonl")
    read: dict[str, Mapping[str, Summary]] = {n: read_summaries(f) for n, f in files.items()}
    examples = [
        example
        for example in read_examples(run / "examples.jsonl", items)
        if example.split in splits
        and example.history
        and all(example.example_id in summaries for summaries in read.values())
    ]
    return Data(items, examples), read


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the figures as JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--summaries", nargs="+", metavar="NAME=FILE", type=_named)
    parser.add_argument("--model", default="models/SmolLM2-135M-Instruct", help="its tokens count")
    parser.add_argument("--embedder", help="also rank by a sentence-embedding model")
    parser.add_argument("--split", nargs="+", default=["test"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args(arguments)
    files = dict(options.summaries) if options.summaries else _found(options.run)
    data, read = load(options.run, files, options.split)
    tokens = Tokens(options.model)
    scores: dict[str, Score] = {"bm25": bm25_scores}
    with ExitStack() as stack:
        if options.embedder:
            maker = stack.enter_context(embedder(options.embedder))
            scores["embedding"] = partial(embedding_scores, maker)
        results = {name: report(data, s, tokens, options.seed, scores) for name, s in read.items()}
    print(f"{len(data.examples)} users of split {', '.join(options.split)}, seed {options.seed}\n")
    print(show(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
