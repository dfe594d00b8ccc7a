"""Packages that one benchmark alone needs, and trec does not."""

from importlib import import_module
from types import ModuleType


def needed(name: str, requirement: str) -> ModuleType:
    """Import a package by its name.

    Args:
        name: of the module.
        requirement: what pip installs it by.

    Raises:
        SystemExit: it is not installed, or itself lacks something; the message says how to get
            it, and the process ends with 1.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise SystemExit(f"{error}; this needs {name}: pip install {requirement!r}") from None
