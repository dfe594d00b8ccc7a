"""The house keeps its shape: no package circle, no Typer in the library, no torch in help."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tests.conftest import ROOT

PACKAGE = ROOT / "trec_cli"


def _imports(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, inside functions and type checks too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def _graph() -> dict[str, set[str]]:
    """Map each package of trec to the packages that it imports."""
    graph: dict[str, set[str]] = defaultdict(set)
    for file in PACKAGE.rglob("*.py"):
        parts = file.relative_to(PACKAGE).parts
        if len(parts) == 1:
            continue
        for name in _imports(file):
            top, _, rest = name.partition(".")
            target = rest.split(".")[0]
            if top == "trec_cli" and target and target != parts[0]:
                graph[parts[0]].add(target)
    return graph


def test_no_package_imports_itself_through_others() -> None:
    order = list(TopologicalSorter(_graph()).static_order())  # raises CycleError on a circle
    assert order.index("core") < order.index("models") < order.index("prompts")


def test_the_ground_floor_imports_nothing_above_it() -> None:
    assert _graph()["core"] == set()


def test_only_the_commands_know_typer() -> None:
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] not in ("commands", "__main__.py"):
            assert not [name for name in _imports(file) if name.split(".")[0] == "typer"], file
