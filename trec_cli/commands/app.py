"""The Typer app: ``trec`` with its five subcommands."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from trec_cli import __version__
from trec_cli.commands import evaluate, merge, prepare, recommend, score, summarize, train
from trec_cli.commands.console import print_json


class _Stages(TyperGroup):
    """The commands; with ``--json`` a command line that is wrong ends with that line, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the arguments as they were given."""
        ctx.obj = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            explain = getattr(error, "format_message", None)  # what Click's errors have in common
            if explain and "--json" in ctx.obj:
                ending = {"command": ctx.obj[0], "ok": False, "exit_code": 2, "error": explain()}
                print_json(ending)
            raise


app = typer.Typer(
    name="trec",
    cls=_Stages,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Text-rich sequential recommendation with large language models.\n\n"
    "Five stages pass JSONL files between them; each can be inspected or swapped:\n\n"
    "prepare → summarize → train → score → eval",
    epilog="Exit codes: 0 done · 2 wrong usage · 3 bad input · 4 model or endpoint failed · "
    "5 partly done, run again · 130 Ctrl-C · 143 SIGTERM.",
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
app.command("recommend")(recommend.recommend)
app.command("merge")(merge.merge)


def main() -> None:
    """Run the app; stdout and stderr speak UTF-8 whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(encoding="utf-8", errors="backslashreplace")
    app()
