"""The report's charts as plain plotly descriptions; colours of text and grid are the page's."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trec_cli.evaluate.metrics import Floats, Ranks, chance, headline
from trec_cli.evaluate.results import Evaluation, Summary
from trec_cli.evaluate.slices import LENGTH, POPULARITY
from trec_cli.evaluate.tables import CHANCE, metrics_of, slice_kinds

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999933")
"""Okabe and Ito's palette, told apart by colour-blind readers, a little extended."""
GREY = "#8a8a8a"
_BARS = 40
_LEADING = 6
"""Lines of a chart where there are more systems than colours."""
_LABEL = 20
"""Characters of a name on one line: a phone has room for some forty, and the chart needs half."""
SLICE_NOTES = {
    LENGTH: "Examples in up to six groups of about equal size; 95 % intervals.",
    POPULARITY: "By the number of training users who have the right candidate: head, mid and "
    "tail each hold about a third of all training interactions, cold has none; 95 % intervals.",
}

Trace = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """One view of a chart: traces and layout as plotly.js takes them."""

    label: str
    data: list[Trace]
    layout: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A chart with one or more views to choose from; ``first`` is the one that is shown."""

    key: str
    title: str
    note: str
    choices: list[Choice]
    first: int = 0


def colour(index: int) -> str:
    """Return a colour of the palette."""
    return COLOURS[index % len(COLOURS)]


def leading(summary: Summary) -> list[str]:
    """Return the systems that charts of many lines show: all, or the best by the headline metric.

    They stand in the order of the tables; the reference is always among them.
    """
    systems = summary["systems"]
    if len(systems) <= len(COLOURS):
        return list(systems)
    metric = headline(metrics_of(summary))
    best = sorted(systems, key=lambda name: -(systems[name][metric]["value"] or 0.0))
    compared = summary["comparisons"]
    shown = dict.fromkeys([*[c["reference"] for c in compared[:1]], *best])
    chosen = list(shown)[:_LEADING]
    return [name for name in systems if name in chosen]


def colours(summary: Summary) -> dict[str, str]:
    """Return the colour of every system: the same in every chart, and distinct for the leading."""
    ordered = dict.fromkeys([*leading(summary), *summary["systems"]])
    return {name: colour(index) for index, name in enumerate(ordered)}


def _which(summary: Summary) -> str:
    """Describe which systems a chart of many lines shows."""
    shown = leading(summary)
    if len(shown) == len(summary["systems"]):
        return ""
    metric = headline(metrics_of(summary))
    return f" Shown: the {len(shown)} best of {len(summary['systems'])} systems by {metric}."


def all_figures(
    evaluation: Evaluation, summary: Summary, logs: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Figure]:
    """Make every chart of the whole for which there is data."""
    figures = [metric_figure(summary), rank_figure(evaluation, summary)]
    training = training_figure(logs)
    return [*figures, training] if training.choices else figures


def _bars(value: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    """Return the lengths of an error bar down and up."""
    if value is None or low is None or high is None:
        return 0.0, 0.0
    return value - low, high - value


def metric_figure(summary: Summary) -> Figure:
    """Each system's value with its interval, and the line of chance, metric by metric."""
    choices, tints = [], colours(summary)
    row = max(
        30 if len(summary["systems"]) > len(COLOURS) else 44,
        *(8 + 20 * len(textwrap.wrap(name, _LABEL)) for name in summary["systems"]),
    )
    for metric in metrics_of(summary):
        entries = [(name, entry[metric]) for name, entry in summary["systems"].items()]
        data = [_dot(tints[name], name, entry) for name, entry in entries]
        luck = summary["chance"][metric]
        layout = {
            "xaxis": {"title": {"text": metric}, "rangemode": "tozero"},
            "yaxis": _lines(len(entries)),
            "showlegend": False,
            "height": 120 + row * len(entries),
            **({} if luck is None else _chance_line(luck)),
        }
        choices.append(Choice(metric, data, layout))
    note = "Value and 95 % interval; the dashed line is a random order."
    return Figure("metrics", "Systems by metric", note, choices, _headline(summary))


