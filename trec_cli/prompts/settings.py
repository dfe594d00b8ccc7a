"""What decides a prompt of the recommender; read by the commands without importing torch."""

from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from trec_cli.core.errors import UsageError
from trec_cli.core.options import Option

PANEL = "Prompt"

Ask = Literal["answer", "text"]

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
        ask: for the answer yes or no, or how likely the candidate's text is as the next line of
            the history (docs/score.md).
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
    ask: Annotated[
        Ask,
        Option(
            "Ask for the answer yes or no, or how likely the candidate's text follows the "
            "history (show a title: --attributes title).",
            panel=PANEL,
        ),
    ] = "answer"

    def __post_init__(self) -> None:
        """Refuse a chat template around a text that is continued.

        Raises:
            UsageError: both were asked for.
        """
        if self.ask == "text" and self.chat:
            raise UsageError(
                "--chat-template does not go with --ask text: the candidate continues the "
                "history, and nobody answers"
            )

    def recorded(self) -> dict[str, Any]:
        """Return the settings as manifests hold them; those of before ``ask`` stay equal."""
        values = asdict(self)
        return values if self.ask != "answer" else {k: v for k, v in values.items() if k != "ask"}


def adapter_name(mode: str, ask: Ask) -> str:
    """Name an adapter, and the system that scores with it."""
    return mode if ask == "answer" else f"{mode}-text"
