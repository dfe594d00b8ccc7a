"""`report.html`: one page that holds everything it shows, charts and their library included.

Jinja escapes every text; the charts' data go into a JSON block whose ``<`` are escaped, so
that a title with a script tag stays a title.  The page's own policy forbids any network.
"""

import base64
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from trec_cli import __version__
from trec_cli.core.manifest import Provenance
from trec_cli.core.text import setting_text
from trec_cli.evaluate.cases import cases, leader
from trec_cli.evaluate.figures import all_figures, slice_figures
from trec_cli.evaluate.recommended import recommended
from trec_cli.evaluate.results import SIGNIFICANT, Evaluation, Summary, differs
from trec_cli.evaluate.sources import Sources
from trec_cli.evaluate.tables import (
    SMALL_MARK,
    metrics_of,
    notes_of,
    number,
    rows_of,
    slice_tables,
    slices_note,
)
from trec_cli.evaluate.words import flat, in_words

_FRAME = {
    "output", "sha256", "command", "arguments", "settings", "inputs", "versions", "machine",
    "started", "quality",
}  # fmt: skip
"""Fields of a manifest that are no account of tokens or time."""
_NAMED = 8
"""Systems that the page names in its head; more are counted."""
_NOTHING = ("0", "0.0 %", "")


def render(
    evaluation: Evaluation,
    summary: Summary,
    sources: Sources,
    provenance: Provenance,
    title: str = "",
) -> str:
    """Write the page, under a title of its own or a general one.

    Raises:
        InputError: a file of ``sources`` is faulty.
    """
    seed = int(provenance.settings["seed"])
    figures = all_figures(evaluation, summary, sources.training())
    by_slice = slice_figures(summary)
    manifests = sources.manifests()
    return (
        _environment()
        .get_template("report.html")
        .render(
            **_results(evaluation, summary),
            audit=summary.get("audit"),
            beyond=summary.get("beyond"),
            title=title,
            figures=figures,
            drawings=[_rounded(asdict(figure)) for figure in [*figures, *by_slice]],
            slices=slice_tables(summary),
            slice_figures=by_slice,
            slices_note=slices_note(summary.get("slices", [])),
            small_mark=SMALL_MARK,
            cases=cases(evaluation, sources, seed),
            offered=recommended(sources, seed),
            added=_by_system(summary.get("users_add", [])),
            accounts=accounts(manifests),
            quality=quality_table(manifests),
            inputs=provenance.inputs,
            origins=origins(manifests),
            versions=versions(manifests),
            settings={
                name: setting_text(value)
                for name, value in provenance.settings.items()
                if name not in ("inputs", "systems")
            },
            library=packed(charts_library()),
            version=__version__,
        )
    )


def _environment() -> Environment:
    loader = PackageLoader("trec_cli.evaluate")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {
        "decimals": number, "signed": _signed, "p_value": _p_value, "ranks": _ranks,
        "breakable": _breakable, "several": _several, "shortened": shortened,
    }  # fmt: skip
    environment.tests["differing"] = differs
    return environment


@dataclass(frozen=True)
class Packed:
    """A compressed script, which the page unpacks itself.

    Attributes:
        size: of the gzip data in bytes.
        text: the data in base 85 (RFC 1924), with a comma for ``<``: nothing in it can end the
            element that it stands in.
    """

    size: int
    text: str


def charts_library() -> bytes:
    """Return plotly.js, its basic bundle (lines, points and bars), as gzip data.

    It is the file of the package ``plotly.js-basic-dist-min`` on npm, under ``gzip -9 -n``.
    """
    folder = resources.files("trec_cli.evaluate") / "templates"
    return (folder / "plotly-basic.min.js.gz").read_bytes()


def packed(data: bytes) -> Packed:
    """Write a compressed script for the page."""
    return Packed(len(data), base64.b85encode(data, pad=True).decode().replace("<", ","))


