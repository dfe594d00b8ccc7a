"""Change one thing at a time in a module, and see whether its tests notice.

    python scripts/mutants.py trec_cli/core/blocks.py tests/core/test_blocks.py --out mutants.json

A mutant is the module with one operator, comparison, constant, condition or statement changed.
It survives where all tests pass all the same: either the tests lack a case, or the change
makes no difference. Every mutant runs in a fork of this process, which has imported what takes
long; the files on disk are never changed. ``--most N`` takes a seeded sample.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_CPU_SECONDS = 120
"""A mutant that runs longer is taken for one that never ends, which is noticed."""
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Add,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.USub: ast.UAdd,
}
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "True": "False"}


@dataclass(frozen=True)
class Mutant:
    """One change: where it is, what it is, and the changed module."""

    line: int
    what: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    count = sum(1 for _ in ast.walk(tree))
    for number in range(count):
        for change in _changes(list(ast.walk(tree))[number]):
            changed = copy.deepcopy(tree)
            node = list(ast.walk(changed))[number]
            what = change(node)
            ast.fix_missing_locations(changed)
            yield Mutant(getattr(node, "lineno", 0), what, changed)


def _changes(node: ast.AST) -> list[Callable[[Any], str]]:
    """Return what can be changed in a node."""
    if isinstance(node, ast.Compare):
        return [_swap("ops", n) for n, op in enumerate(node.ops) if type(op) in _OPERATORS]
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign | ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            return [_unwrap]
        annotation = isinstance(node.op, ast.BitOr)
        return [_swap("op")] if type(node.op) in _OPERATORS and not annotation else []
    if isinstance(node, ast.Constant):
        return [_constant] if isinstance(node.value, int | float) else []
    if isinstance(node, ast.Name):
        return [_rename] if node.id in _NAMES else []
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        return [_negate]
    if isinstance(node, ast.comprehension):
        return [_drop_filter] if node.ifs else []
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return [_drop_call]
    return []


def _swap(field: str, place: int | None = None) -> Callable[[Any], str]:
    def change(node: Any) -> str:
        old = getattr(node, field) if place is None else getattr(node, field)[place]
        new = _OPERATORS[type(old)]()
        if place is None:
            setattr(node, field, new)
        else:
            getattr(node, field)[place] = new
        return f"{type(old).__name__} -> {type(new).__name__}"

    return change


def _unwrap(node: ast.UnaryOp) -> str:
    node.op, node.operand = ast.Not(), ast.UnaryOp(ast.Not(), node.operand)
    return "not dropped"


def _constant(node: ast.Constant) -> str:
    old: Any = node.value
    node.value = (not old) if isinstance(old, bool) else old + 1
    return f"{old!r} -> {node.value!r}"


def _rename(node: ast.Name) -> str:
    old = node.id
    node.id = _NAMES[old]
    return f"{old} -> {node.id}"


def _negate(node: Any) -> str:
    node.test = ast.UnaryOp(ast.Not(), node.test)
    return "condition negated"


def _drop_filter(node: ast.comprehension) -> str:
    node.ifs = []
    return "filter dropped"


def _drop_call(node: ast.Expr) -> str:
    node.value = ast.Constant(None)
    return "call dropped"


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives the mutant in the module's place."""

    def __init__(self, name: str, file: Path, tree: ast.Module) -> None:
        self._name, self._file, self._tree = name, file, tree

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        if name != self._name:
            return None
        return importlib.util.spec_from_file_location(name, self._file, loader=self)

    def create_module(self, spec: Any) -> None:  # noqa: ARG002
        return None

    def exec_module(self, module: Any) -> None:
        exec(compile(self._tree, str(self._file), "exec"), module.__dict__)


def survives(mutant: Mutant, file: Path, tests: Sequence[str]) -> bool:
    """Run the tests on a mutant in a fork; return whether all of them pass."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        sys.meta_path.insert(0, _Finder(name, file, mutant.tree))
        import pytest

        # Plain assertions: what has been imported already could not be rewritten.
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "--assert", "plain"]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)


def main() -> int:
    """Print every survivor and the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("module", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--most", type=int, help="a seeded sample of so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON with the survivors")
    asked = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(threads, "1")  # threads and forks do not go together
    os.chdir(ROOT)
    file = asked.module.resolve()
    source = file.read_text(encoding="utf-8")
    unchanged = Mutant(0, "unchanged", ast.parse(source))
    _import_slow_things()
    if not survives(unchanged, file, asked.tests):
        print("the tests fail without any change")
        return 1
    found = list(mutants(source))
    chosen = found
    if asked.most is not None and asked.most < len(found):
        chosen = random.Random(asked.seed).sample(found, asked.most)
        chosen.sort(key=lambda mutant: mutant.line)
    lines, left = source.splitlines(), []
    for mutant in chosen:
        if survives(mutant, file, asked.tests):
            left.append({"line": mutant.line, "what": mutant.what})
            print(f"{mutant.line}: {mutant.what}: {lines[mutant.line - 1].strip()}", flush=True)
    print(f"{asked.module}: {len(left)} of {len(chosen)} survive (of {len(found)} possible)")
    if asked.out:
        report = {"module": str(asked.module), "mutants": len(chosen), "survivors": left}
        asked.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _import_slow_things() -> None:
    import hypothesis  # noqa: F401
    import numpy  # noqa: F401
    import peft  # noqa: F401
    import pytest  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch  # noqa: F401
    import transformers
    import transformers.models.llama.modeling_llama  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
