"""Settings of the sequence model; imports no torch, so that a command line can read them."""

from dataclasses import dataclass
from typing import Annotated

from trec_cli.core.options import Option
from trec_cli.core.errors import UsageError

PANEL = "Sequence model"


@dataclass(frozen=True)
class SequenceSettings:
    """Size and training of a :class:`~trec_cli.sequence.model.SequenceModel`."""

    width: Annotated[int, Option("Size of item and user vectors.", panel=PANEL, minimum=4)] = 128
    layers: Annotated[int, Option("Transformer blocks.", panel=PANEL, minimum=0)] = 2
    heads: Annotated[int, Option("Attention heads; they divide --width.", panel=PANEL, minimum=1)] = 2
    dropout: Annotated[float, Option("Share of activations left out.", panel=PANEL, minimum=0)] = 0.3
    item_dropout: Annotated[
        float, Option("Share of history items left out in training.", panel=PANEL, minimum=0)
    ] = 0.1
    ids: Annotated[
        bool, Option("Learn a vector per known item beside its text.", panel=PANEL)
    ] = False
    temperature: Annotated[float, Option("Divides the cosines.", panel=PANEL)] = 0.07
    max_history: Annotated[int, Option("Newest items that are read.", panel=PANEL, minimum=1)] = 50
    epochs: Annotated[int, Option("Passes over the histories.", panel=PANEL, minimum=1)] = 30
    batch: Annotated[int, Option("Histories a step.", panel=PANEL, minimum=1)] = 128
    learning_rate: Annotated[float, Option("Peak; warms up, then falls to 0.", panel=PANEL)] = 2e-3
    weight_decay: Annotated[float, Option("Of AdamW.", panel=PANEL, minimum=0)] = 0.01

    def __post_init__(self) -> None:
        """Check what single bounds cannot.

        Raises:
            UsageError: the heads do not divide the width, or a share is not below 1.
        """
        if self.width % self.heads:
            raise UsageError(f"--width {self.width} is no multiple of --heads {self.heads}")
        for flag, share in (("--dropout", self.dropout), ("--item-dropout", self.item_dropout)):
            if share >= 1:
                raise UsageError(f"{flag} {share}: must be below 1")
        if self.temperature <= 0 or self.learning_rate <= 0:
            raise UsageError("--temperature and --learning-rate must be above 0")
