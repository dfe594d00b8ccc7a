"""Run a plan of research on the published Industrial questions; continues where it stopped.

    python -m benchmarks.quality.run PLAN --folder PACKED --out OUT [--seconds 300] [--tiny]

A plan (``plans/*.json``) lists arms: ``frozen`` sequence models over text vectors, ``tuned``
encoders, and ``blend``, which stacks cheap signals and named arms by a conditional logit.
Everything is decided at cut ``fit`` (the second half of the validation questions); only the
arms that a plan names for cut ``test`` ever see a test question.  OUT gets
``results.jsonl``, one line an arm, and ``gains.npz``, NDCG@10 and HR@10 of every question.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import blend, published, upper
from benchmarks.quality.encoder import Encoder, Tuning, load_encoder, tune
from benchmarks.quality.published import Cut, Knowledge, Published
from benchmarks.quality.signals import signals
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import score_all, train
from trec_cli.sequence.whitening import whitened

Scores = NDArray[np.float32]
_ROUGH = (
    "title_all",
    "together_all_near",
    "together_last_near",
    "next_all_near",
    "next_last_near",
    "popularity",
    "recent_400",
)
_CHUNKS = {"minilm": 4, "smollm": 12}


@dataclass
class Bench:
    """Where everything is, and what is done.

    Attributes:
        folder: of :mod:`benchmarks.quality.pack`.
        out: gets the results.
        scratch: keeps score matrices and vectors.
        device: of the models.
        data: the questions.
        until: time at which no further arm starts.
        tiny: a rehearsal: few items, histories and questions.
        gains: NDCG@10 and HR@10 by arm.
    """

    folder: Path
    out: Path
    scratch: Path
    device: torch.device
    data: Published
    until: float
    tiny: bool = False
    gains: dict[str, NDArray[Any]] = field(default_factory=dict)

    def known(self, arm: Mapping[str, Any]) -> Knowledge:
        """Return what an arm may learn from, and its questions."""
        return self.at(arm.get("cut", "fit"), arm)

    def at(self, cut: Cut, arm: Mapping[str, Any]) -> Knowledge:
        """Return the same at another cut."""
        return self.data.at(cut, more=arm.get("more", True), answers=arm.get("answers", True))

    def note(self, arm: Mapping[str, Any], scores: Scores, seconds: float, **more: Any) -> None:
        """Measure scores and keep figures and matrix."""
        questions = self.known(arm).questions
        gains = published.gains(scores, [q.target for q in questions])
        users = [q.user for q in questions]
        line = {
            **arm,
            "ndcg@10": published.interval(gains[0], users),
            "hr@10": published.interval(gains[1], users),
            "processor_seconds": round(seconds, 1),
            **more,
        }
        part = self.scratch / f"{arm['name']}.part.npy"
        np.save(part, scores.astype(np.float32))
        part.rename(self.scratch / f"{arm['name']}.npy")
        self.gains[arm["name"]] = np.stack(gains).astype(np.float32)
        save(self.out / "gains.npz", self.gains)
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def scores(self, name: str) -> Scores:
        """Return the matrix of an arm, perhaps one that another process is running."""
        found: Scores = np.load(waited(self.scratch / f"{name}.npy", time.monotonic() + 300))
        return found


def waited(path: Path, until: float = math.inf) -> Path:
    """Wait until another process has written a file."""
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} has not come")
        time.sleep(0.2)
    return path


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays, whole or not at all."""
    part = path.with_suffix(".part.npz")
    keywords: dict[str, Any] = dict(arrays)
    np.savez(part, **keywords)
    part.rename(path)


def vectors(bench: Bench, text: str) -> Scores:
    """Return the frozen MiniLM vectors of titles or of full texts."""
    path = bench.scratch / f"vectors_{text}.npz"
    if not path.exists():
        encoder = small(bench, load_encoder("minilm", bench.folder, text, bench.device))
        save(path, {"vectors": raw(encoder)})
    found: Scores = np.load(path)["vectors"]
    return found


