"""Train one RecBole model on exported files and score candidates with it.

    python worker.py TASK.json

Runs under the interpreter of RecBole's own environment and imports nothing of ``trec_cli``.
It reads only the training rows and the questions, whose right answers are told for split
valid alone.  Every setting of the grid is one trial, trained until the validation MRR
has not risen for ``patience`` epochs; a finished trial is kept as ``trial-N.json``, so a
second run goes on with the next.  Its model is kept where the task says, and found again by
whoever asks it other questions.  One JSON line per epoch on stdout tells how far it is.
"""

import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
warnings.filterwarnings("ignore")

_BATCH = 4096
_USAGE = 2
"""Exit code where the task itself is wrong."""
Question = dict[str, Any]
Answer = list[float | None] | None
"""One score per candidate, None for one that is unknown; None where nothing can be said."""


class Trial:
    """One model with one choice of settings."""

    def __init__(self, task: dict[str, Any], chosen: dict[str, Any]) -> None:
        """Read the training rows and build model and trainer."""
        from recbole.config import Config
        from recbole.data import create_dataset
        from recbole.data.dataloader import TrainDataLoader
        from recbole.data.utils import create_samplers
        from recbole.utils import get_trainer, init_seed

        self.sequential = is_sequential(task["model"])
        settings = base_settings(task, self.sequential) | chosen
        config = Config(model=task["model"], dataset=settings["dataset"], config_dict=settings)
        init_seed(config["seed"], config["reproducibility"])
        self.data = create_dataset(config)
        built = self.data.build()
        if task["model"] == "DIEN":
            add_negative_histories(built[0], self.data, config["seed"])
        sampler = create_samplers(config, self.data, built)[0]
        self.train_data = TrainDataLoader(config, built[0], sampler, shuffle=True)
        self.model = get_model(task["model"])(config, built[0]).to(config["device"])
        self.trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, self.model)
        self.items = self.data.field2token_id["item_id"]
        self.length = config["MAX_ITEM_LIST_LENGTH"]
        self.device = config["device"]

    def epoch(self, number: int) -> None:
        """Go once over the training rows."""
        self.trainer._train_epoch(self.train_data, number, show_progress=False)

    def answers(self, questions: list[Question]) -> list[Answer]:
        """Score the candidates of every question, as far as the model knows them.

        Of histories it knows less than of users: an item that is only ever the first of a
        history stands in none of its rows.
        """
        import torch

        # The models squeeze their scores through a sigmoid, which rounds large ones to ties.
        self.model.sigmoid = torch.nn.Identity()
        self.model.eval()
        asked = [question for question in questions if self.can_answer(question)]
        pairs = [(q, item) for q in asked for item in q["candidates"] if item in self.items]
        with torch.no_grad():
            parts = [self._predict(pairs[n : n + _BATCH]) for n in range(0, len(pairs), _BATCH)]
        self.model.sigmoid = torch.nn.Sigmoid()
        scores = iter([score for part in parts for score in part])
        return [
            [next(scores) if item in self.items else None for item in question["candidates"]]
            if self.can_answer(question)
            else None
            for question in questions
        ]

    def can_answer(self, question: Question) -> bool:
        """Tell whether the model has something to go by: a history, or a known user."""
        if self.sequential:
            return any(item in self.items for item in question["history"])
        return question["user"] in self.data.field2token_id["user_id"]

    def _predict(self, pairs: list[tuple[Question, str]]) -> list[float]:
        import torch
        from recbole.data.interaction import Interaction

        users = self.data.field2token_id["user_id"]
        fields = {
            "user_id": torch.tensor([users.get(question["user"], 0) for question, _ in pairs]),
            "item_id": torch.tensor([self.items[item] for _, item in pairs]),
        }
        if self.sequential:
            histories = [
                [self.items[item] for item in question["history"] if item in self.items]
                for question, _ in pairs
            ]
            newest = [history[-self.length :] for history in histories]
            padded = [history + [0] * (self.length - len(history)) for history in newest]
            fields["item_id_list"] = torch.tensor(padded)
            fields["item_length"] = torch.tensor(list(map(len, newest)))
            # DIEN asks for them even where it does not learn; they do not change the score.
            fields["neg_item_id_list"] = torch.tensor(padded)
        interaction = Interaction(fields).to(self.device)
        found: list[float] = self.model.predict(interaction).double().cpu().view(-1).tolist()
        return found


