"""What decides a summary, beside the model and the data."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SummarySettings:
    """Sizes and texts of the prompts.

    Attributes:
        block_size: items in a block (the paper's 5).
        item_tokens: longest line of an item, in tokens.
        summary_tokens: longest summary, in tokens, both written and read again.
        prompt_tokens: longest prompt, in tokens; what does not fit is merged in more levels.
        attributes: item attributes to show, in this order; None shows all.
        chat: use the model's chat template; None where it has one and the prompts are no
            texts to continue.
        domain: whose templates; ``auto`` looks at the items' attributes.
        repair: drop what has no support, ask again, replace; False keeps what models write.
        retries: how often a bad text is asked for again before it is replaced.
    """

    block_size: int = 5
    item_tokens: int = 64
    summary_tokens: int = 64
    prompt_tokens: int = 1024
    attributes: tuple[str, ...] | None = None
    chat: bool | None = None
    domain: str = "auto"
    repair: bool = True
    retries: int = 1
