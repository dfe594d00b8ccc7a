"""The Typer app: ``trec`` with its five subcommands."""

import sys
from typing import Annotated

import typer

from trec_cli import __version__
from trec_cli.commands import evaluate, prepare, score, summarize, train

app = typer.Typer(
    name="trec",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Text-rich sequential recommendation with large language models.\n\n"
    "Five stages pass JSONL files between them; each can be inspected or swapped:\n\n"
    "prepare → summarize → train → score → eval",
    epilog="Exit codes: 0 done · 2 wrong usage · 3 bad input · 4 model or endpoint failed · "
    "5 partly done, run again.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trec {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print version."),
    ] = False,
) -> None:
    """Hold the options of ``trec`` itself."""


app.command("prepare")(prepare.prepare)
app.command("summarize")(summarize.summarize)
app.command("train")(train.train)
app.command("score")(score.score)
app.command("eval")(evaluate.evaluate)


def main() -> None:
    """Run the app; stdout and stderr speak UTF-8 whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8", errors="backslashreplace")
    app()
