"""The frame around a user message: the model's chat template, or nothing but BOS."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trec_cli.core.errors import ModelError

# Templates that show today's date would give another prompt on every day. The day is the one
# that Llama's template falls back to; a macro, because only plain data reaches a template.
_SAME_DAY = "{% macro strftime_now(form) %}26 Jul 2024{% endmacro %}"
_PLACE = "\ue000trec\ue000"
_NO_THINKING = {"enable_thinking": False, "thinking": False}
"""What switches thinking off in the templates that know such a switch."""
_THOUGHTS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "<|START_THINKING|>": "<|END_THINKING|>",
}
"""Openings of a thought, and how it ends."""
_OF_THOUGHT = re.compile("think|thought|reason", re.IGNORECASE)
_SWITCHED_OFF = "thinking is switched off in the chat template"
_CLOSED = "an empty thought is closed before the answer"


@dataclass(frozen=True)
class Frame:
    """Token ids before and after the message; the model's answer follows ``tail``.

    Attributes:
        head: BOS, system message and the opening of the user's turn.
        tail: the closing of the user's turn and the opening of the assistant's;
            empty where the model has no chat template.
        chat: whether a chat template was used.
        thinking: what was done so that the model answers without thinking first; empty where
            nothing had to be.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    chat: bool
    thinking: str = ""


@dataclass(frozen=True)
class Opening:
    """A user's message in its chat template, up to where the model's answer begins.

    Attributes:
        text: the prompt, an empty thought included where the template opens one.
        blank: white space that the template writes before an answer.
        thinking: see :class:`Frame`.
    """

    text: str
    blank: str
    thinking: str


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
    try:
        opening = open_answer(tokenizer, _PLACE)
    except Exception as error:
        raise ModelError(f"the model's chat template cannot be used: {error}") from error
    head, found, tail = opening.text.partition(_PLACE)
    if not found:
        raise ModelError("the model's chat template does not show the user's message")
    before, after = (tokenizer.encode(part, add_special_tokens=False) for part in (head, tail))
    return Frame(tuple(before), tuple(after), chat=True, thinking=opening.thinking)


def open_answer(tokenizer: Any, message: str) -> Opening:
    """Write a message in the chat template, so that the answer comes next.

    A model that thinks before it answers would begin with its thoughts.  Thinking is switched
    off where the template can; else what the template writes between the prompt and an answer
    (an empty thought, an answer's channel) stands in the prompt; else an open thought is
    closed.
    """
    asked = [{"role": "user", "content": message}]
    usual = _rendered(tokenizer, asked, add_generation_prompt=True)
    text = _rendered(tokenizer, asked, add_generation_prompt=True, **_NO_THINKING)
    thinking = "" if text == usual else _SWITCHED_OFF
    lead = _lead(tokenizer, asked, text)
    if lead.strip():
        closed = _CLOSED if _OF_THOUGHT.search(lead) else ""
        return Opening(text + lead, "", thinking or closed)
    opened = next((tag for tag in _THOUGHTS if text.rstrip().endswith(tag)), None)
    if opened:
        return Opening(f"{text.rstrip()}\n\n{_THOUGHTS[opened]}\n\n", "", _CLOSED)
    return Opening(text, lead, thinking)


def _lead(tokenizer: Any, asked: Sequence[Mapping[str, str]], prompt: str) -> str:
    """Return what the template writes between a prompt and its answer."""
    dialogue = [*asked, {"role": "assistant", "content": "Yes"}]
    try:
        answered = _rendered(tokenizer, dialogue, **_NO_THINKING)
    except Exception:  # a template may refuse what it was not made for in any way it likes
        return ""
    lead, found, _ = answered.removeprefix(prompt).partition("Yes")
    return lead if found and answered.startswith(prompt) else ""


def _rendered(tokenizer: Any, messages: Sequence[Mapping[str, str]], **options: Any) -> str:
    template = _dateless(tokenizer.get_chat_template())
    text: str = tokenizer.apply_chat_template(
        list(messages), chat_template=template, tokenize=False, **options
    )
    return text


def _opening(tokenizer: Any) -> tuple[int, ...]:
    """Return what stands before plain text: BOS, where the model has one; never EOS alone."""
    ids = tokenizer("")["input_ids"]
    closing = tokenizer.eos_token_id != tokenizer.bos_token_id
    return tuple(i for i in ids if not (closing and i == tokenizer.eos_token_id))


def _dateless(template: str) -> str:
    return _SAME_DAY + template if "strftime_now" in template else template
