"""Export in the formats of TREC's evaluation tools (trec_eval, ir_measures, ranx).

`NAME.run` has one line per candidate, ``example Q0 item rank score system``, and
`qrels.txt` one per judged candidate, ``example 0 item relevance``.  Those tools break ties
by item id where trec counts expected values, so they agree only where nothing ties.
"""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from trec_cli.core.manifest import read_manifest
from trec_cli.core.outputs import write_bytes
from trec_cli.core.records import Split
from trec_cli.evaluate.scores import ScoresFile, ScoresLine, read_scores

QRELS = "qrels.txt"


def run_paths(folder: Path, names: list[str]) -> list[Path]:
    """Name the files of an export: one run per system, then the judgements."""
    return [*(folder / f"{quote(name, safe=' ')}.run" for name in names), folder / QRELS]


def export(folder: Path, files: list[ScoresFile], split: Split) -> list[Path]:
    """Write the runs of systems that were read and aligned without fault.

    Fields are parted by blanks in these formats, so white space and ``%`` in ids and
    names are written as in a URL (``%20``).
    """
    *runs, qrels = run_paths(folder, [file.name for file in files])
    for path, file in zip(runs, files, strict=True):
        tag = _token(file.name)
        write_bytes(path, (_run(record, tag) for record in _records(file, split)))
    write_bytes(qrels, (_judgements(record) for record in _records(files[0], split)))
    return [*runs, qrels]


def left_over(folder: Path, names: list[str]) -> list[Path]:
    """Name runs of an earlier evaluation, whose judgements may have been others."""
    ours = set(run_paths(folder, names))
    return [path for path in sorted(folder.glob("*.run")) if path not in ours and _made(path)]


def _made(path: Path) -> bool:
    """Tell whether ``trec eval`` has written a file."""
    return (read_manifest(path) or {}).get("command") == "eval"


def _records(file: ScoresFile, split: Split) -> Iterator[ScoresLine]:
    return (record for _, record in read_scores(file.path) if record.split == split)


def _token(text: str) -> str:
    return "".join(quote(c) if c.isspace() or c == "%" else c for c in text)


def _run(record: ScoresLine, tag: str) -> bytes:
    pairs = zip(record.candidates, record.scores, strict=True)
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    example = _token(record.example)
    lines = (
        f"{example} Q0 {_token(item)} {place} {score!r} {tag}\n"
        for place, (item, score) in enumerate(ranked, start=1)
    )
    return "".join(lines).encode()


def _judgements(record: ScoresLine) -> bytes:
    right, example = set(record.positives), _token(record.example)
    lines = (f"{example} 0 {_token(i)} {int(i in right)}\n" for i in record.candidates)
    return "".join(lines).encode()