def _headline(summary: Summary) -> int:
    """Return the index of the metric that charts show first."""
    metrics = metrics_of(summary)
    return metrics.index(headline(metrics))


def _lines(number: int) -> dict[str, Any]:
    """Return an axis of names from top to bottom, each in the middle of its line."""
    return {"type": "category", "automargin": True, "range": [number - 0.5, -0.5]}


def _dot(tint: str, name: str, entry: Mapping[str, float | None]) -> Trace:
    down, up = _bars(entry["value"], entry["low"], entry["high"])
    error = {"type": "data", "symmetric": False, "array": [up], "arrayminus": [down]}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": label(name),
        "x": [entry["value"]],
        "y": [label(name)],
        "error_x": error,
        "marker": {"color": tint, "size": 11},
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }


def _chance_line(value: float) -> dict[str, Any]:
    line = {"color": GREY, "dash": "dash", "width": 1.5}
    ends = {"x0": value, "x1": value, "y0": 0, "y1": 1, "yref": "paper"}
    return {"shapes": [{"type": "line", "line": line, **ends}]}


def plain(text: str) -> str:
    """Keep plotly from reading a name as markup: it knows a few tags and entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def label(name: str) -> str:
    """Write a name for plotly, over several lines where it is long."""
    return "<br>".join(map(plain, textwrap.wrap(name, _LABEL)))


def rank_shares(ranks: Ranks, bins: int, *, by_chance: bool = False) -> Floats:
    """Share of positives at each rank, in ``bins`` equal bins up to the longest list.

    A tied positive counts at each rank of its group with equal probability, and one that is
    not among the candidates at none.  ``by_chance`` the ranks are those of a random order.
    """
    longest = int(ranks.candidates.max())
    steps = np.zeros(longest + 1)
    for sign in (1, -1):  # a tied positive is added from the first rank of its group to the last
        for _, part in ranks.parts():
            here = chance(part) if by_chance else part
            ahead, tied = here.ahead[~here.missed], here.tied[~here.missed]
            np.add.at(steps, ahead if sign > 0 else ahead + tied, sign / tied)
    shares = np.maximum(np.cumsum(steps)[:longest], 0.0) / len(ranks.ahead)
    width = math.ceil(longest / bins)
    return np.add.reduceat(shares, np.arange(0, longest, width))


def rank_figure(evaluation: Evaluation, summary: Summary) -> Figure:
    """Histogram of the positives' ranks: the leading systems as lines, then each by itself."""
    longest = int(evaluation.ranks[0].candidates.max())
    bins = min(longest, _BARS)
    width = math.ceil(longest / bins)
    starts = range(1, longest + 1, width)
    labels = [str(a) if width == 1 else f"{a}–{min(a + width - 1, longest)}" for a in starts]
    luck = _line(
        labels, rank_shares(evaluation.ranks[0], bins, by_chance=True), CHANCE, GREY, "dash"
    )
    layout = {
        "xaxis": {"title": {"text": "rank of a positive"}, "type": "category"},
        "yaxis": {
            "title": {"text": "share of positives"},
            "tickformat": ".0%",
            "rangemode": "tozero",
        },
        "bargap": 0.15,
    }
    lines, single = [], []
    tints, shown = colours(summary), leading(summary)
    for name, runs in evaluation.members.items():
        of_runs = [rank_shares(evaluation.ranks[run], bins) for run in runs]
        shares = np.mean(of_runs, axis=0).tolist()
        if name in shown:
            lines.append(_line(labels, shares, name, tints[name]))
        bar = _bar(labels, shares, name, tints[name])
        single.append(Choice(name, [bar, luck], layout))
    every = "all systems" if len(lines) == len(single) else "the best systems"
    together = [Choice(every, [*lines, luck], layout)] if len(lines) > 1 else []
    note = "Where the right candidates stand; a good system has its mass on the left."
    note += _which(summary)
    return Figure("ranks", "Ranks of the positives", note, [*together, *single])


