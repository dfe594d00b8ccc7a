"""The remote engine: any OpenAI-compatible server writes the summaries."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from trec_cli.core.errors import UsageError
from trec_cli.models.endpoint.faults import Failure, missing_error, shorten
from trec_cli.models.endpoint.replies import TextReply, read_chat, read_completion
from trec_cli.models.endpoint.server import Kind, Request, Server
from trec_cli.models.endpoint.settings import EndpointSettings
from trec_cli.models.load import load_near_tokenizer, tokenizer_hash
from trec_cli.models.source import Decoding
from trec_cli.summarize.engine import Engine, Generation, id_bytes
from trec_cli.summarize.prompts import Prompt, PromptWriter
from trec_cli.summarize.settings import SummarizeOptions, SummarySettings
from trec_cli.summarize.setup import Setup

_NAME_CHARACTERS = 100
_MOST_CHARACTERS = 64
"""Of a token, on average over a whole text: hardly any token is longer by itself."""
_MORE_PENALTY = 0.4
"""Added to the frequency penalty with every attempt; servers allow up to 2."""


class RemoteEngine:
    """Sends every prompt by itself and gives every text as it comes."""

    def __init__(
        self,
        server: Server,
        kind: Kind,
        identity: Mapping[str, Any],
        decoding: Decoding,
        frequency_penalty: float = 0.0,
    ) -> None:
        """Keep the server, the kind of its endpoint, and how it should write."""
        self._server, self._kind, self._most = server, kind, decoding.max_new_tokens
        self._again = partial(RemoteEngine, server, kind, identity, decoding)
        self._fields: dict[str, Any] = {"max_tokens": self._most, "temperature": 0}
        if decoding.one_line:
            self._fields["stop"] = ["\n"]
        self.identity: Mapping[str, Any] = {**identity, **dataclasses.asdict(decoding)}
        if frequency_penalty:
            more = {"frequency_penalty": frequency_penalty}
            self._fields, self.identity = {**self._fields, **more}, {**self.identity, **more}

    def reads(self, prompt: Prompt) -> bytes:
        """Return the message in a chat: a similar tokenizer may not tell all texts apart."""
        return prompt.message.encode() if self._kind == "chat" else id_bytes(prompt.ids)

    def batches(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Return all prompts at once: their texts do not depend on each other's company."""
        return [list(range(len(prompts)))] if prompts else []

    def generate(self, prompts: Sequence[Prompt]) -> Iterator[Mapping[int, Generation]]:
        """Ask the server; what it does not answer is listed once all others are given."""
        missing: dict[int, Failure] = {}
        requests = [self._request(prompt) for prompt in prompts]
        with self._server as server, closing(server.answers(requests)) as answers:
            for arrived in answers:
                texts = {}
                for index, outcome in arrived.items():
                    if isinstance(outcome, Failure):
                        missing[index] = outcome
                    else:
                        texts[index] = _generation(outcome, requests[index])
                if texts:
                    yield texts
        if missing:
            named = [(_name(prompts, index), missing[index]) for index in sorted(missing)]
            raise missing_error(
                "texts of this round",
                named,
                len(prompts),
                server=f"{server.settings.base_url} ({server.note()})",
                advice=self._advice(missing.values()),
                dead=not server.tally.answered and any(each.asked for each in missing.values()),
            )

    def _advice(self, failures: Iterable[Failure]) -> str:
        """Suggest how to do without what some servers do not accept."""
        refused = any("frequency_penalty" in failure.reason for failure in failures)
        penalised = "frequency_penalty" in self._fields
        if not (refused and penalised):
            return ""
        return "The server refuses how bad texts are asked for again; add --rewrites 0."

    def retry(self, attempt: int) -> "RemoteEngine":
        """Return the same model with a frequency penalty, which every server knows."""
        return self._again(round(_MORE_PENALTY * attempt, 6))

    def _request(self, prompt: Prompt) -> Request[TextReply]:
        chat = self._kind == "chat"
        return Request(
            kind=self._kind,
            question=prompt.message if chat else prompt.ids,
            fields=self._fields,
            read=read_chat if chat else read_completion,
            prompt_tokens=len(prompt.ids),
            new_tokens=self._most,
        )


