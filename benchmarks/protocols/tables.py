"""Collect what the protocols have measured: one small result file, and the tables of the page.

    python -m benchmarks.protocols.tables --out runs/protocols

Tables of ``docs/results.md`` stand between ``<!-- NAME -->`` and ``<!-- end -->``; the text
around them is written by hand.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, commit

SETTINGS = ("mind_last_click", "mind_shown", "industrial", "games")
SHOWN = ("recall@5", "mrr@10", "ndcg@10", "auc")
CASCADE = "published_cascade"
PAGE = ROOT / "docs" / "results.md"
Row = Sequence[str]
Record = Mapping[str, Any]


def read(path: Path) -> Any:
    """Return the content of a JSON file, None where it is not there."""
    return json.loads(path.read_bytes()) if path.is_file() else None


def comparison(metrics: Record) -> dict[str, Any]:
    """Return what is kept of an evaluation: the shown metrics, and tests against the blend."""
    shown = [name for name in SHOWN if name in next(iter(metrics["systems"].values()))]
    systems = {name: _some(entry, shown) for name, entry in metrics["systems"].items()}
    blind = metrics.get("audit") or {}
    return {
        "users": metrics["users"],
        "protocol": metrics["protocol"],
        "systems": systems,
        "no_user": _some(blind.get("no_user", {}), shown),
        "chance": {name: metrics["chance"][name] for name in shown},
        "compared": {
            f"{one['system']} {one['metric']}": {
                key: _rounded(one[key])
                for key in ("difference", "low", "high", "p", "p_holm", "detectable")
            }
            for one in metrics["comparisons"]
            if one["metric"] in shown
        },
        "not_above_no_user": sorted(
            one["system"]
            for one in blind.get("differences", [])
            if one["metric"] == "auc" and not (one["difference"] > 0 and _below(one["p_holm"]))
        ),
    }


def _below(p: float | None) -> bool:
    return p is not None and p < 0.05


def _some(entry: Record, names: Sequence[str]) -> dict[str, list[float | None]]:
    keys = ("value", "low", "high")
    return {n: [_rounded(entry[n].get(k)) for k in keys] for n in names if n in entry}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def costs(study: Record) -> dict[str, dict[str, Any]]:
    """Return processor seconds and version of the last command of every arm that made scores."""
    found = {}
    for arm in study["arms"]:
        command = arm["commands"][-1] if arm["commands"] else []
        output = command[command.index("--out") + 1] if "--out" in command else ""
        manifest = read(Path(f"{output}.manifest.json"))
        if manifest:
            found[arm["name"]] = {
                "processor_seconds": manifest.get("processor_seconds"),
                "seconds": manifest["seconds"],
            }
    return found


def setting(folder: Path) -> dict[str, Any] | None:
    """Collect one study."""
    metrics, study = read(folder / "metrics.json"), read(folder / "study.json")
    if metrics is None or study is None:
        return None
    common = read(folder / "common" / "metrics.json")
    stacked = read(folder / "stacked" / "eval-llm" / "metrics.json")
    return {
        "title": study["title"],
        "reference": study["reference"],
        "all": comparison(metrics),
        "few": comparison(common) if common else None,
        "stacked": comparison(stacked) if stacked else None,
        "costs": costs(study),
        "failed": [arm["name"] for arm in study["arms"] if arm["state"] != "done"],
    }


def kept(earlier: Record | None, now: Record | None) -> Record | None:
    """Return what was measured now, and what was measured earlier where nothing was now."""
    if earlier is None or now is None:
        return now or earlier
    found = {**earlier, **{name: value for name, value in now.items() if value is not None}}
    for part in ("all", "few"):
        if earlier.get(part) and now.get(part):
            found[part] = joined(earlier[part], now[part], now["reference"])
    return {**found, "costs": {**earlier["costs"], **now["costs"]}}


def joined(earlier: Record, now: Record, reference: str) -> Record:
    """Add arms that were not run now, where the same questions have the same reference."""
    before, after = earlier["systems"].get(reference), now["systems"].get(reference)
    if earlier["users"] != now["users"] or before is None or not _alike(before, after):
        return now
    systems = {**earlier["systems"], **now["systems"]}
    return {**now, "systems": systems, "compared": {**earlier["compared"], **now["compared"]}}


def _alike(one: Record, other: Record) -> bool:
    """Check whether all values are equal; a bound of a bootstrap may be off by a resample."""
    return all(one[name][0] == other[name][0] for name in one)


def table(found: Record, costs: Record, reference: str) -> Iterator[str]:
    """Write an evaluation as Markdown, best AUC (or NDCG) first."""
    names = list(next(iter(found["systems"].values())))
    key = "auc" if "auc" in names else "ndcg@10"
    yield _line(["arm", *names, f"{key} to {reference}", "processor s"])
    yield _line(["---"] * (len(names) + 3))
    rows = {**found["systems"], **({"*no user*": found["no_user"]} if found["no_user"] else {})}
    rows["*chance*"] = {name: [found["chance"][name], None, None] for name in names}
    for name in sorted(rows, key=lambda n: -(rows[n][key][0] or 0)):
        cells = [_cell(rows[name][n], bounds=n == key) for n in names]
        difference = found["compared"].get(f"{name} {key}")
        spent = costs.get(name, {}).get("processor_seconds")
        told = "" if spent is None else f"{spent:.0f}"
        yield _line([name, *cells, _difference(difference), told])


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Sequence[float | None], *, bounds: bool) -> str:
    middle, low, high = value
    if middle is None:
        return ""
    return f"{middle:.3f}" + (f" [{low:.3f}, {high:.3f}]" if bounds and low is not None else "")


def _difference(one: Record | None) -> str:
    if one is None:
        return ""
    star = r"\*" if _below(one["p_holm"]) else ""
    return f"{one['difference']:+.3f}{star} [{one['low']:+.3f}, {one['high']:+.3f}]"


def power(found: Record, reference: str) -> str:
    """Say which differences so many users can show."""
    key = "auc" if "auc" in next(iter(found["systems"].values())) else "ndcg@10"
    visible = [
        one["detectable"]
        for name, one in found["compared"].items()
        if name.endswith(f" {key}") and one["detectable"]
    ]
    if not visible:
        return ""
    return (
        f"{found['users']:,} users: a difference from {reference} in {key} can be seen from "
        f"{min(visible):.3f} to {max(visible):.3f} on, by arm (80 % power, one test at 5 %)."
    )


def published_table(found: Record) -> Iterator[str]:
    """Write the full ranking, ours and published, best first."""
    head = ["arm", "NDCG@3", "NDCG@5", "NDCG@10", "HR@3", "HR@5", "HR@10"]
    yield _line([*head, "NDCG@10 to blend", "processor s"])
    yield _line(["---"] * (len(head) + 2))
    names = [f"{m}@{k}" for m in ("ndcg", "hr") for k in (3, 5, 10)]
    rows = {
        **found["systems"],
        **{f"**{n}** (published)": v for n, v in found["published"].items()},
    }
    rows["*chance*"] = found["chance"]
    for name in sorted(rows, key=lambda n: -rows[n]["ndcg@10"]):
        row = rows[name]
        cells = ["" if n not in row else f"{row[n]:.4f}" for n in names]
        if "ndcg@10_low" in row:
            cells[2] += f" [{row['ndcg@10_low']:.3f}, {row['ndcg@10_high']:.3f}]"
        told = ""
        if "difference" in row and name != "blend":
            told = f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, "
            told += f"{row['difference_high']:+.4f}]"
        spent = f"{row['seconds']:.0f}" if "seconds" in row else ""
        yield _line([name, *cells, told, spent])


def order_table(found: Record) -> Iterator[str]:
    """Write what each change of protocol did to the order."""
    yield _line(["from", "to", "tau", "best single before", "after", "moved most (place)"])
    yield _line(["---"] * 6)
    for one in found["comparisons"]:
        moved = ", ".join(f"{name} {a} → {b}" for name, (a, b) in one["moved"].items())
        cells = [one["first"], one["second"], f"{one['tau']:+.2f}"]
        yield _line([*cells, one["best_first"], one["best_second"], moved])


def level_table(found: Record) -> Iterator[str]:
    """Write the level of some arms under every protocol."""
    arms = ["popularity", "late", "next_near", "vector_nearest", "blend", "no user"]
    yield _line(["protocol", "metric", *arms])
    yield _line(["---"] * (len(arms) + 2))
    for name, one in found["protocols"].items():
        metric = "ndcg@10" if name.startswith("published, ") and "by" not in name else "auc"
        metric = "auc" if "uniform" in name else metric
        cells = [f"{one['arms'][a][metric]:.3f}" if a in one["arms"] else "" for a in arms]
        yield _line([name, metric, *cells])


def put(page: str, name: str, lines: Iterator[str] | list[str]) -> str:
    """Replace a table of the page."""
    body = "\n".join(lines)
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{body}\n{found[2]}", page)


def main() -> None:
    """Collect everything that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    out = options.results / "protocols.json"
    earlier = (read(out) or {}).get("settings", {})
    found = {
        name: kept(earlier.get(name), setting(options.out / name)) for name in (*SETTINGS, CASCADE)
    }
    page = options.page.read_text(encoding="utf-8")
    for name, one in found.items():
        if one:
            for part in filter(one.get, ("all", "few", "stacked")):
                lines = [*table(one[part], one["costs"], one["reference"]), "",
                         power(one[part], one["reference"])]  # fmt: skip
                page = put(page, f"{name} {part}", lines)
    ranked = read(options.results / "protocols_published.json")
    order = read(options.results / "protocols_order.json")
    if ranked:
        page = put(page, "published", published_table(ranked))
    if order:
        page = put(page, "order", order_table(order))
        page = put(page, "levels", level_table(order))
    options.page.write_text(page, encoding="utf-8")
    content = {"settings": found, "commit": commit()}
    out.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