def _rounded(value: Any) -> Any:
    """Round the numbers of charts to what a screen can show."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, Mapping):
        return {key: _rounded(inner) for key, inner in value.items()}
    return list(map(_rounded, value)) if isinstance(value, list | tuple) else value


def _several(names: Sequence[str]) -> str:
    """Name a few systems, and count many."""
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} systems"


def shortened(title: str, width: int = 90) -> str:
    """Cut a long title behind a word, or in the middle of one that is long itself."""
    if len(title) <= width:
        return title
    cut = title[:width]
    return f"{cut.rpartition(' ')[0] or cut} …"


def _breakable(text: str) -> Markup:
    """Allow a line break behind the dots, slashes and underscores of a long name."""
    return Markup(re.sub(r"(?<=[._/])", "<wbr>", str(escape(text))))


def _signed(value: float | None) -> str:
    """Write ``+.127``: ten metrics with their intervals fit on a page."""
    if value is None:
        return number(value)
    return re.sub(r"(?<=^[+-])0", "", f"{value:+.3f}")


def _p_value(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _ranks(ranks: Sequence[float]) -> str:
    return ", ".join(f"{rank:g}" if math.isfinite(rank) else "missed" for rank in ranks)


def _results(evaluation: Evaluation, summary: Summary) -> dict[str, Any]:
    """Return what the tables show."""
    compared = summary["comparisons"]
    return {
        "names": evaluation.names,
        "leader": evaluation.runs[leader(evaluation)].name,
        "examples": len(evaluation.users),
        "users": summary["users"],
        "split": summary["split"],
        "metrics": metrics_of(summary),
        "rows": rows_of(summary),
        "above_no_user": _by_system(summary.get("audit", {}).get("differences", [])),
        "notes": notes_of(summary),
        "significant": SIGNIFICANT,
        "reference": compared[0]["reference"] if compared else "",
        "comparisons": _by_system(compared),
    }


def _by_system(entries: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Group comparisons by system."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["system"], []).append(entry)
    return found


def account(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return a manifest's counts of tokens, cuts and times, named in words; no zeros."""
    counted = flat({k: v for k, v in manifest.items() if k not in _FRAME})
    return {in_words(name): text for name, text in counted if text not in _NOTHING}


def accounts(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the accounts of all outputs; what one command counted of several stands once."""
    names: dict[str, list[str]] = {}
    found: dict[str, dict[str, str]] = {}
    for name, manifest in manifests.items():
        if counted := account({**manifest, "seconds": None}):
            names.setdefault(str(counted), []).append(name)
            found[str(counted)] = account(manifest)
    return {", ".join(names[key]): counted for key, counted in found.items()}


def quality_table(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return what manifests say of the quality of summaries: by figure, then by file."""
    found = {
        name: {in_words(figure): text for figure, text in flat(m["quality"])}
        for name, m in manifests.items()
        if m.get("quality")
    }
    figures = dict.fromkeys(figure for of_file in found.values() for figure in of_file)
    return {
        figure: {name: of_file.get(figure, "–") for name, of_file in found.items()}
        for figure in figures
    }


@dataclass(frozen=True)
class Origin:
    """A command and the outputs that it made."""

    command: str
    names: list[str]


def origins(manifests: Mapping[str, Mapping[str, Any]]) -> list[Origin]:
    """Return the commands that made the outputs, each once."""
    found: dict[str, list[str]] = {}
    for name, manifest in manifests.items():
        arguments = shlex.join(map(str, manifest.get("arguments", [])))
        found.setdefault(f"trec {arguments}", []).append(name)
    return [Origin(command, names) for command, names in found.items()]


def versions(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the versions that outputs were made with, by the names of the outputs."""
    found: dict[str, list[str]] = {}
    for name, manifest in manifests.items():
        stated = manifest.get("versions", {})
        found.setdefault(", ".join(f"{n} {v}" for n, v in stated.items()), []).append(name)
    return {", ".join(names): stated for stated, names in found.items() if stated}
