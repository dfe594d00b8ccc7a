"""Examples as files of RecBole, and its scores back, for code of your own around RecBole.

    python scripts/recbole_files.py export RUN FOLDER
    python scripts/recbole_files.py scores RUN answers.jsonl --name MyModel

`trec score --scorer recbole:MODEL` does both, and the training between them, by itself.
See docs/baselines.md for the files.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from trec_cli.core.errors import TrecError
from trec_cli.core.jsonl import FaultList, encode, encode_all, read_examples, read_items, read_lines
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import SPLITS, Scores, Split
from trec_cli.core.runs import RunFolder
from trec_cli.recbole import TRAIN_ON, TrainOn
from trec_cli.recbole.atomic import trained_items, training_rows
from trec_cli.recbole.atomic import write_atomic_files as write_files
from trec_cli.recbole.questions import RecboleQuestion, ask


class Answer(msgspec.Struct):
    """Scores of the candidates of one question, in its order; null for what is not known."""

    example_id: str
    scores: list[float | None] | None


def export(run: RunFolder, folder: Path, split: Split, train_on: TrainOn) -> None:
    """Write atomic files and the questions of ``split`` and valid."""
    items = read_items(run.items)
    examples = read_examples(run.examples, items)
    trained = trained_items(write_files(folder, items, examples, train_on))
    asked = [example for example in examples if example.split in (split, "valid")]
    lines = (encode(question.as_dict()) for question in ask(asked, trained))
    write_lines(folder / "questions.jsonl", lines)


def bring_back(run: RunFolder, answers: Path, name: str, split: Split, train_on: TrainOn) -> Path:
    """Write `scores-NAME.jsonl` from answers to the questions of ``split``.

    Raises:
        InputError: an example has no answer, or one of another length.
    """
    examples = read_examples(run.examples)
    trained = trained_items(training_rows(examples, train_on))
    faults = FaultList(answers)
    asked = [example for example in examples if example.split == split]
    known = {example.example_id for example in examples if example.split in (split, "valid")}
    given = _read_answers(answers, known, faults)
    scores = []
    for question in ask(asked, trained):
        answer = given.get(question.example.example_id)
        if problem := _problem(question, answer):
            faults.add(None, problem, "answer every question of questions.jsonl")
        elif answer is not None:
            scores.append(_scores(question, answer))
    faults.raise_if_any()
    out = run.scores(name)
    settings = {"scorer": name, "split": split, "train_on": train_on}
    provenance = Provenance("scores", settings, [run.examples, answers])
    with provenance.publish(out):
        write_lines(out, encode_all(scores))
    return out


def _read_answers(path: Path, known: set[str], faults: FaultList) -> dict[str, Answer]:
    """Read the answers by example; what was never asked, or is answered twice, is a fault."""
    given: dict[str, Answer] = {}
    for number, answer in read_lines(path, msgspec.json.Decoder(Answer).decode):
        name = answer.example_id
        if name not in known:
            faults.add(number, f"no example {name!r} was asked", "answer questions.jsonl alone")
        elif name in given:
            faults.add(number, f"example {name!r} stands twice", "keep one line per example_id")
        given[name] = answer
    return given


def _problem(question: RecboleQuestion, answer: Answer | None) -> str | None:
    name = repr(question.example.example_id)
    if answer is None:
        return f"has no line of example {name}"
    if answer.scores is not None and len(answer.scores) != len(question.warm):
        return (
            f"has {len(answer.scores)} scores for the {len(question.warm)} candidates "
            f"of example {name}"
        )
    return None


def _scores(question: RecboleQuestion, answer: Answer) -> Scores:
    example = question.example
    return Scores(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        candidates=example.candidates,
        scores=question.scores(answer.scores),
        positives=example.positives,
    )


def main() -> None:
    """Read the command line and do one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("export", "scores"))
    parser.add_argument("run", type=Path)
    parser.add_argument("file", type=Path, help="folder to write, or file with the answers")
    parser.add_argument("--name", default="recbole")
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--train-on", choices=TRAIN_ON, default=TRAIN_ON[0])
    options = parser.parse_args()
    run = RunFolder(options.run)
    try:
        if options.what == "export":
            export(run, options.file, options.split, options.train_on)
            print(f"wrote {options.file}")
        else:
            given = (options.file, options.name, options.split, options.train_on)
            print(f"wrote {bring_back(run, *given)}")
    except TrecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
