"""trec: text-rich sequential recommendation with large language models.

The library behind the ``trec`` command.  Nothing here imports Typer; the
command files in :mod:`trec_cli.commands` parse, load, call the library, save.
"""

__version__ = "0.1.0"
