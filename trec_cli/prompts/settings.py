"""What decides a prompt of the recommender; read by the commands without importing torch."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated

from trec_cli.core.options import Option

PANEL = "Prompt"

Attributes = Annotated[
    tuple[str, ...] | None,
    Option("Item attributes to show, in order: title,category. All by default.", panel=PANEL),
]
ChatTemplate = Annotated[
    bool | None,
    Option(
        "Frame prompts with the model's chat template; where it has one by default.",
        panel=PANEL,
        names=("--chat-template/--no-chat-template",),
    ),
]
Prompts = Annotated[
    Path | None,
    Option(
        "Folder with your own prompt templates; files not in it are the built-in ones.",
        panel=PANEL,
    ),
]


@dataclass(frozen=True)
class PromptSettings:
    """What decides a prompt, beside the template and the data.

    Attributes:
        recent: how many of the last history items are shown (3 was best in the paper).
        max_length: tokens of a whole prompt.
        candidate_tokens: share of ``max_length`` kept free for candidate and answer.
        attributes: item attributes to show, in this order; None shows all.
        chat: use the model's chat template; None where it has one.
    """

    _: KW_ONLY
    recent: Annotated[
        int, Option("Last history items shown word for word.", panel=PANEL, minimum=0)
    ] = 3
    max_length: Annotated[int, Option("Tokens of one prompt.", panel=PANEL, minimum=1)] = 2048
    candidate_tokens: Annotated[
        int,
        Option(
            "Of these, kept free for candidate and answer, which are never cut.",
            panel=PANEL,
            minimum=1,
        ),
    ] = 512
    attributes: Attributes = None
    chat: ChatTemplate = None
