"""Write docs/performance.md (and its figure) from benchmarks/results/*.json.

    python -m benchmarks.page [--check]

The figure needs matplotlib, which ``make bench-page`` installs; without it nothing is written.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.common import RESULTS, ROOT
from benchmarks.optional import needed

PAGE = ROOT / "docs" / "performance.md"
FIGURE = ROOT / "docs" / "growth.svg"
MATPLOTLIB = "matplotlib>=3.8"
NOTES = ROOT / "benchmarks" / "notes"
Result = Mapping[str, Any]

SECTIONS = {
    "Scoring": "score_",
    "Training": "train_",
    "Share of the machine": "efficiency_",
    "Writing summaries": "summaries_",
    "Evaluation": "eval_",
}
BIG = {"scale_prepare": "Big inputs", "scale_users": "Memory over the number of users"}
"""Results of whole commands, and the titles of their sections."""


def results() -> dict[str, Result]:
    """Read all results that have a name, by it; those of research have pages of their own."""
    found = (json.loads(path.read_text("utf-8")) for path in sorted(RESULTS.glob("*.json")))
    return {each["name"]: each for each in found if "name" in each}


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def comparisons(found: Iterable[Result]) -> str:
    """Write the comparisons as a table."""
    header = ("what", "ours", "peer", "unit", "times better", "target", "rounds", "commit")
    return table(
        header,
        (
            (
                each["what"],
                _number(each["ours"]),
                _number(each["peer"]),
                each["unit"],
                f"**{each['ratio']:.2g}**" if each["ratio"] < 10 else f"**{each['ratio']:.0f}**",
                _target(each),
                len(each["runs"]["ours"]),
                each["commit"],
            )
            for each in found
        ),
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _target(result: Result) -> str:
    target = result["target"]
    if not target:
        return ""
    return f"{target:g} {'met' if result['ratio'] >= target else 'missed'}"


def nights(result: Result) -> str:
    """Write users a second and a night, and how far the formula is from what was measured."""
    ways = table(
        ("way", "device", "model", "users a second", "users in eight hours"),
        (
            (
                row["way"],
                row["device"],
                row["model"],
                f"{row['users_per_s']:.3g}",
                f"{row['users_per_night']:,}",
            )
            for row in result["rows"]
        ),
    )
    keys = ("run", "prefix", "candidates", "branch", "measured_s", "formula_s", "ratio")
    header = (*keys[:4], "measured, s a user", "formula, s a user", "ratio")
    checked = table(header, ([row[key] for key in keys] for row in result["checks"]))
    return f"{ways}\n\nThe formula beside every measured run of scoring:\n\n{checked}"


def neighbours(result: Result) -> str:
    """Write recall and rate of every library at every setting."""
    rows: list[tuple[str, ...]] = []
    for name, found in result["sets"].items():
        rows.append((name, "exact", "", "", f"{found['exact_queries_per_s']:,.0f}", "1"))
        for library, lines in found.items():
            if isinstance(lines, list):
                rows += _library(name, library, lines)
    return table(
        ("vectors", "search", "build, s", "setting", "queries a second", "recall@200"), rows
    )


def _library(name: str, library: str, lines: Sequence[Result]) -> list[tuple[str, ...]]:
    """Write what one library did: its index first, then one line a setting."""
    first, *settings = lines
    if "stopped" in first:
        return [
            (name, library, f"stopped at {first['stopped']}, {first['done']:.0%} in", *[""] * 3)
        ]
    return [
        (
            name,
            library,
            str(first["build_s"]),
            str(line["setting"]),
            f"{line['queries_per_s']:,.0f}",
            f"{line['recall']:.3f}",
        )
        for line in settings
    ]


def growth(result: Result) -> str:
    """Write how time and memory grow, kind by kind."""
    parts = []
    for kind, points in result["points"].items():
        rows = [(f"{p['size']:,}", f"{p['seconds']:.2f}", f"{p['mib']:,.0f}") for p in points]
        parts.append(f"{kind}:\n\n" + table(("size", "seconds", "peak MiB"), rows))
    return "\n\n".join(parts)


def watched(result: Result) -> str:
    """Write what whole commands took, one a row."""
    header = ["what", "processor s", "s by the clock", "peak MiB", "commit"]
    sized = any("input_mb" in row for row in result["rows"].values())
    rows = []
    for name, row in result["rows"].items():
        numbers = (row["cpu_seconds"], row["seconds"], row["peak_mib"])
        cells = [*(f"{number:,.0f}" for number in numbers), row["commit"]]
        rows.append([name, *([f"{row['input_mb']:,}"] if sized else []), *cells])
    return table([header[0], *(["input, MB"] if sized else []), *header[1:]], rows)


def draw(result: Result) -> None:
    """Draw time and memory over size, one column a kind."""
    mpl: Any = needed("matplotlib", MATPLOTLIB)
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "trec"
    plt: Any = needed("matplotlib.pyplot", MATPLOTLIB)
    kinds = result["points"]
    figure, axes = plt.subplots(2, len(kinds), figsize=(3.2 * len(kinds), 5), layout="constrained")
    for column, (kind, points) in enumerate(kinds.items()):
        sizes = [point["size"] for point in points]
        for row, (what, label) in enumerate((("seconds", "seconds"), ("mib", "peak MiB"))):
            axis = axes[row][column]
            axis.plot(sizes, [point[what] for point in points], marker="o")
            axis.set(xlabel=kind, ylabel=label, ylim=(0, None), xlim=(0, None))
            axis.grid(alpha=0.3)
    figure.savefig(FIGURE, metadata={"Date": None})


def note(name: str) -> str:
    """Return what a person has written about a section, if anything."""
    path = NOTES / f"{name}.md"
    return path.read_text("utf-8").strip() + "\n\n" if path.is_file() else ""


def page(found: Mapping[str, Result]) -> str:
    """Write the whole page."""
    machines = sorted({each["machine"] for each in found.values() if "machine" in each})
    parts = [
        "# Performance",
        "Made by `python -m benchmarks.page` from the files in `benchmarks/results/`; "
        "`make bench` makes those. Ours and the peer run in turns in one run on the same "
        "machine; the figures are medians, and every single run is in the files.",
        "\n".join(f"- {machine}" for machine in machines),
        note("start").strip(),
    ]
    for title, prefix in SECTIONS.items():
        chosen = [each for name, each in found.items() if name.startswith(prefix)]
        if chosen:
            parts.append(f"## {title}")
            parts.append(note(prefix.strip("_")) + comparisons(chosen))
    if "cascade" in found:
        parts += ["## Recommendations a night", note("cascade") + nights(found["cascade"])]
    if "ann" in found:
        parts += ["## Nearest neighbours", note("ann") + neighbours(found["ann"])]
    if "growth" in found:
        parts += ["## Growth", note("growth") + f"![time and memory]({FIGURE.name})"]
        parts.append(growth(found["growth"]))
    for name, title in BIG.items():
        if name in found:
            parts += [f"## {title}", note(name) + watched(found[name])]
    parts.append(note("end").strip())
    return "\n\n".join(part for part in parts if part) + "\n"


def main() -> None:
    """Write the page, or say that it is not what the results give."""
    found = results()
    text = page(found)
    if "--check" in sys.argv:
        if PAGE.read_text("utf-8") != text:
            raise SystemExit("docs/performance.md is not up to date: python -m benchmarks.page")
        return
    if "growth" in found:
        draw(found["growth"])
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
