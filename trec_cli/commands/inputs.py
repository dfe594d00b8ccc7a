"""Finding a command's files: named by an option, else by their place in RUN."""

from pathlib import Path

from trec_cli.core.errors import UsageError
from trec_cli.core.runs import RunFolder


def resolve(given: Path | None, run: Path | None, place: str, *arguments: str) -> Path:
    """Give the path of an input or output.

    ``place`` names a property or method of :class:`~trec_cli.core.runs.RunFolder`
    (``items``, ``summaries``), which gets ``arguments``.

    Raises:
        UsageError: neither the option nor RUN was given.
    """
    if given is not None:
        return given
    if run is None:
        raise UsageError(f"give the RUN folder, or name the {place} file with an option")
    found = getattr(RunFolder(run), place)
    path: Path = found(*arguments) if callable(found) else found
    return path
