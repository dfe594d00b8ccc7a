"""Train a RecBole model as ``trec score`` does, then rank the whole catalogue with it.

    python recbole_full.py TASK.json WORKER.py OUT.npz

Runs under RecBole's own interpreter.  ``TASK.json`` and the files beside it are those of
``--scorer recbole:MODEL``; the questions of split test name no candidates.  ``OUT.npz`` gets
``scores`` [questions, items], ``items`` (tokens) and the trial that was chosen.
"""

import importlib.util
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_BLOCK = 512


def load_worker(path: str) -> Any:
    """Import the worker from its file: its package is not installed here."""
    spec = importlib.util.spec_from_file_location("worker", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def everything(trial: Any, questions: list[dict[str, Any]]) -> np.ndarray:
    """Score all items for every question, zeros where its history is unknown."""
    import torch
    from recbole.data.interaction import Interaction

    trial.model.eval()
    scores = np.zeros((len(questions), trial.data.item_num), np.float32)
    known = [n for n, q in enumerate(questions) if trial.can_answer(q)]
    for start in range(0, len(known), _BLOCK):
        part = known[start : start + _BLOCK]
        histories = [
            [trial.items[i] for i in questions[n]["history"] if i in trial.items][-trial.length :]
            for n in part
        ]
        padded = [history + [0] * (trial.length - len(history)) for history in histories]
        fields = {
            "item_id_list": torch.tensor(padded),
            "item_length": torch.tensor(list(map(len, histories))),
        }
        with torch.no_grad():
            found = trial.model.full_sort_predict(Interaction(fields).to(trial.device))
        scores[part] = found.view(len(part), -1).float().cpu().numpy()
    return scores


def main() -> None:
    """Train every setting, keep the best on validation, and write its scores."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    worker, out = load_worker(sys.argv[2]), Path(sys.argv[3])
    sys.argv = sys.argv[:1]
    logging.disable(logging.WARNING)
    lines = (Path(task["data"]) / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line) for line in lines]
    valid = [q for q in questions if q["split"] == "valid"]
    asked = [q for q in questions if q["split"] == "test"]
    best, chosen, scores, trials = -1.0, {}, np.zeros((0, 0)), []
    items: list[str] = []
    for number, settings in enumerate(task["grid"], 1):
        started = time.process_time()
        trial = worker.Trial(task, settings)
        value, epoch = worker.train(trial, task, valid, f"{number} of {len(task['grid'])}")
        spent = round(time.process_time() - started, 1)
        trials.append({"settings": settings, "valid_mrr": value, "epoch": epoch, "seconds": spent})
        if value > best:
            best, chosen, scores = value, settings, everything(trial, asked)
            items = list(trial.data.field2id_token["item_id"])
    told = json.dumps({"chosen": chosen, "trials": trials})
    np.savez_compressed(out, scores=scores, items=np.array(items), told=np.array(told))


if __name__ == "__main__":
    main()
