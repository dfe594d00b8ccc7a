"""Which token means yes and which means no, as the *next* token of a given prompt.

Looking up the bare strings is wrong for many tokenizers: the token after ``Answer:`` is
usually `` Yes`` with a blank, and some chat templates put a blank before the answer.  So
the answers are encoded behind the text that will really stand before them, and the first
token of each that differs from the prompt's own counts.
"""

from dataclasses import dataclass
from typing import Any

from trec_cli.core.errors import ModelError
from trec_cli.models.chat import open_answer

_WORDS = (("Yes", "No"), ("yes", "no"))


@dataclass(frozen=True)
class AnswerTokens:
    """Token ids of the two answers.

    Attributes:
        yes, no: ids that can follow the prompt; distinct, neither unknown nor special.
        yes_text, no_text: what was encoded to find them, for messages.
    """

    yes: int
    no: int
    yes_text: str
    no_text: str


def find_answers(tokenizer: Any, context: str, *, chat: bool) -> AnswerTokens:
    """Find the answer tokens that can follow ``context``.

    Args:
        tokenizer: a transformers tokenizer.
        context: the prompt's last characters; with ``chat`` the end of the chat template
            is taken instead, together with what the template writes before an answer.
        chat: whether the prompt ends with the chat template's opening of an answer.

    Raises:
        ModelError: the tokenizer has no two distinct next tokens for yes and no.
    """
    before, lead = context, " "
    if chat:
        opening = open_answer(tokenizer, "?")
        before, lead = opening.text, opening.blank
    pairs = [_encoded(tokenizer, before, blank, words) for words, blank in _spellings(lead)]
    usable = [pair for pair in pairs if _usable(tokenizer, pair)]
    whole = [pair for pair in usable if _are_whole_words(tokenizer, pair)]
    if not usable:
        tried = ", ".join(f"{p.yes_text!r}/{p.no_text!r}" for p in pairs)
        raise ModelError(
            "the model's tokenizer has no distinct next tokens for yes and no "
            f"(tried {tried}), so candidates cannot be scored. Use another --model."
        )
    return (whole or usable)[0]


def _spellings(lead: str) -> list[tuple[tuple[str, str], str]]:
    """Order the spellings to try: as the context leads to them first."""
    blanks = dict.fromkeys((lead, "", " "))
    return [(words, blank) for blank in blanks for words in _WORDS]


def _encoded(tokenizer: Any, before: str, blank: str, words: tuple[str, str]) -> AnswerTokens:
    yes, no = (blank + word for word in words)
    return AnswerTokens(
        _next_token(tokenizer, before, yes), _next_token(tokenizer, before, no), yes, no
    )


def _next_token(tokenizer: Any, before: str, answer: str) -> int:
    """Return the first token of ``answer`` behind ``before``.

    Where the two melt into one token, the answer is encoded alone: the prompt's own
    tokens are fixed by then and cannot change any more.
    """
    context: list[int] = tokenizer.encode(before, add_special_tokens=False)
    both: list[int] = tokenizer.encode(before + answer, add_special_tokens=False)
    if both[: len(context)] == context and len(both) > len(context):
        return both[len(context)]
    alone: list[int] = tokenizer.encode(answer, add_special_tokens=False)
    return alone[0] if alone else -1


def _usable(tokenizer: Any, pair: AnswerTokens) -> bool:
    forbidden = {-1, tokenizer.unk_token_id, *tokenizer.all_special_ids}
    return pair.yes != pair.no and not forbidden & {pair.yes, pair.no}


def _are_whole_words(tokenizer: Any, pair: AnswerTokens) -> bool:
    texts = (tokenizer.decode([token]).strip() for token in (pair.yes, pair.no))
    return tuple(texts) in _WORDS
