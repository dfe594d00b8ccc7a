"""What a server answers, read with distrust: a field that is missing or odd is a bad reply."""

from dataclasses import dataclass
from typing import Any

import msgspec

from trec_cli.core.json_file import UNREADABLE
from trec_cli.models.endpoint.faults import shorten

_TOKEN_ID = "token_id:"
_ENDED = {"stop", "eos", "eos_token", "end_turn", "stop_sequence"}
_CUT = {"length", "max_tokens"}
_DECLINED = "content_filter"
_MOST_TOKENS = 1 << 40


class BadReply(Exception):  # noqa: N818 - reads as a statement
    """The server answered, and not with what was asked for; the text says how."""


@dataclass(frozen=True)
class Usage:
    """Tokens read and written, as the server counts them."""

    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class TextReply:
    """A written text; ``stopped`` is False where the length limit ended it."""

    text: str
    stopped: bool
    usage: Usage | None


@dataclass(frozen=True)
class NextToken:
    """Log-probabilities of the next token.

    Attributes:
        by_id, by_text: of each token that the server names by its id, or by its text only.
        usage: tokens read and written.
    """

    by_id: dict[int, float]
    by_text: dict[str, float]
    usage: Usage | None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Message(msgspec.Struct):
    content: str | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Chat(msgspec.Struct):
    choices: list[_ChatChoice]
    usage: _Usage | None = None


class _Candidate(msgspec.Struct):
    token: str
    logprob: float
    id: int | None = None


class _Place(_Candidate):
    top_logprobs: list[_Candidate] = []


class _Logprobs(msgspec.Struct):
    top_logprobs: list[dict[str, float] | None] | None = None
    content: list[_Place] | None = None


class _TextChoice(msgspec.Struct):
    text: str | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Completion(msgspec.Struct):
    choices: list[_TextChoice]
    usage: _Usage | None = None


class _Refusal(msgspec.Struct):
    error: Any


def _decode(content: bytes, kind: Any) -> Any:
    try:
        reply = msgspec.json.decode(content, type=kind)
    except UNREADABLE as error:
        raise BadReply(
            _said(content) or f"the answer is not what the protocol says: {error}"
        ) from None
    if not reply.choices:
        raise BadReply("the answer has no choices")
    return reply


def _said(content: bytes) -> str:
    """Return what a server says of a fault that its status does not tell; else nothing."""
    try:
        error = msgspec.json.decode(content, type=_Refusal).error
    except UNREADABLE:
        return ""
    return f"the answer is an error: {shorten(msgspec.json.encode(error).decode())}"


def _usage(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    if not all(0 <= n <= _MOST_TOKENS for n in (usage.prompt_tokens, usage.completion_tokens)):
        raise BadReply("the answer counts a number of tokens that cannot be")
    return Usage(usage.prompt_tokens, usage.completion_tokens)


def read_chat(content: bytes) -> TextReply:
    """Read the answer of the chat endpoint.

    Raises:
        BadReply: it holds no finished text.
    """
    reply = _decode(content, _Chat)
    choice = reply.choices[0]
    return _text(choice.message.content or "", choice.finish_reason, _usage(reply.usage))


def read_completion(content: bytes) -> TextReply:
    """Read the answer of the completions endpoint.

    Raises:
        BadReply: it holds no finished text.
    """
    reply = _decode(content, _Completion)
    choice = reply.choices[0]
    return _text(choice.text or "", choice.finish_reason, _usage(reply.usage))


def _text(text: str, finish: str | None, usage: Usage | None) -> TextReply:
    """Accept a finished text; an empty one only where the model is shown to have ended it."""
    if finish == _DECLINED:
        return TextReply("", True, usage)
    if finish not in _ENDED | _CUT:
        raise BadReply(f"half an answer (finish_reason {finish!r})")
    if not text.strip():
        if finish in _CUT:
            raise BadReply(
                "no text within --max-new-tokens (a model that thinks before it answers needs more)"
            )
        if usage is None or not usage.new_tokens:
            raise BadReply("an empty answer")
    return TextReply(text, finish in _ENDED, usage)


def read_next_token(content: bytes) -> NextToken:
    """Read the log-probabilities of the first new token, from the completions endpoint.

    vLLM names tokens by id where asked to, in the old format of OpenAI's completions;
    llama.cpp gives ids in the format of chat completions.

    Raises:
        BadReply: it holds none.
    """
    reply = _decode(content, _Completion)
    logprobs = reply.choices[0].logprobs
    if logprobs and logprobs.content:
        first = logprobs.content[0]
        candidates = [first, *first.top_logprobs]
        by_id = {each.id: each.logprob for each in candidates if each.id is not None}
        by_text = {each.token: each.logprob for each in candidates if each.id is None}
        return NextToken(by_id, by_text, _usage(reply.usage))
    if logprobs and logprobs.top_logprobs and logprobs.top_logprobs[0]:
        by_id, by_text = _by_name(logprobs.top_logprobs[0])
        return NextToken(by_id, by_text, _usage(reply.usage))
    raise BadReply("the answer has no log-probabilities")


def _by_name(named: dict[str, float]) -> tuple[dict[int, float], dict[str, float]]:
    """Part tokens named ``token_id:275`` from those named by their text."""
    ids = {
        int(name.removeprefix(_TOKEN_ID)): value
        for name, value in named.items()
        if name.startswith(_TOKEN_ID) and name.removeprefix(_TOKEN_ID).isdecimal()
    }
    texts = {name: value for name, value in named.items() if not name.startswith(_TOKEN_ID)}
    return ids, texts