def small(bench: Bench, encoder: Encoder) -> Encoder:
    """In a rehearsal, leave the encoder few layers and short texts."""
    if bench.tiny:
        layers: Any = getattr(encoder.model, "encoder", encoder.model)
        name = "layer" if hasattr(layers, "layer") else "layers"
        setattr(layers, name, getattr(layers, name)[:2])
        encoder.rows = [row[:6] for row in encoder.rows]
    return encoder


def raw(encoder: Encoder) -> Scores:
    """Return the vectors before whitening."""
    mapping, mean = encoder.map.clone(), encoder.mean.clone()
    encoder.map.copy_(torch.eye(encoder.size))
    encoder.mean.zero_()
    made: Scores = encoder.all_texts().cpu().numpy()
    encoder.map.copy_(mapping)
    encoder.mean.copy_(mean)
    return made


def rows_of(known: Knowledge) -> list[list[int]]:
    """Return the histories in an order that depends on users alone."""
    return [list(history) for _, history in sorted(known.histories.items())]


def frozen(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Train sequence models over frozen vectors; the scores of several seeds are averaged."""
    start, known = time.process_time(), bench.known(arm)
    parts = [unit(vectors(bench, text)) for text in arm.get("text", "title").split("+")]
    texts = torch.from_numpy(np.concatenate([whitened(part) for part in parts], 1)).to(bench.device)
    settings = SequenceSettings(**arm.get("settings", {}))
    found = [
        scored(train(texts, rows_of(known), settings, seed), texts, known)
        for seed in arm.get("seeds", [0])
    ]
    bench.note(arm, mean(found), time.process_time() - start)


def unit(rows: Scores) -> Scores:
    """Scale every row to length 1."""
    scaled: Scores = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def mean(found: Sequence[Scores]) -> Scores:
    """Average the scores of several seeds."""
    averaged: Scores = np.mean(np.stack(found), axis=0)
    return averaged


def scored(model: SequenceModel, texts: torch.Tensor, known: Knowledge) -> Scores:
    """Return log-probabilities of all items for all questions."""
    return np.concatenate(list(score_all(model, texts, [q.history for q in known.questions])))


def curve_of(bench: Bench, arm: Mapping[str, Any], curve: list[float]) -> Any:
    """Return a function that measures after every epoch, at cut ``fit`` alone."""
    known = bench.known(arm)
    targets = [q.target for q in known.questions]

    def measure(_epoch: int, head: SequenceModel, texts: torch.Tensor) -> None:
        if arm.get("cut", "fit") == "fit":
            gains = published.gains(scored(head, texts, known), targets)
            curve.append(round(float(gains[0].mean()), 5))

    return measure


def tuned(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Train a whole encoder and the sequence model together (needs a GPU)."""
    start, known = time.process_time(), bench.known(arm)
    tuning = Tuning(**arm.get("tuning", {}))
    kind = arm.get("encoder", "minilm")
    settings = SequenceSettings(**arm.get("settings", {}))
    found, curve = [], list[float]()
    for seed in arm.get("seeds", [0]):
        torch.manual_seed(seed)
        encoder = small(bench, load_encoder(kind, bench.folder, tuning.text, bench.device))
        encoder.whiten()
        head, texts = tune(
            encoder, rows_of(known), settings, tuning, seed, chunks=_CHUNKS[kind],
            cached=kind == "smollm", after_epoch=curve_of(bench, arm, curve), until=bench.until,
        )  # fmt: skip
        found.append(scored(head, texts, known))
    bench.note(arm, mean(found), time.process_time() - start, curve=curve)


def raised(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Train an encoder's upper layers and the sequence model together (on a processor)."""
    start, known = time.process_time(), bench.known(arm)
    tuning = upper.Tuning(**arm.get("tuning", {}))
    settings = SequenceSettings(**arm.get("settings", {}))
    found, curve = [], list[float]()
    for seed in arm.get("seeds", [0]):
        torch.manual_seed(seed)
        kind = arm.get("encoder", "minilm")
        whole = small(bench, load_encoder(kind, bench.folder, "title", bench.device))
        encoder = upper.UpperEncoder(whole, tuning.upper)
        head, texts = upper.tune(
            encoder, rows_of(known), settings, tuning, seed, curve_of(bench, arm, curve)
        )
        found.append(scored(head, texts, known))
    bench.note(arm, mean(found), time.process_time() - start, curve=curve)


def cheap(bench: Bench, cut: Cut, arm: Mapping[str, Any]) -> dict[str, Scores]:
    """Return the cheap signals of a cut, but those that the arm leaves out."""
    known = int(arm.get("more", True)), int(arm.get("answers", True))
    path = bench.scratch / "cheap_{}_{}_{}.npz".format(cut, *known)
    if not path.exists():
        made = {"title": vectors(bench, "title")}
        save(path, signals(bench.data, bench.at(cut, arm), made))
    without = tuple(arm.get("without", ()))
    return {
        name: matrix
        for name, matrix in np.load(path).items()
        if not (without and name.startswith(without))
    }


def rough(found: Mapping[str, Scores]) -> Scores:
    """Return the first score by which the items are chosen that weights are fitted on."""
    total = sum(found[name] / blend.deviation(found[name]) for name in _ROUGH)
    return np.asarray(total, np.float32)


def stack(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Fit a blend at cut ``fit``; cross-fitted there, or applied to the test questions.

    ``arms`` names what is stacked on the cheap signals: ``{arm at fit: arm at test}``.
    """
    start, arms = time.process_time(), arm.get("arms", {})
    known = bench.at("fit", arm)
    targets = [q.target for q in known.questions]
    found = cheap(bench, "fit", arm)
    order = rough(found)
    found.update({name: bench.scores(name) for name in arms})
    sample, ridge = blend.sample(found, targets, order), arm.get("ridge", 1.0)
    if arm.get("cut", "fit") == "fit":
        users = [q.user for q in known.questions]
        scores = blend.crossfit(found, sample, users, ridge=ridge)
        bench.note(arm, scores, time.process_time() - start)
        return
    del found
    model = blend.fit(sample, ridge=ridge)
    asked = cheap(bench, "test", arm)
    asked.update({name: bench.scores(other) for name, other in arms.items()})
    scaled = model.weights * sample.scales
    weights = {n: round(float(w), 3) for n, w in zip(model.names, scaled, strict=True)}
    bench.note(arm, model.score(asked), time.process_time() - start, weights=weights)


KINDS = {"frozen": frozen, "tuned": tuned, "upper": raised, "blend": stack}


def run(bench: Bench, plan: Mapping[str, Any]) -> None:
    """Run every arm that is not done and that time allows, in the plan's order."""
    done = set()
    results = bench.out / "results.jsonl"
    if results.exists():
        done = {json.loads(line)["name"] for line in results.read_text().splitlines()}
        bench.gains.update(np.load(bench.out / "gains.npz"))
    for arm in plan["arms"]:
        if arm["name"] in done:
            continue
        if time.monotonic() > bench.until:
            print(f"no time for {arm['name']}", flush=True)
            continue
        try:
            KINDS[arm["kind"]](bench, arm)
        except Exception as error:  # one arm's failure must not cost the machine's time
            print(f"{arm['name']} failed: {type(error).__name__}: {error}", flush=True)


def shrunk(data: Published) -> Published:
    """Cut the questions for a rehearsal; no test question is asked in one."""
    return Published(data.items, data.valid[:240], data.valid[240:340])


def main() -> None:
    """Read the command line and run the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path(gettempdir()) / "quality-scratch")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.scratch.mkdir(parents=True, exist_ok=True)
    data = published.load(options.folder / "data")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    bench = Bench(
        options.folder, options.out, options.scratch, device,
        shrunk(data) if options.tiny else data, time.monotonic() + options.seconds, options.tiny,
    )  # fmt: skip
    print(device, asdict(SequenceSettings()), flush=True)
    run(bench, json.loads(options.plan.read_text()))


if __name__ == "__main__":
    main()