def _line(
    x: Sequence[Any], y: Floats | Sequence[float | None], name: str, tint: str, dash: str = "solid"
) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(name),
        "x": list(x),
        "y": [None if value is None else float(value) for value in y],
        "line": {"color": tint, "dash": dash},
        "marker": {"size": 6},
        "cliponaxis": False,
    }


def slice_figures(summary: Summary) -> list[Figure]:
    """Every metric by slice, one figure for each way of slicing."""
    tints = {name: tint for name, tint in colours(summary).items() if name in leading(summary)}
    return [
        Figure(
            f"slices-{number}",
            f"Metric by {by}",
            SLICE_NOTES.get(by, "By an attribute of the right candidate; 95 % intervals.")
            + _which(summary),
            [Choice(m, *_slice_view(m, entries, tints)) for m in metrics_of(summary)],
            _headline(summary),
        )
        for number, (by, entries) in enumerate(slice_kinds(summary).items())
    ]


def _slice_view(
    metric: str, entries: Sequence[Mapping[str, Any]], tints: Mapping[str, str]
) -> tuple[list[Trace], Trace]:
    """Draw one metric of the slices of one kind: over history lengths, else line by line."""
    flat = entries[0]["by"] != LENGTH
    labels = [label(entry["slice"]) for entry in entries]
    data = []
    for name, tint in tints.items():
        measured = [entry["systems"][name][metric] for entry in entries]
        trace = _line(labels, [each["value"] for each in measured], name, tint)
        down, up = zip(*(_bars(e["value"], e["low"], e["high"]) for e in measured), strict=True)
        error = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3}
        trace["error_y"] = {**error, "array": up, "arrayminus": down}
        data.append(trace)
    data.append(_line(labels, [e["chance"][metric] for e in entries], CHANCE, GREY, "dash"))
    values = {"rangemode": "tozero", "title": {"text": metric}}
    layout = {"showlegend": True, "scattermode": "group", "scattergap": 0.5}
    if not flat:
        slices = {"type": "category", "title": {"text": "items in the history"}}
        return data, {**layout, "xaxis": slices, "yaxis": values}
    height = 130 + len(entries) * (16 + 11 * len(data))
    return [_turned(trace) for trace in data], {
        **layout, "xaxis": values, "yaxis": _lines(len(entries)), "height": height,
    }  # fmt: skip


def _turned(trace: Trace) -> Trace:
    """Turn a line over categories into dots beside them: long names fit on a phone."""
    turned = {**trace, "x": trace["y"], "y": trace["x"], "mode": "markers", "orientation": "h"}
    if error := turned.pop("error_y", None):
        turned["error_x"] = error
    return {**turned, "marker": {"size": 8, "color": trace["line"]["color"]}}


def _bar(x: Sequence[Any], y: Sequence[Any], name: str, tint: str) -> Trace:
    marker = {"color": tint}
    return {"type": "bar", "name": label(name), "x": list(x), "y": list(y), "marker": marker}


def training_figure(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Every number that was logged, step by step and mode by mode."""
    names = {key for entries in logs.values() for e in entries for key in e if key not in _CLOCK}
    choices = []
    for name in sorted(names, key=lambda n: (n != "loss", not n.startswith("valid_"), n)):
        curves = {mode: _curve(entries, name) for mode, entries in logs.items()}
        data = [
            _line(steps, values, mode, colour(index))
            for index, (mode, (steps, values)) in enumerate(curves.items())
            if steps
        ]
        if data:
            axes = {"xaxis": {"title": {"text": "step"}}, "yaxis": {"title": {"text": plain(name)}}}
            choices.append(Choice(name, data, {**axes, "showlegend": True}))
    return Figure("training", "Training", "As the training log has it.", choices)


def _curve(entries: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return the steps at which ``name`` was logged as a number, and the numbers."""
    points = [(e["step"], e[name]) for e in entries if _is_number(e.get(name)) and "step" in e]
    return [step for step, _ in points], [value for _, value in points]


_CLOCK = ("step", "epoch")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
