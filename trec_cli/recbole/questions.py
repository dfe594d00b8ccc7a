"""What a trained model is asked, and how its answers become scores of all candidates.

A model knows only items that it was trained on.  Others ("cold") are kept from it, both in
histories and among candidates, and get one score below all others: they tie.  So do those
that it answers with None.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from trec_cli.core.records import Example
from trec_cli.recbole.atomic import LONGEST, item_token, user_token

Answer = Sequence[float | None] | None
"""A score, or None, for each warm candidate; None where the model could say nothing."""


@dataclass(frozen=True)
class RecboleQuestion:
    """One example as a model sees it.

    Attributes:
        example: as it was read.
        warm: the candidates that the model knows, in their order.
        history: the history items that it knows, oldest first, at most ``LONGEST``.
    """

    example: Example
    warm: list[str]
    history: list[str]

    @classmethod
    def of(cls, example: Example, trained: Collection[str]) -> "RecboleQuestion":
        """Leave out of an example what the model does not know."""
        warm = [item for item in example.candidates if item in trained]
        history = [item for item in example.history if item in trained]
        return cls(example, warm, history[-LONGEST:])

    @property
    def cold(self) -> int:
        """How many candidates the model does not know."""
        return len(self.example.candidates) - len(self.warm)

    @property
    def cold_positives(self) -> int:
        """How many of them are right."""
        return len(set(self.example.positives) - set(self.warm))

    def as_dict(self) -> dict[str, object]:
        """Return the line of `questions.jsonl`; what is right is told for split valid alone."""
        right = set(self.example.positives) if self.example.split == "valid" else set()
        return {
            "example_id": self.example.example_id,
            "split": self.example.split,
            "user": user_token(self.example.user_id),
            "history": list(map(item_token, self.history)),
            "candidates": list(map(item_token, self.warm)),
            "positives": [index for index, item in enumerate(self.warm) if item in right],
            "cold": self.cold,
            "cold_positives": self.cold_positives if right else 0,
        }

    def scores(self, answer: Answer) -> list[float]:
        """Return one score per candidate of the example, in its order.

        Without an answer (no known history, an unknown user) all candidates tie.

        Raises:
            ValueError: there are more or fewer scores than known candidates.
        """
        if answer is None:
            return [0.0] * len(self.example.candidates)
        pairs = zip(self.warm, answer, strict=True)
        known = {item: score for item, score in pairs if score is not None}
        lowest = min(known.values(), default=1.0) - 1.0
        return [known.get(item, lowest) for item in self.example.candidates]

    def unknown(self, answer: Answer) -> set[str]:
        """Return the candidates that are cold, or answered with None."""
        known = zip(self.warm, answer or [], strict=False)
        unsaid = {item for item, score in known if score is None}
        return unsaid | set(self.example.candidates) - set(self.warm)


@dataclass(frozen=True)
class Unknown:
    """How much a model did not know.

    Attributes:
        candidates, positives: all of the examples.
        cold_candidates, cold_positives: those of them that were never in training.
        silent: examples about which the model could say nothing.
    """

    candidates: int
    positives: int
    cold_candidates: int
    cold_positives: int
    silent: int

    @classmethod
    def count(cls, questions: Sequence[RecboleQuestion], answers: Sequence[Answer]) -> "Unknown":
        """Count over all questions."""
        unknown = [q.unknown(answer) for q, answer in zip(questions, answers, strict=True)]
        return cls(
            sum(len(question.example.candidates) for question in questions),
            sum(len(question.example.positives) for question in questions),
            sum(map(len, unknown)),
            sum(
                len(items & set(question.example.positives))
                for question, items in zip(questions, unknown, strict=True)
            ),
            sum(answer is None for answer in answers),
        )

    def __str__(self) -> str:
        """Summarise the result in a sentence."""
        return (
            f"never in training, and so tied at the lowest score: {self.cold_candidates} of "
            f"{self.candidates} candidates, {self.cold_positives} of {self.positives} positives; "
            f"{self.silent} examples without anything that the model knows"
        )


def ask(examples: Iterable[Example], trained: Collection[str]) -> Iterator[RecboleQuestion]:
    """Make a question of every example."""
    return (RecboleQuestion.of(example, trained) for example in examples)
