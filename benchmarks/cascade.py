"""Recommendations a night: the cascade beside a language model that scores every item.

    python -m benchmarks.cascade          (writes benchmarks/results/cascade.json)

A user costs ``prefix + candidates x branch`` tokens of the language model (what the candidates
of a user share is computed once) and the processor seconds of what comes before.  Seconds are
those of :mod:`trec_cli.core.cost`: ``2 x weights x tokens / (peak x utilisation)``, with the
peak and utilisation that ``benchmarks.efficiency`` has measured for the processor, and the
makers' peaks with an assumed utilisation of 0.4 for GPUs.  The formula is tested against every
measured run of scoring in ``benchmarks/results``.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.common import RESULTS, commit, machine
from benchmarks.page import results
from trec_cli.core.cost import PROFILES, ModelSize, Profile, Work, bill

NIGHT = 8 * 3600
SMOL = ModelSize(weights=106_203_456)
"""SmolLM2-135M without embedding and head (``trec_cli.models.size``)."""
SEVEN = ModelSize(weights=6.5e9)
ITEMS = 3686
"""Of the collection whose catalogue would be scored whole."""


@dataclass(frozen=True)
class Prompt:
    """A user's prompts: tokens that all candidates share, and tokens of each."""

    prefix: float
    branch: float

    def tokens(self, candidates: int) -> float:
        """Count the tokens that are computed for one user."""
        return self.prefix + candidates * self.branch


def lm_seconds(prompt: Prompt, candidates: int, model: ModelSize, profile: Profile) -> float:
    """Return the seconds of the language model for one user."""
    return bill(Work(read=prompt.tokens(candidates)), model, profile).seconds


def processor(found: Mapping[str, Any]) -> Profile:
    """Describe the two cores by what was measured on them."""
    product = found["efficiency_300"]
    peak = float(product["peer"]) * 1e9
    return Profile(name="2 cores", flops=peak, utilisation=float(product["ratio"]), bandwidth=20e9)


def measured(found: Mapping[str, Any]) -> Iterator[tuple[str, Prompt, int, float]]:
    """Yield every run of scoring: what it was, its prompt, candidates, and seconds a user."""
    for name, one in found.items():
        if name.startswith("score_one_by_one_"):
            more = one["more"]
            prompt = Prompt(more["prefix_tokens"], more["branch_tokens"])
            yield name.removeprefix("score_one_by_one_"), prompt, more["candidates"], one["ours"]
    points = found["growth"]["points"]
    branch = found["score_one_by_one_mind_300"]["more"]["branch_tokens"]
    for point in points["candidates"]:
        if point["size"] > 1:
            yield "candidates", Prompt(300, branch), point["size"], point["seconds"]
    for point in points["history"]:
        yield "history", Prompt(point["size"], branch), 21, point["seconds"]


def checks(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Compare the formula with every measured run."""
    profile = processor(found)
    compared = []
    for name, prompt, candidates, seconds in measured(found):
        expected = lm_seconds(prompt, int(candidates), SMOL, profile)
        compared.append(
            {
                "run": name,
                "prefix": prompt.prefix,
                "candidates": int(candidates),
                "branch": prompt.branch,
                "measured_s": round(seconds, 2),
                "formula_s": round(expected, 2),
                "ratio": round(expected / seconds, 2),
            }
        )
    return compared


def night(seconds: float) -> int:
    """Return the users that are served in eight hours."""
    return int(NIGHT / seconds)


def rows(found: Mapping[str, Any], prompt: Prompt, cheap: float) -> list[dict[str, Any]]:
    """Compare ways of recommending on several machines.

    Args:
        found: measurements of the processor.
        prompt: of a user.
        cheap: processor seconds a user of retrieving and blending, on one core.
    """
    cores = processor(found)
    machines = [("2 cores", cores), *((name, PROFILES[name]) for name in ("l4", "a100", "h100"))]
    listed = [_row("no language model: the blend over the catalogue", "1 core", "", cheap)]
    for what, model in (("135M", SMOL), ("7B", SEVEN)):
        for name, profile in machines:
            for way, candidates, before in (
                ("cascade: blend, then the language model on 50", 50, cheap),
                (f"the language model on all {ITEMS:,} items", ITEMS, 0.0),
            ):
                lm = lm_seconds(prompt, candidates, model, profile)
                # On two cores one stage follows the other; beside a GPU the processor works ahead.
                seconds = before + lm if profile is cores else max(before, lm)
                listed.append(_row(way, name, what, seconds))
    return listed


def _row(way: str, device: str, model: str, seconds: float) -> dict[str, Any]:
    return {
        "way": way,
        "device": device,
        "model": model,
        "users_per_s": float(f"{1 / seconds:.3g}"),
        "users_per_night": night(seconds),
    }


CHEAP = 0.0038
"""Processor seconds a user of ``trec recommend`` with reasons over 20,000 items: 200 s for
50,000 users less 10 s of reading, learning and fitting (docs/recommend.md)."""
PROMPT = Prompt(prefix=300, branch=28.5)
"""Of MIND with some ten recent items (``score_one_by_one_mind_300``)."""


def main() -> None:
    """Compute and keep."""
    found = results()
    body = {
        "name": "cascade",
        "machine": machine(),
        "commit": commit(),
        "prompt": vars(PROMPT),
        "cheap_s": CHEAP,
        "checks": checks(found),
        "rows": rows(found, PROMPT, CHEAP),
    }
    text = json.dumps(body, indent=1) + "\n"
    (RESULTS / "cascade.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
