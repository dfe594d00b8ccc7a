"""The frame around a user message: the model's chat template, or nothing but BOS."""

from dataclasses import dataclass
from typing import Any

from trec_cli.errors import ModelError

_PLACE = "\ue000trec\ue000"


@dataclass(frozen=True)
class Frame:
    """Token ids before and after the message; the model's answer follows ``tail``.

    Attributes:
        head: BOS, system message and the opening of the user's turn.
        tail: the closing of the user's turn and the opening of the assistant's;
            empty where the model has no chat template.
        chat: whether a chat template was used.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    chat: bool


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Encode text without special tokens; every part of a prompt goes through here."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def make_frame(tokenizer: Any, *, chat: bool | None = None) -> Frame:
    """Build the frame; ``chat`` None uses the chat template where the tokenizer has one.

    Raises:
        ModelError: a chat template is asked for and there is none, or it is unusable.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_template:
        raise ModelError("the model has no chat template; leave --chat-template out")
    if chat is False or not has_template:
        return Frame(tuple(tokenizer("")["input_ids"]), (), chat=False)
    messages = [{"role": "user", "content": _PLACE}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except Exception as error:
        raise ModelError(f"the model's chat template cannot be used: {error}") from error
    head, found, tail = text.partition(_PLACE)
    if not found:
        raise ModelError("the model's chat template does not show the user's message")
    return Frame(
        tuple(encode_text(tokenizer, head)), tuple(encode_text(tokenizer, tail)), chat=True
    )