def _generation(reply: TextReply, request: Request[TextReply]) -> Generation:
    """Count tokens as the server does; where it does not, as asked for.

    A text that no number of tokens asked for could fill is cut here, before it is kept or
    checked.
    """
    prompt_tokens, new_tokens = request.prompt_tokens, request.new_tokens
    if reply.usage:
        prompt_tokens, new_tokens = reply.usage.prompt_tokens, reply.usage.new_tokens
    most = _MOST_CHARACTERS * request.new_tokens
    stopped = reply.stopped and len(reply.text) <= most
    return Generation(reply.text[:most], prompt_tokens, new_tokens, stopped)


def _name(prompts: Sequence[Prompt], index: int) -> str:
    """Name a prompt by the first item or summary that it shows: a template may bring others."""
    source = prompts[index].source
    shown = [item.text() for item in source.shown] or source.summaries or ("",)
    return f"prompt {index + 1}: {shorten(shown[0], _NAME_CHARACTERS)}"


@dataclass(frozen=True)
class RemoteSetup(Setup):
    """A setup whose texts a server writes.

    The model source says only where the tokenizer lies that counts tokens (and, for the
    completions endpoint, makes them); its batches and its device mean nothing.
    """

    @property
    def kind(self) -> Kind:
        """``chat`` sends the message, and the server applies its template; ``completions``
        sends the token ids that a local model would read.
        """
        return self.options.endpoint

    @property
    def summary(self) -> SummarySettings:
        """Sizes and texts of prompts.

        Raises:
            UsageError: a chat endpoint cannot be asked to leave its template out.
        """
        asked = self.options.summary
        if self.kind != "chat":
            return asked
        if asked.chat is False:
            raise UsageError(
                "--no-chat-template: a chat endpoint always applies its template; "
                "add --endpoint completions"
            )
        # The other domains' prompts are texts to go on with, which is no chat.
        domain = "sentences" if asked.domain == "auto" else asked.domain
        return dataclasses.replace(asked, domain=domain)

    @property
    def decoding(self) -> Decoding:
        """How the model writes.

        Our rules against repetition are left out: they count the answer's tokens only, and a
        server's (vLLM's repetition_penalty) the prompt's as well.
        """
        return Decoding(self.summary.summary_tokens, 1.0, no_repeat_ngram=0)

    @cached_property
    def endpoint(self) -> EndpointSettings:
        """The server, and the model on it."""
        return self.options.server.endpoint(self.options.source.name)

    @cached_property
    def server(self) -> Server:
        """The server; nothing is sent before the first prompt."""
        return Server(self.endpoint)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that counts."""
        return load_near_tokenizer(self.source)

    def most_tokens(self) -> int | None:
        """Return no limit: only the server knows it, and refuses a prompt that is too long."""
        return None

    def identity(self) -> dict[str, Any]:
        """Return what writes; neither the host nor the key is part of it."""
        return {
            "name": self.endpoint.model,
            "endpoint": self.kind,
            "tokenizer": tokenizer_hash(self.tokenizer),
            "temperature": 0,
            "extra": dict(self.endpoint.extra),
        }

    def engine(
        self,
        writer: PromptWriter,
        tell: Callable[[str], None],  # noqa: ARG002 - a local engine's
    ) -> tuple[Engine, str]:
        """Return the engine, and how it is reached."""
        engine = RemoteEngine(self.server, self.kind, self.identity(), self.decoding_of(writer))
        return engine, f"{self.endpoint.base_url} ({self.kind} endpoint)"

    def advice(self) -> str:
        """Suggest what to try where the model writes badly."""
        more = super().advice()
        if self.kind == "completions":
            return more
        return f"--endpoint completions, whose prompts small models read best; or {more}"

    def details(self) -> dict[str, Any]:
        """Return what the server was asked and what it cost."""
        return {"endpoint": self.server.details()}

    def most_cost(self, prompt_tokens: int, new_tokens: int) -> float:
        """Return what so many tokens cost, in money."""
        return self.endpoint.price(prompt_tokens, new_tokens)


def make_setup(options: SummarizeOptions) -> Setup:
    """Return how summaries are made on the engine that the options name.

    Raises:
        UsageError: the options of a server cannot work.
    """
    if options.engine != "openai":
        return Setup(options)
    setup = RemoteSetup(options)
    _ = setup.summary, setup.endpoint  # what cannot work is refused before a file is read
    return setup
