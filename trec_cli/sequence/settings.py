"""Settings of the sequence model; imports no torch, so that a command line can read them."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from trec_cli.core.errors import UsageError
from trec_cli.core.options import Option

PANEL = "Sequence model (--scorer sequence)"

USUAL_MODELS = 3
"""A few are nearly as good as many, and each takes time."""
MOST_ITEMS = 100_000
"""Items up to which a training takes minutes; each step moves the learnt vectors of all."""
SequenceModels = Annotated[
    int | None,
    Option(
        "Sequence models, one per seed, as one more signal of the blend (docs/sequence.md).",
        panel="Signals of the blend",
        minimum=0,
        maximum=20,
        default_text=f"{USUAL_MODELS} with --embedder and up to {MOST_ITEMS:,} items, else none",
    ),
]


def models_of(chosen: int | None, *, embedded: bool, items: int) -> int:
    """Return how many sequence models the blend has: as chosen, else some over text vectors.

    Vectors of term counts hold little that the blend's other signals do not, and of a very
    large catalogue nobody trains by accident.
    """
    if chosen is not None:
        return chosen
    return USUAL_MODELS if embedded and items <= MOST_ITEMS else 0


_WORTH_DRAWING = 4
"""A softmax runs over the whole catalogue up to so many times what would be drawn of it."""


@dataclass(frozen=True, kw_only=True)
class SequenceSettings:
    """Size and training of a :class:`~trec_cli.sequence.model.SequenceModel`.

    Attributes:
        width: size of item and user vectors.
        layers: transformer blocks.
        heads: of their attention; they divide the width.
        ids: whether each item of the catalogue has a learnt vector beside its text.
        dropout: share of activations left out in training.
        item_dropout: share of history items hidden in training.
        temperature: divides the cosine of user and item.
        max_history: newest items that are read.
        epochs: passes over the histories.
        step_targets: targets of a step, about: long histories teach more each, so that fewer
            of them make a step.
        learning_rate: peak; it rises for a tenth of the steps and falls to 0.
        weight_decay: of AdamW.
        negatives: items drawn for the softmax of a step, where the catalogue has more than
            four times as many; the step's targets are in it, too.
        most_targets: that are learnt from, an item counted in each pass; where there are more,
            passes are fewer, and then histories.
    """

    width: Annotated[int, Option("Size of item and user vectors.", panel=PANEL, minimum=4)] = 128
    layers: Annotated[int, Option("Transformer blocks.", panel=PANEL, minimum=0)] = 2
    ids: Annotated[
        bool,
        Option("Also learn a vector for each item.", panel=PANEL, names=("--ids/--no-ids",)),
    ] = False
    epochs: Annotated[
        int, Option("Passes over the histories of split train.", panel=PANEL, minimum=1)
    ] = 6
    heads: int = 2
    dropout: float = 0.1
    item_dropout: float = 0.1
    temperature: float = 0.07
    max_history: int = 50
    step_targets: int = 1152
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    negatives: int = 1 << 13
    most_targets: int = 1 << 20

    def draws(self, items: int) -> bool:
        """Check whether the catalogue is too large for a softmax over all of it."""
        return items > _WORTH_DRAWING * self.negatives

    def recorded(self, items: int) -> dict[str, Any]:
        """Return what decides a model of so many items."""
        told = asdict(self)
        if not self.draws(items):
            del told["negatives"]
        return told

    def __post_init__(self) -> None:
        """Check what the bounds of single options cannot.

        Raises:
            UsageError: the heads do not divide the width.
        """
        if self.width % self.heads:
            raise UsageError(f"--width {self.width} is no multiple of {self.heads} (heads)")
