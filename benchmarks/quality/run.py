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
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality import blend, published
from benchmarks.quality.encoder import Encoder, Tuning, load_encoder, tune
from benchmarks.quality.published import Cut, Knowledge, Published
from benchmarks.quality.signals import signals
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import score_all, train

Scores = NDArray[np.float32]
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
        return self.data.at(arm.get("cut", "fit"), more=arm.get("more", True))

    def note(self, arm: Mapping[str, Any], scores: Scores, seconds: float, **more: Any) -> None:
        """Measure scores and keep figures and matrix."""
        questions = self.known(arm).questions
        gains = published.gains(scores, [q.target for q in questions])
        users = [q.user for q in questions]
        line = {
            **arm,
            "ndcg@10": published.interval(gains[0], users),
            "hr@10": published.interval(gains[1], users),
            "seconds": round(seconds, 1),
            **more,
        }
        part = self.scratch / f"{arm['name']}.part.npy"
        np.save(part, scores.astype(np.float32))
        part.rename(self.scratch / f"{arm['name']}.npy")
        self.gains[arm["name"]] = np.stack(gains).astype(np.float32)
        np.savez_compressed(self.out / "gains.npz", **self.gains)
        with (self.out / "results.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def scores(self, name: str) -> Scores:
        """Return the matrix of an arm, perhaps one that another process is running."""
        found: Scores = np.load(waited(self.scratch / f"{name}.npy", self.until + 30))
        return found


def waited(path: Path, until: float = math.inf) -> Path:
    """Wait until another process has written a file."""
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} has not come")
        time.sleep(0.2)
    return path


def vectors(bench: Bench, *, make: bool = False) -> dict[str, NDArray[np.float32]]:
    """Return the frozen MiniLM vectors of titles and of full texts."""
    path = bench.scratch / "vectors.npz"
    if make and not path.exists():
        made = {}
        for text in ("title", "full"):
            encoder = small(bench, load_encoder("minilm", bench.folder, text, bench.device))
            made[text] = raw(encoder)
        np.savez(path.with_suffix(".part.npz"), **made)
        path.with_suffix(".part.npz").rename(path)
    return dict(np.load(waited(path)))


def small(bench: Bench, encoder: Encoder) -> Encoder:
    """In a rehearsal, leave the encoder few layers and short texts."""
    if bench.tiny:
        layers = getattr(encoder.model, "encoder", encoder.model)
        name = "layer" if hasattr(layers, "layer") else "layers"
        setattr(layers, name, getattr(layers, name)[:2])
        encoder.rows = [row[:6] for row in encoder.rows]
        encoder.whiten(1e-3)
    return encoder


def raw(encoder: Encoder) -> NDArray[np.float32]:
    """Return the vectors before whitening."""
    inverse = torch.linalg.pinv(encoder.map)
    made: NDArray[np.float32] = (encoder.all_texts() @ inverse + encoder.mean).cpu().numpy()
    return made


def whitened(vectors: NDArray[np.float32], floor: float = 1e-3) -> NDArray[np.float32]:
    """Give unit vectors a covariance near the unit matrix, at mean length sqrt(size) / 8."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = units - units.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    variance = values**2 / len(units)
    mapped = centred @ (axes.T / np.sqrt(variance + floor * variance[0]))
    scale = np.sqrt((mapped**2).sum(axis=1).mean())
    return np.asarray(mapped / scale * np.sqrt(units.shape[1]) / 8, np.float32)


def rows_of(known: Knowledge) -> list[list[int]]:
    """Return the histories in an order that depends on users alone."""
    return [list(history) for _, history in sorted(known.histories.items())]


def frozen(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Train sequence models over frozen vectors; several seeds are averaged."""
    start, known, made = time.monotonic(), bench.known(arm), vectors(bench)
    texts = np.concatenate(
        [whitened(made[name]) for name in arm.get("text", "title").split("+")], 1
    )
    tensor = torch.from_numpy(texts).to(bench.device)
    settings = SequenceSettings(**arm.get("settings", {}))
    total = np.zeros((len(known.questions), len(texts)), np.float32)
    for seed in arm.get("seeds", [0]):
        model = train(tensor, rows_of(known), settings, seed, known=len(texts))
        total += scored(model, tensor, known)
    bench.note(arm, total / len(arm.get("seeds", [0])), time.monotonic() - start)


def scored(model: SequenceModel, texts: torch.Tensor, known: Knowledge) -> Scores:
    """Return log-probabilities of all items for all questions."""
    return np.concatenate(list(score_all(model, texts, [q.history for q in known.questions])))