def get_model(name: str) -> Any:
    """Give the class of a model; ends the program where RecBole has none of the name."""
    from recbole.utils import get_model as find

    try:
        return find(name)
    except (ValueError, ImportError):  # what it does not know it looks for in other libraries
        sys.stderr.write(f"RecBole has no model {name!r}\n")
        sys.exit(_USAGE)


def is_sequential(name: str) -> bool:
    """Tell models that read a history from those that know users."""
    from recbole.model.abstract_recommender import GeneralRecommender, SequentialRecommender

    model = get_model(name)
    if issubclass(model, SequentialRecommender):
        return True
    if issubclass(model, GeneralRecommender):
        return False
    sys.exit(f"{name} is neither a sequential nor a general model of RecBole")


def base_settings(task: dict[str, Any], sequential: bool) -> dict[str, Any]:
    """Give what all trials share."""
    name = "sequential" if sequential else "general"
    place = Path(task["data"])
    columns = ["user_id", "item_id", *(["item_id_list"] if sequential else [])]
    settings = {
        "dataset": name,
        "data_path": str(place),
        # Three times the training rows: no other file is read.
        "benchmark_filename": ["train", "train", "train"],
        "load_col": {"inter": columns},
        "seed": task["seed"],
        "use_gpu": task["use_gpu"],
        "state": "ERROR",
        "show_progress": False,
        "checkpoint_dir": str(place / "saved"),
        "train_batch_size": task["batch_size"],
        # Its own evaluation is never run, but its configuration is checked.
        "eval_args": {"split": None, "group_by": "user", "order": "TO", "mode": "full"},
        "metrics": ["MRR"],
        "valid_metric": "MRR@10",
        **task["fixed"],
    }
    if sequential:
        settings["alias_of_item_id"] = ["item_id_list"]
        settings["MAX_ITEM_LIST_LENGTH"] = longest(place / name / f"{name}.train.inter")
    if uses_all_items(task["model"]):
        settings["train_neg_sample_args"] = None
    return settings


def longest(file: Path) -> int:
    """Give the length of the longest history among the training rows."""
    with file.open(encoding="utf-8") as lines:
        next(lines)
        lengths = [len(line.split("\t")[1].split()) for line in lines]
    if not lengths:
        sys.exit("no item in training has another before it: there is no sequence to learn from")
    return max(lengths)


def uses_all_items(name: str) -> bool:
    """Tell models whose loss is over the whole catalogue, which draw no negatives."""
    import recbole
    import yaml

    file = Path(recbole.__file__).parent / "properties" / "model" / f"{name}.yaml"
    return bool((yaml.safe_load(file.read_text()) or {}).get("loss_type") == "CE")


def add_negative_histories(part: Any, data: Any, seed: int) -> None:
    """Draw the items not taken that DIEN learns from, which RecBole leaves out of presets."""
    import torch
    from recbole.data.interaction import Interaction

    taken = part.inter_feat["item_id_list"]
    draws = torch.Generator().manual_seed(seed)
    drawn = torch.randint(1, data.item_num, taken.shape, generator=draws)
    part.inter_feat.update(Interaction({"neg_item_id_list": drawn * (taken > 0)}))


def reciprocal_rank(question: Question, scores: Answer) -> float:
    """Give 1 / rank of the best positive; ties stand at the middle of their places.

    What the model does not know ties below all else.
    """
    if scores is None:
        everything: int = len(question["candidates"]) + question["cold"]
        return 2.0 / (1 + everything)
    known = [score for score in scores if score is not None]
    unknown = question["cold"] + len(scores) - len(known)
    right = [scores[place] for place in question["positives"]]
    ranks = [
        sum(s > score for s in known) + (1 + sum(s == score for s in known)) / 2
        for score in right
        if score is not None
    ]
    if question["cold_positives"] or None in right:
        ranks.append(len(known) + (1 + unknown) / 2)
    return 1.0 / float(min(ranks))


