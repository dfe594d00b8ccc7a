"""The five commands, one thin file each: parse, load, call the library, save.

Only this package imports Typer.  Heavy imports (torch, transformers, polars) stand
inside the command functions, so that ``trec --help`` answers at once.
"""