def tuned(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Train encoder and sequence model together; note the curve over epochs."""
    start, known = time.monotonic(), bench.known(arm)
    tuning = Tuning(**arm.get("tuning", {}))
    kind = arm.get("encoder", "minilm")
    settings = SequenceSettings(**arm.get("settings", {}))
    curve: list[float] = []
    total: Scores | None = None
    for seed in arm.get("seeds", [0]):
        torch.manual_seed(seed)
        encoder = small(bench, load_encoder(kind, bench.folder, tuning.text, bench.device))

        def measure(_epoch: int, head: SequenceModel, texts: torch.Tensor) -> None:
            if arm.get("cut", "fit") == "fit":
                found = published.gains(
                    scored(head, texts, known), [q.target for q in known.questions]
                )
                curve.append(round(float(found[0].mean()), 5))

        head, texts = tune(
            encoder, rows_of(known), settings, tuning, seed, chunks=_CHUNKS[kind],
            cached=kind == "smollm", after_epoch=measure, until=bench.until,
        )  # fmt: skip
        found = scored(head, texts, known)
        total = found if total is None else total + found
    if total is None:
        raise SystemExit(f"{arm['name']} has no seeds")
    memory = torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else 0.0
    bench.note(
        arm, total / len(arm.get("seeds", [0])), time.monotonic() - start, curve=curve,
        gib=round(memory, 1),
    )  # fmt: skip


def cheap_path(bench: Bench, cut: Cut, more: bool) -> Path:
    """Return where the cheap signals of a cut are kept."""
    return bench.scratch / f"cheap_{cut}_{int(more)}.npz"


def make_cheap(bench: Bench, cut: Cut, more: bool, made: Mapping[str, Any]) -> None:
    """Compute the cheap signals of a cut."""
    known = bench.data.at(cut, more=more)
    found = signals(bench.data, known, made)
    path = cheap_path(bench, cut, more)
    np.savez(path.with_suffix(".part.npz"), **{n: m.astype(np.float32) for n, m in found.items()})
    path.with_suffix(".part.npz").rename(path)
    print("cheap", cut, more, {n: [float(m.min()), float(m.max())] for n, m in found.items()})


def cheap(bench: Bench, cut: Cut, more: bool, without: Sequence[str] = ()) -> dict[str, Scores]:
    """Wait for the cheap signals of a cut and read them."""
    found = dict(np.load(waited(cheap_path(bench, cut, more), bench.until + 60)))
    return {n: m for n, m in found.items() if not any(n.startswith(w) for w in without)}


def stack(bench: Bench, arm: Mapping[str, Any]) -> None:
    """Fit a blend at cut ``fit``; cross-fitted there, or applied to the test questions.

    ``arms`` names what is stacked on the cheap signals: ``{arm at fit: arm at test}``.
    """
    start, more, arms = time.monotonic(), arm.get("more", True), arm.get("arms", {})
    fit_known = bench.data.at("fit", more=more)
    found = cheap(bench, "fit", more, arm.get("without", ())) if arm.get("cheap", True) else {}
    found.update({name: bench.scores(name) for name in arms})
    targets = [q.target for q in fit_known.questions]
    ridge = arm.get("ridge", 1.0)
    device = bench.device
    if arm.get("cut", "fit") == "fit":
        users = [q.user for q in fit_known.questions]
        scores = blend.crossfit(found, targets, users, ridge=ridge, device=device)
        bench.note(arm, scores, time.monotonic() - start)
        return
    model = blend.fit(found, targets, ridge=ridge, device=device)
    asked = cheap(bench, "test", more, arm.get("without", ())) if arm.get("cheap", True) else {}
    asked.update({name: bench.scores(arms[name]) for name in arms})
    weights = dict(zip(model.names, [round(float(w), 4) for w in model.weights], strict=True))
    bench.note(arm, model.score(asked), time.monotonic() - start, weights=weights)


KINDS = {"frozen": frozen, "tuned": tuned, "blend": stack}


def run(bench: Bench, plan: Mapping[str, Any]) -> None:
    """Run every arm that is not done and that time allows, in the plan's order."""
    done = set()
    results = bench.out / "results.jsonl"
    if results.exists():
        done = {json.loads(line)["name"] for line in results.read_text().splitlines()}
        bench.gains.update(np.load(bench.out / "gains.npz"))
    made = vectors(bench, make="cheap" in plan)
    context = multiprocessing.get_context("fork" if bench.device.type == "cpu" else "spawn")
    workers = []
    for cut, more in plan.get("cheap", []):
        if not cheap_path(bench, cut, more).exists():
            worker = context.Process(target=make_cheap, args=(bench, cut, more, made))
            worker.start()
            workers.append(worker)
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
    for worker in workers:
        worker.join()


def shrunk(data: Published) -> Published:
    """Cut the questions for a rehearsal."""
    return Published(data.items, data.valid[:240], data.test[:100])


def main() -> None:
    """Read the command line and run the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/quality-scratch"))
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
