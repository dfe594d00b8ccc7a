"""The files of a stage: found in RUN by name, or named one by one."""

from pathlib import Path
from typing import Annotated

from trec_cli.core.errors import UsageError
from trec_cli.core.options import Option
from trec_cli.core.runs import RunFolder

PANEL = "Files (each overrides the one found in RUN)"
BEHAVIOUR = "Output and behaviour"

Run = Annotated[
    Path | None,
    Option("Run folder: inputs are found and outputs written there by name.", argument=True),
]
Items = Annotated[Path | None, Option("items.jsonl", panel=PANEL)]
Examples = Annotated[Path | None, Option("examples.jsonl; - is stdin.", panel=PANEL)]
Summaries = Annotated[Path | None, Option("summaries-MODE.jsonl; - is stdin.", panel=PANEL)]
Out = Annotated[
    Path | None, Option("Where to write; - is stdout.", panel=PANEL, names=("--out", "-o"))
]
Store = Annotated[
    Path | None,
    Option(
        "Store of all texts and vectors made (SQLite); several runs may share one.", panel=PANEL
    ),
]
Vectors = Annotated[
    Path | None,
    Option(
        "Item vectors of --mode attention --query candidate; beside the summaries by default.",
        panel=PANEL,
    ),
]
Mode = Annotated[str, Option("Which summaries: hier, recurrent, attention, none.", panel=PANEL)]
Seed = Annotated[int, Option("Every random draw comes from it.", panel=BEHAVIOUR)]
Limit = Annotated[
    int | None, Option("Use the first N examples per split.", panel=BEHAVIOUR, minimum=1)
]


def resolve(given: Path | None, run: Path | None, name: str, *arguments: str) -> Path:
    """Return the path of an input or output.

    ``name`` is a property or method of :class:`~trec_cli.core.runs.RunFolder`
    (``items``, ``summaries``), which gets ``arguments``.

    Raises:
        UsageError: neither the option nor RUN was given.
    """
    if given is not None:
        return given
    if run is None:
        raise UsageError(f"give the RUN folder, or name the {name} file with an option")
    found = getattr(RunFolder(run), name)
    path: Path = found(*arguments) if callable(found) else found
    return path
