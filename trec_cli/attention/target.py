"""Target attention (as in DIN): every candidate asks the history itself.

Which blocks a candidate looks at is computed where prompts are made, from the vectors
that ``trec summarize --query candidate`` left beside the summaries.  So it holds for every
item of the examples, also for negatives that training draws in each epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save

from trec_cli.attention.evidence import Evidence, Passage
from trec_cli.attention.weights import attention_weights, block_keys, strongest
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.json_file import decode_json
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import is_unfinished
from trec_cli.core.records import Block, Example, Summary
from trec_cli.models.vectors import ItemVectors

_NOTE = "trec"


@dataclass(frozen=True)
class TargetSettings:
    """How candidates ask.

    Attributes:
        temperature: of the softmax.
        top_k: how many blocks are used at most.
        budget: tokens that they have together.
    """

    temperature: float
    top_k: int
    budget: int


def level_zero(blocks: Sequence[Block]) -> list[Block]:
    """Return the blocks that were made from items."""
    return [block for block in blocks if block.level == 0]


@dataclass(frozen=True)
class TargetAttention:
    """Computes weights and evidence for any candidate with a vector.

    Attributes:
        vectors: of the items in histories and candidates.
        settings: how candidates ask.
        files: where both were read from.
        embedder: what made the vectors; empty where nobody says.
    """

    vectors: ItemVectors
    settings: TargetSettings
    files: Sequence[Path] = ()
    embedder: Mapping[str, Any] = field(default_factory=dict)

    def recorded(self) -> dict[str, Any]:
        """Return what an adapter should remember of the evidence that it has learnt from."""
        return {**asdict(self.settings), "embedder": dict(self.embedder)}

    def weights(
        self, history: Sequence[str], blocks: Sequence[Block], candidates: Sequence[str]
    ) -> NDArray[np.float64]:
        """Weigh the blocks of a history for each candidate: [candidates, blocks].

        A block without a summary has nothing to say and gets 0.

        Raises:
            KeyError: an item has no vector.
        """
        spans = [(block.start, block.end) for block in blocks]
        keys = block_keys(self.vectors.of(history), spans)
        seen = [bool(block.summary) for block in blocks]
        rows = [
            attention_weights(query, keys, self.settings.temperature, seen)
            for query in self.vectors.of(candidates)
        ]
        return np.array(rows).reshape(len(candidates), len(blocks))

    def evidence(
        self, history: Sequence[str], blocks: Sequence[Block], candidates: Sequence[str]
    ) -> list[Evidence]:
        """Return what each candidate's branch carries: the strongest blocks, in time order."""
        return [
            Evidence(
                [
                    Passage(blocks[index].summary, float(row[index]))
                    for index in sorted(strongest(row, self.settings.top_k))
                    if blocks[index].summary
                ],
                self.settings.budget,
            )
            for row in self.weights(history, blocks, candidates)
        ]

    def missing(self, example: Example) -> list[str]:
        """List the items of an example that have no vector."""
        named = (*example.history, *example.candidates)
        return [item for item in named if item not in self.vectors.rows]

    def encoded(self, embedder: Mapping[str, Any]) -> bytes:
        """Write vectors and settings as one safetensors file; the same content, the same bytes.

        Args:
            embedder: what made the vectors, for people.
        """
        ids = np.frombuffer(msgspec.json.encode(list(self.vectors.rows)), np.uint8)
        note = {**asdict(self.settings), "embedder": dict(embedder)}
        body = msgspec.json.encode(note, order="sorted").decode()
        content: bytes = save({"ids": ids, "vectors": self.vectors.matrix}, {_NOTE: body})
        return content


def vectors_path(summaries: Path) -> Path | None:
    """Name the file of vectors that belongs to a summaries file; None for a stream."""
    if is_stream(summaries):
        return None
    return summaries.with_name(f"{summaries.name.removesuffix('.jsonl')}.vectors.safetensors")


def read_vectors(path: Path) -> TargetAttention:
    """Read what :meth:`TargetAttention.encoded` wrote.

    Raises:
        InputError: the file is missing, damaged, or something else.
    """
    fix = "run trec summarize --mode attention --query candidate again, with --overwrite"
    if not path.is_file():
        raise InputError.of(path, "no such file", fix)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            note = decode_json(file.metadata()[_NOTE], dict[str, Any])
            ids = decode_json(file.get_tensor("ids").tobytes(), list[str])
            matrix = file.get_tensor("vectors")
        settings = msgspec.convert(note, TargetSettings)
        embedder = msgspec.convert(note.get("embedder", {}), dict[str, Any])
    except (safetensors.SafetensorError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise InputError.of(path, f"holds no vectors of trec ({error})", fix) from None
    if matrix.ndim != 2 or len(matrix) != len(ids):
        raise InputError.of(path, f"holds {len(ids)} ids and vectors of shape {matrix.shape}", fix)
    rows = {name: row for row, name in enumerate(ids)}
    return TargetAttention(ItemVectors(rows, matrix), settings, [path], embedder)


def find_target(
    summaries: Mapping[str, Summary] | None, file: Path | None, vectors: Path | None
) -> TargetAttention | None:
    """Read the vectors if the summaries were made for candidates to ask; else None.

    Args:
        summaries: as read.
        file: they were read from.
        vectors: as named by the user; None where nobody did.

    Raises:
        InputError: some summaries are of another query, or the vectors cannot be read.
        UsageError: nobody says where the vectors are.
    """
    queries = {s.attention.query if s.attention else "none" for s in (summaries or {}).values()}
    if "candidate" not in queries or file is None:
        return None
    if len(queries) > 1:
        raise InputError.of(
            file, "mixes summaries of several queries", "make all of them again with one query"
        )
    path = vectors or vectors_path(file)
    if path is None:
        raise UsageError("summaries of --query candidate through a pipe need --vectors FILE")
    # The two are written one after another, and only together do they mean anything.
    if is_unfinished(path) or (not is_stream(file) and is_unfinished(file)):
        fix = "run the same trec summarize again; it ends at once where all texts are there"
        raise InputError.of(path, "is not finished: a run was stopped while it wrote it", fix)
    return read_vectors(path)