def train(trial: Trial, task: dict[str, Any], valid: list[Question], label: str) -> Any:
    """Train until validation stops rising; give the best value and its epoch.

    The model is left as it was at its best.
    """
    best, best_epoch, state = -1.0, 0, {}
    for epoch in range(1, task["epochs"] + 1):
        trial.epoch(epoch)
        pairs = zip(valid, trial.answers(valid), strict=True)
        value = sum(reciprocal_rank(*pair) for pair in pairs) / len(valid)
        told = json.dumps({"trial": label, "epoch": epoch, "valid_mrr": value})
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        if value > best:
            best, best_epoch = value, epoch
            state = {name: value.clone() for name, value in trial.model.state_dict().items()}
        if epoch - best_epoch >= task["patience"]:
            break
    trial.model.load_state_dict(state)
    return best, best_epoch


_STATE, _OTHER = "state/", "other/"
"""Before the names of a model's tensors in its file."""


def learnt(model: Any) -> dict[str, Any]:
    """Collect the tensors of a model by name, those that stand beside its state included.

    Pop counts in such a one.  What else models have there they make of the data when built.
    """
    import torch

    state = {f"{_STATE}{name}": value for name, value in model.state_dict().items()}
    others = {f"{_OTHER}{name}": value for name, value in model.other_parameter().items()}
    return {name: one for name, one in (state | others).items() if torch.is_tensor(one)}


def load(trial: Trial, file: Path) -> Any:
    """Load the model of an earlier run; give its best value and epoch, None where there is none.

    A file that does not fit leaves the model as it is.
    """
    import numpy as np
    import torch

    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
            found = {name: torch.from_numpy(kept[name]) for name in kept.files}
        best, epoch = float(found.pop("valid_mrr")), int(found.pop("epoch"))
    except Exception:  # not there or damaged, for which there are errors of many kinds
        return None
    state, others = (
        {name.removeprefix(kind): found[name] for name in found if name.startswith(kind)}
        for kind in (_STATE, _OTHER)
    )
    wanted = {name: value.shape for name, value in trial.model.state_dict().items()}
    if {name: value.shape for name, value in state.items()} != wanted:
        return None
    trial.model.load_state_dict(state)
    for name, value in others.items():
        setattr(trial.model, name, value.to(trial.device))
    return best, epoch


def keep(trial: Trial, best: float, epoch: int, file: Path, temporary: Path) -> None:
    """Write the model, whole or not at all; the temporary file is this run's alone."""
    import numpy as np

    arrays = {name: value.detach().cpu().numpy() for name, value in learnt(trial.model).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with temporary.open("wb") as stream:
        np.savez(stream, valid_mrr=best, epoch=epoch, **arrays)
    temporary.replace(file)


def run_trial(task: dict[str, Any], number: int, questions: list[Question], out: Path) -> None:
    """Train one choice of settings and write its result, whole or not at all."""
    started, file = time.time(), Path(task["models"][number])
    trial = Trial(task, task["grid"][number])
    valid = [question for question in questions if question["split"] == "valid"]
    asked = [question for question in questions if question["split"] == task["split"]]
    found = load(trial, file)
    best, epoch = found or train(trial, task, valid, f"{number + 1} of {len(task['grid'])}")
    if not found:
        keep(trial, best, epoch, file, out.with_suffix(".model"))
    result = {
        "settings": task["grid"][number],
        "valid_mrr": best,
        "epoch": epoch,
        "parameters": sum(p.numel() for p in trial.model.parameters()),
        "seconds": round(time.time() - started, 1),
        "kept": bool(found),
        "answers": trial.answers(asked),
    }
    temporary = out.with_suffix(".tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    temporary.replace(out)


def main() -> None:
    """Run all trials of a task that have no result yet."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    place = Path(task["data"])
    sys.argv = sys.argv[:1]
    logging.disable(logging.WARNING)
    with (place / "questions.jsonl").open(encoding="utf-8") as lines:
        questions = [json.loads(line) for line in lines]
    for number in range(len(task["grid"])):
        out = place / f"trial-{number}.json"
        if not out.exists():
            run_trial(task, number, questions, out)


if __name__ == "__main__":
    main()
