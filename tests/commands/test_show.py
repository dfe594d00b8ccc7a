"""``trec summarize --show``: tree, chain and weights of one user, as plain text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from trec_cli.commands.app import app
from trec_cli.commands.show import picture
from trec_cli.core.jsonl import encode_all
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Attention, Block, Example, Item, Key, Mode, Summary

TITLES = ["tea", "[bold]pot[/] 鮨", "jazz\x1b[31m", "", "a\nb", "lamp"]
ITEMS = [Item(f"i{n}", {"title": title, "kind": "k"}) for n, title in enumerate(TITLES)]


def block(start: int, end: int, text: str, level: int = 0) -> Block:
    return Block(level=level, start=start, end=end, summary=text)


BLOCKS: dict[Mode, list[Block]] = {
    "hier": [block(0, 2, "first"), block(2, 4, ""), block(4, 5, "last"), block(0, 5, "all", 1)],
    "recurrent": [block(0, 2, "step one"), block(0, 4, "step two", 1), block(0, 5, "end", 2)],
    "attention": [block(0, 2, "first"), block(2, 4, "second"), block(4, 5, "last")],
    "none": [],
}
ATTENTION = Attention(
    query="candidate",
    keys=[Key(start=0, end=2), Key(start=2, end=4), Key(start=4, end=5)],
    weights=[0.75, 0.25, 0.0],
    candidates=[[(1, 0.9), (0, 0.1)], [(2, 0.5), (0, 0.5)]],
)


def write_run(folder: Path) -> Path:
    folder.mkdir()
    example = Example(
        example_id="e1",
        user_id="u [1]",
        split="test",
        history=[f"i{n}" for n in range(5)],
        candidates=["i5", "i0"],
        positives=["i5"],
    )
    write_lines(folder / "items.jsonl", encode_all(ITEMS))
    write_lines(folder / "examples.jsonl", encode_all([example]))
    for mode, blocks in BLOCKS.items():
        record = Summary(
            example_id="e1",
            user_id="u [1]",
            split="test",
            mode=mode,
            summary="all in all",
            blocks=blocks,
            model="scripted",
            attention=ATTENTION if mode == "attention" else None,
        )
        write_lines(folder / f"summaries-{mode}.jsonl", encode_all([record]))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def show(run: Path, *arguments: str, user: str = "u [1]") -> Result:
    return CliRunner().invoke(app, ["summarize", str(run), "--show", user, *arguments])


def test_hier_is_a_tree_with_items_under_their_blocks(run: Path) -> None:
    result = show(run, "--mode", "hier")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "e1 · user u [1] · test · hier · scripted",
        "├── summary: all in all",
        "└── items 1–5, level 1: all",
        "    ├── items 1–2, level 0: first",
        "    │   ├── 1. tea",
        "    │   └── 2. [bold]pot[/] 鮨",
        "    ├── items 3–4, level 0: (empty)",
        "    │   ├── 3. jazz [31m",
        "    │   └── 4. kind: k",
        "    └── items 5–5, level 0: last",
        "        └── 5. a b",
    ]


def test_recurrent_is_a_chain_with_the_items_that_each_step_added(run: Path) -> None:
    lines = show(run, "--mode", "recurrent").stdout.splitlines()
    assert lines[2] == "├── items 1–2, level 0: step one"
    assert lines[5:8] == [
        "├── items 1–4, level 1: step two",
        "│   ├── 3. jazz [31m",
        "│   └── 4. kind: k",
    ]


def test_attention_has_bars_and_a_table_of_candidates(run: Path) -> None:
    lines = show(run, "--mode", "attention").stdout.splitlines()
    assert f"├── {'█' * 15} 0.75 items 1–2, level 0: first" in lines
    assert "└── 0.00 items 5–5, level 0: last" in lines
    rows = [line for line in lines if "✓ lamp" in line]
    assert len(rows) == 1
    assert [cell.strip() for cell in rows[0].split("│")[1:-1]] == ["✓ lamp", "0.10", "0.90", ""]


def test_none_shows_that_there_is_nothing(run: Path) -> None:
    result = show(run, "--mode", "none", user="e1")
    assert result.exit_code == 0
    assert "summary: all in all" in result.stdout


def test_json_gives_the_record(run: Path) -> None:
    result = show(run, "--mode", "attention", "--json")
    fields: dict[str, Any] = json.loads(result.stdout)
    (record,) = fields["summaries"]
    assert record["example_id"] == "e1"
    assert record["attention"]["weights"] == [0.75, 0.25, 0.0]
    assert record["blocks"][0] == {"level": 0, "start": 0, "end": 2, "summary": "first"}


def test_nobody_of_that_name_is_wrong_usage(run: Path) -> None:
    result = show(run, user="u2")
    assert result.exit_code == 2
    assert "no user or example of that name" in result.stderr
    (run / "summaries-hier.jsonl").unlink()
    assert show(run).exit_code == 3


@pytest.mark.parametrize(("final", "marked"), [("tea", 1), ("tea tea", 2)])
def test_flags_are_shown_where_a_record_has_them(final: str, marked: int) -> None:
    flagged = Block(level=0, start=0, end=1, summary="tea tea", flags=("repeats",))
    summary = Summary(
        example_id="e",
        user_id="u",
        split="test",
        mode="hier",
        summary=final,
        blocks=[flagged],
        model="m",
    )
    example = Example(
        example_id="e",
        user_id="u",
        split="test",
        history=["i0"],
        candidates=["i1"],
        positives=["i1"],
    )
    console = Console(width=100)
    with console.capture() as captured:
        console.print(picture(summary, example, {item.item_id: item for item in ITEMS}))
    assert "level 0: tea tea [repeats]" in captured.get()
    # The final summary has the flags of the block whose text it is.
    assert captured.get().count("[repeats]") == marked


def drawn(mode: Mode, blocks: list[Block], attention: Attention | None = None) -> list[str]:
    """Draw a summary of a user with 6,000 items; return the lines."""
    item = {"i": Item("i", {"title": "tea"})}
    example = Example(
        example_id="e",
        user_id="u",
        split="test",
        history=["i"] * 6_000,
        candidates=["i"],
        positives=["i"],
    )
    summary = Summary(example_id="e", mode=mode, summary="s", blocks=blocks, attention=attention)
    console = Console(width=100)
    with console.capture() as captured:
        console.print(picture(summary, example, item))
    return captured.get().splitlines()


def test_thousands_of_blocks_are_drawn_at_once() -> None:
    blocks = [block(n * 3, n * 3 + 3, "b") for n in range(2_000)]
    lines = drawn("hier", [*blocks, block(0, 6_000, "all", 1)])
    # Head, summary, the merge, every block, and every item once.
    assert len(lines) == 3 + 2_000 + 6_000
    keys = [Key(start=b.start, end=b.end) for b in blocks]
    weights = [0.0001] * len(keys)
    attention = Attention(
        query="candidate", keys=keys, weights=weights, candidates=[[(1_999, 0.9), (5, 0.1)]]
    )
    lines = drawn("attention", blocks, attention)
    assert any("1980 blocks of small weight left out" in line for line in lines)


def test_blocks_that_overlap_or_lie_within_each_other_are_drawn_to_the_end() -> None:
    lines = drawn("hier", [block(0, 50, "same") for _ in range(500)])
    assert sum("same" in line for line in lines) == 500
    assert sum("tea" in line for line in lines) == 50
    lines = drawn("hier", [block(n, 6_000, "in", 5_000 - n) for n in range(500)])
    assert sum("level" in line for line in lines) == 500


def test_showing_needs_no_torch_and_no_control_character_reaches_the_screen(run: Path) -> None:
    code = (
        "import sys\nfrom trec_cli.commands.app import app\n"
        "try:\n    app(sys.argv[1:])\n"
        "finally:\n    print('torch' in sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code, "summarize", str(run), "--show", "e1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.endswith("False\n")
    assert "\x1b" not in done.stdout
