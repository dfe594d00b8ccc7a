"""A figure for papers and READMEs: one SVG file, light and dark, without any script.

`report.html` has the interactive charts; this is the one picture of a study.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from trec_cli.evaluate.figures import COLOURS

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 64, 200, 48, 56
_PLOT_HEIGHT, _ROW, _ASIDE = 300, 28, 6
_TICKS = 5
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}"
    ".axis{stroke:#888}.grid{stroke:#8884}.chance{stroke:#888;stroke-dasharray:5 4}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}}"
)


class Mark(NamedTuple):
    """One system: its arm's group and name, the varied setting's value, and the metric."""

    group: str
    name: str
    x: Any
    value: float
    low: float
    high: float


def draw(
    title: str, metric: str, setting: str | None, marks: Sequence[Mark], chance: float | None
) -> str:
    """Return the SVG: lines over a numeric setting, otherwise one row per system."""
    varied = [mark for mark in marks if isinstance(mark.x, int | float) and mark.x is not True]
    numeric = len({mark.x for mark in varied}) > 1
    if numeric and setting:
        fixed = [mark for mark in marks if mark not in varied]
        height, body = _over_setting(metric, setting, varied, fixed, chance)
    else:
        height, body = _rows(metric, marks, chance)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            _text(_LEFT, 24, title, "title"),
            *body,
            "</svg>\n",
        ]
    )


class _Scale(NamedTuple):
    """A linear scale from data to picture."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)

    def moved(self, aside: float) -> "_Scale":
        """Return the same scale a little to the right, so that intervals do not hide another."""
        return self._replace(start=self.start + aside, end=self.end + aside)

    def ticks(self) -> list[float]:
        """Return evenly spaced values from end to end."""
        step = (self.high - self.low) / _TICKS
        return [self.low + step * n for n in range(_TICKS + 1)]


def _top(marks: Sequence[Mark], chance: float | None) -> float:
    """Return the upper end of the metric's axis: the next tenth above everything."""
    highest = max([mark.high for mark in marks] + [chance or 0.0])
    return min(1.0, int(highest * 10 + 1) / 10)


def _over_setting(
    metric: str,
    setting: str,
    varied: Sequence[Mark],
    fixed: Sequence[Mark],
    chance: float | None,
) -> tuple[int, list[str]]:
    """Draw one line per group over the setting, and the arms without it as level lines."""
    values = sorted({float(mark.x) for mark in varied})
    x = _Scale(values[0], values[-1], _LEFT + 20, _WIDTH - _RIGHT - 20)
    y = _Scale(0.0, _top([*varied, *fixed], chance), _TOP + _PLOT_HEIGHT, _TOP)
    lines = list(_grid(y, metric))
    bottom = _TOP + _PLOT_HEIGHT
    lines += [_text(x(value), bottom + 18, f"{value:g}", anchor="middle") for value in values]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    lines.append(_text(middle, bottom + 42, setting, anchor="middle"))
    if chance is not None:
        lines += _level(y(chance), "chance", "#888", "chance")
    groups = list(dict.fromkeys(mark.group for mark in varied))
    for index, group in enumerate(groups):
        own = sorted((m for m in varied if m.group == group), key=lambda m: float(m.x))
        aside = _ASIDE * (index - (len(groups) - 1) / 2)
        lines += _line(own, x.moved(aside), y, COLOURS[index % len(COLOURS)])
    for index, mark in enumerate(fixed, len(groups)):
        lines += _level(y(mark.value), mark.name, COLOURS[index % len(COLOURS)])
    return bottom + _BOTTOM, lines


def _grid(y: _Scale, metric: str) -> Iterator[str]:
    for tick in y.ticks():
        yield _stroke(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), css="grid")
        yield _text(_LEFT - 8, y(tick) + 4, f"{tick:.2f}", anchor="end")
    yield _text(8, _TOP - 14, metric)


def _line(marks: Sequence[Mark], x: _Scale, y: _Scale, tint: str) -> Iterator[str]:
    points = " ".join(f"{x(float(mark.x))},{y(mark.value)}" for mark in marks)
    yield f'<polyline points="{points}" fill="none" stroke="{tint}" stroke-width="2"/>'
    for mark in marks:
        across = x(float(mark.x))
        yield _stroke(across, y(mark.low), across, y(mark.high), tint)
        yield _dot(across, y(mark.value), tint, mark)
    last = marks[-1]
    yield _text(_WIDTH - _RIGHT + 8, y(last.value) + 4, last.group, tint=tint)


def _level(height: float, name: str, tint: str, css: str = "") -> Iterator[str]:
    yield _stroke(_LEFT, height, _WIDTH - _RIGHT, height, tint, css)
    yield _text(_WIDTH - _RIGHT + 8, height + 4, name, tint=tint)


def _rows(metric: str, marks: Sequence[Mark], chance: float | None) -> tuple[int, list[str]]:
    """Draw one row per system: a dot with its interval."""
    bottom = _TOP + _ROW * len(marks)
    x = _Scale(0.0, _top(marks, chance), _RIGHT, _WIDTH - 32)
    lines = []
    for tick in x.ticks():
        lines.append(_stroke(x(tick), _TOP, x(tick), bottom, css="grid"))
        lines.append(_text(x(tick), bottom + 18, f"{tick:.2f}", anchor="middle"))
    lines.append(_text((_RIGHT + _WIDTH - 32) / 2, bottom + 42, metric, anchor="middle"))
    if chance is not None:
        lines.append(_stroke(x(chance), _TOP, x(chance), bottom, css="chance"))
        lines.append(_text(x(chance), _TOP - 6, "chance", anchor="middle", tint="#888"))
    groups = list(dict.fromkeys(mark.group for mark in marks))
    for index, mark in enumerate(marks):
        height = _TOP + _ROW * index + _ROW / 2
        tint = COLOURS[groups.index(mark.group) % len(COLOURS)]
        lines.append(_text(_RIGHT - 12, height + 4, mark.name, anchor="end"))
        lines.append(_stroke(x(mark.low), height, x(mark.high), height, tint))
        lines.append(_dot(x(mark.value), height, tint, mark))
    return bottom + _BOTTOM, lines


def _text(
    x: float, y: float, words: str, css: str = "", anchor: str = "start", tint: str = ""
) -> str:
    style = f' style="fill:{tint}"' if tint else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{css}"{style}>'
        f"{escape(words)}</text>"
    )


def _stroke(x1: float, y1: float, x2: float, y2: float, tint: str = "", css: str = "") -> str:
    colour = f' stroke="{tint}" stroke-width="2"' if tint and not css else ""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{css}"{colour}/>'


def _dot(x: float, y: float, tint: str, mark: Mark) -> str:
    told = f"{mark.name}: {mark.value:.3f} [{mark.low:.3f}, {mark.high:.3f}]"
    inside = f"<title>{escape(told)}</title>"
    return f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="{tint}">{inside}</circle>'
