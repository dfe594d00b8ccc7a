"""MIND's leaderboard: the file of predictions that it takes.

One line an impression, in the order of ``behaviors.tsv``: its id, and for each article in
the order in which it was shown its rank, ``1 [2,1,3]``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trec_cli.core.errors import InputError
from trec_cli.core.outputs import write_bytes
from trec_cli.core.seeds import derive_seed
from trec_cli.evaluate.scores import read_scores
from trec_cli.prepare.archive import Source
from trec_cli.prepare.sources.mind import shown_articles

_LAST = float("-inf")


def write_predictions(behaviors: Path, scores: Path, out: Path, seed: int = 0) -> tuple[int, int]:
    """Write the ranks of all impressions; return how many there are, and how many without scores.

    An article without a score comes behind all others; a hash of (seed, impression, article)
    decides between equal scores, so an impression without scores gets a random order.

    Args:
        behaviors: ``behaviors.tsv``, or a folder or .zip with it, as given to ``trec prepare``.
        scores: scores of ``trec prepare … --target impression``, split predict.
        out: the file; the leaderboard calls it ``prediction.txt``.
        seed: of the order of equal scores.

    Raises:
        InputError: a file is damaged, or no impression has scores.
    """
    known = {
        line.example: dict(zip(line.candidates, line.scores, strict=True))
        for _, line in read_scores(scores)
    }
    with Source(behaviors) as source:
        asked = list(shown_articles(source))
    unknown = sum(example not in known for example, _, _ in asked)
    if unknown == len(asked):
        raise InputError.of(
            scores,
            f"has no scores of the impressions of {behaviors}",
            "prepare them with --target impression, and score --split predict",
        )
    write_bytes(out, _lines(asked, known, seed))
    return len(asked), unknown


def _lines(
    asked: Iterable[tuple[str, str, Sequence[str]]],
    known: Mapping[str, Mapping[str, float]],
    seed: int,
) -> Iterator[bytes]:
    for example, impression, shown in asked:
        listed = ",".join(map(str, ranks(impression, shown, known.get(example, {}), seed)))
        yield f"{impression} [{listed}]\n".encode()


def ranks(
    impression: str, shown: Sequence[str], scores: Mapping[str, float], seed: int = 0
) -> list[int]:
    """Return the rank of every shown article, from 1 for the highest score."""
    order = sorted(
        range(len(shown)),
        key=lambda i: (
            -scores.get(shown[i], _LAST),
            derive_seed(seed, impression, "tie", shown[i]),
            i,
        ),
    )
    rank_of = {index: rank for rank, index in enumerate(order, 1)}
    return [rank_of[index] for index in range(len(shown))]
