"""The frame around a user message: the model's chat template, or nothing but BOS."""

from dataclasses import dataclass
from typing import Any

from trec_cli.core.errors import ModelError

# Templates that show today's date would give another prompt on every day. The day is the one
# that Llama's template falls back to; a macro, because only plain data reaches a template.
_SAME_DAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
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
    """Encode text as plain text; every part of a prompt but the frame goes through here.

    An item's text that spells a special token (``<|im_end|>``) must not become one: it
    could close the user's turn and answer in the model's place.
    """
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
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
        return Frame(_opening(tokenizer), (), chat=False)
    messages = [{"role": "user", "content": _PLACE}]
    try:
        text = tokenizer.apply_chat_template(
            messages,
            chat_template=_dateless(tokenizer.get_chat_template()),
            tokenize=False,
            add_generation_prompt=True,
        )
    except Exception as error:
        raise ModelError(f"the model's chat template cannot be used: {error}") from error
    head, found, tail = text.partition(_PLACE)
    if not found:
        raise ModelError("the model's chat template does not show the user's message")
    before, after = (tokenizer.encode(part, add_special_tokens=False) for part in (head, tail))
    return Frame(tuple(before), tuple(after), chat=True)


def _opening(tokenizer: Any) -> tuple[int, ...]:
    """Give what stands before plain text: BOS, where the model has one; never EOS alone."""
    ids = tokenizer("")["input_ids"]
    closing = tokenizer.eos_token_id != tokenizer.bos_token_id
    return tuple(i for i in ids if not (closing and i == tokenizer.eos_token_id))


def _dateless(template: str) -> str:
    return _SAME_DAY + template if "strftime_now" in template else template
