"""Asking an OpenAI-compatible server, many requests at a time, through the official client.

The client retries what HTTP tells (429, 5xx, lost connections, time-outs), with growing
pauses and Retry-After.  What only the body tells (no JSON, no choices, half an answer) is
retried here.  Nobody but this module sees the API key, and no text that leaves it, be it
an answer or an error, holds it.
"""

import asyncio
import dataclasses
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import msgspec

from trec_cli.core.errors import ModelError
from trec_cli.core.json_file import UNREADABLE
from trec_cli.models.endpoint.costs import Budget, CostTally
from trec_cli.models.endpoint.faults import Breaker, Failed, Failure, shorten
from trec_cli.models.endpoint.replies import BadReply, Usage
from trec_cli.models.endpoint.settings import EndpointSettings

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

Kind = Literal["chat", "completions"]
_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_LEAST_SECRET = 8
"""Shorter keys (``none``, ``EMPTY``) are words, and are left in texts."""
_HOPELESS = {401, 402, 403, 404}
MOST_BYTES = 1 << 24
"""Of one answer; a server that sends more is not read to its end."""


class _Reply(Protocol):
    @property
    def usage(self) -> Usage | None: ...


R = TypeVar("R", bound=_Reply)


@dataclass(frozen=True)
class Request(Generic[R]):
    """One request.

    Attributes:
        kind: of endpoint.
        question: a message for ``chat``; a text or token ids for ``completions``.
        fields: further fields of the body.
        read: reads the answer's body; raises BadReply.
        prompt_tokens: to be read, as trec counts.
        new_tokens: to be written at most.
    """

    kind: Kind
    question: str | Sequence[int]
    fields: Mapping[str, Any]
    read: Callable[[bytes], R]
    prompt_tokens: int
    new_tokens: int


class Server:
    """One server; use as a context manager around :meth:`answers`.

    What it counts, and its verdict that a server is dead, outlast the block.

    Attributes:
        settings: as given.
        tally: what was asked so far.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        """Check the settings; nothing is sent yet.

        Raises:
            UsageError: they cannot work.
        """
        self.settings, self.tally = settings, CostTally()
        self._key = settings.key()
        self._budget = Budget(settings)
        self._breaker = Breaker(settings.concurrency)

    def __enter__(self) -> "Server":
        """Open the connections; the answers of one block share them."""
        self._runner = asyncio.Runner()
        self._client = _client(self.settings, self._key)
        self._freed = asyncio.Condition()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        try:
            self._runner.run(self._client.close())
        finally:
            self._runner.close()

    @property
    def dead(self) -> bool:
        """Whether nothing was answered, so that no more is asked."""
        return not self.tally.answered and bool(self._breaker.reason)

    def details(self) -> dict[str, Any]:
        """Return address, counts and cost for a manifest."""
        counts = dataclasses.asdict(self.tally)
        prices = {"price_in": self.settings.price_in, "price_out": self.settings.price_out}
        return {
            "server": self.settings.base_url,
            **counts,
            "cost": round(self.tally.cost, 6),
            **prices,
        }

    def note(self) -> str:
        """Describe in a sentence what was asked and what it cost."""
        tally = self.tally
        cost = f", cost {tally.cost:.4f}" if self.settings.price(1, 1) else ""
        return (
            f"{tally.requests} requests, {tally.answered} answered, {tally.retries} retries; "
            f"{tally.prompt_tokens} tokens read, {tally.new_tokens} written{cost}"
        )

    def answers(
        self, requests: Sequence[Request[R]]
    ) -> Generator[dict[int, R | Failure], None, None]:
        """Ask everything, ``concurrency`` requests at a time.

        Yields:
            Answers or failures by the index of their request, as they come; each index once.
        """
        arrived: asyncio.Queue[tuple[int, R | Failure | BaseException]] = asyncio.Queue()
        indices = iter(range(len(requests)))
        loop = self._runner.get_loop()
        count = min(self.settings.concurrency, len(requests))
        workers = [loop.create_task(self._work(requests, indices, arrived)) for _ in range(count)]
        left = len(requests)
        try:
            while left:
                got = self._runner.run(_take(arrived))
                left -= len(got)
                yield from _given(got)
        finally:
            self._runner.run(_stop(workers))

    async def _work(
        self,
        requests: Sequence[Request[R]],
        indices: Iterator[int],
        arrived: "asyncio.Queue[tuple[int, R | Failure | BaseException]]",
    ) -> None:
        """Answer one request after another, until none is left."""
        for index in indices:
            outcome: R | Failure | BaseException
            try:
                outcome = await self._outcome(requests[index])
            except Exception as error:  # a fault of trec; raised where answers are read
                outcome = error
            arrived.put_nowait((index, outcome))

    async def _outcome(self, request: Request[R]) -> R | Failure:
        if self._breaker.reason:
            return Failure(self._breaker.reason, asked=False)
        try:
            reply = await self._ask(request)
        except Failed as failed:
            self._breaker.bad(failed)
            return Failure(str(failed))
        except _OverBudget as over:
            return Failure(str(over), asked=False)
        self._breaker.good()
        self.tally.answered += 1
        return reply

    async def _ask(self, request: Request[R]) -> R:
        """Ask again where the body is bad; the client does it where HTTP says so."""
        for attempt in range(self.settings.retries + 1):
            if attempt:
                await asyncio.sleep(min(_PAUSE * 2 ** (attempt - 1), _LONGEST_PAUSE))
            try:
                return await self._paid(request)
            except BadReply as bad:
                reason = self._scrub(str(bad))
        raise Failed(reason)

    async def _paid(self, request: Request[R]) -> R:
        """Ask once, within the budget, and count tokens and cost."""
        most = self.settings.price(request.prompt_tokens, request.new_tokens)
        await self._reserve(most)
        cost = most
        try:
            reply = request.read(await self._post(request))
            usage = reply.usage or Usage(request.prompt_tokens, request.new_tokens)
            _check_prompt(request, usage)
            self.tally.prompt_tokens += usage.prompt_tokens
            self.tally.new_tokens += usage.new_tokens
            cost = self.settings.price(usage.prompt_tokens, usage.new_tokens)
            return reply
        except Failed as failed:
            cost = 0.0 if failed.free else most
            raise
        finally:
            self.tally.requests += 1
            self.tally.cost += cost
            async with self._freed:
                self._budget.settle(most, cost)
                self._freed.notify_all()

    async def _reserve(self, most: float) -> None:
        """Wait until the cost of requests in flight is known, if the limit is that near."""
        budget = self._budget
        async with self._freed:
            await self._freed.wait_for(lambda: budget.fits(most) or not budget.reserved)
            if not budget.fits(most):
                limit = self.settings.max_cost
                raise _OverBudget(
                    f"not asked: it could cost more than is left of --max-cost {limit:g}"
                )
            budget.reserve(most)

    async def _post(self, request: Request[R]) -> bytes:
        """Send a request; give the body of a successful answer."""
        import openai

        try:
            response = await self._create(request)
        except openai.APIStatusError as error:
            said = error.response.content.decode("utf-8", "replace")
            raise self._status_failure(error.status_code, said) from None
        except (openai.APIConnectionError, openai.OpenAIError) as error:
            raise self._connection_failure(error) from None
        except TimeoutError:
            raise BadReply(f"no whole answer within {self.settings.timeout:g} s") from None
        self.tally.retries += response.retries_taken
        return self._scrub_body(response.http_response.content)

    def _create(self, request: Request[R]) -> Awaitable[Any]:
        body = self.settings.body(request.fields)
        model = self.settings.model
        if request.kind == "chat":
            messages: Any = [{"role": "user", "content": request.question}]
            chat = self._client.chat.completions.with_raw_response
            return chat.create(model=model, messages=messages, extra_body=body)
        prompt: Any = request.question
        completions = self._client.completions.with_raw_response
        return completions.create(model=model, prompt=prompt, extra_body=body)

    def _status_failure(self, status: int, body: str) -> Failed:
        reason = f"HTTP {status} {shorten(self._scrub(body))}".strip()
        if status == 401:
            reason += f" (is {self.settings.api_key_env} set to a valid key?)"
        if status == 404:
            reason += f" (is {self.settings.model!r} served, and does --base-url end in /v1?)"
        passing = status in (408, 409, 429) or status >= 500
        return Failed(reason, refused=not passing, hopeless=status in _HOPELESS, free=True)

    def _connection_failure(self, error: Exception) -> Failed:
        """Find what a connection died of: the client's own words are only "Connection error"."""
        cause = error.__cause__ or error
        if isinstance(cause, Failed):
            return cause
        name = type(cause).__name__
        if "Timeout" in name:
            return Failed(f"no answer within {self.settings.timeout:g} s")
        reason = shorten(self._scrub(f"connection failed: {cause}".strip()))
        return Failed(reason if str(cause) else f"{reason} {name}", free=name == "ConnectError")

    @property
    def _secret(self) -> tuple[bytes, bytes]:
        """What to replace by what in all that a server says; short keys stay."""
        key = self._key.encode() if len(self._key) >= _LEAST_SECRET else b"***"
        return key, b"***"

    def _scrub(self, text: str) -> str:
        """Take the API key out of a text: a server may repeat it."""
        return self._scrub_body(text.encode()).decode()

    def _scrub_body(self, content: bytes) -> bytes:
        """Take the API key out of an answer, also where JSON writes it with escapes."""
        content = content.replace(*self._secret)
        try:
            plain = msgspec.json.encode(msgspec.json.decode(content))
        except UNREADABLE:  # so nothing will be read from it
            return content
        key, stars = self._secret
        return plain.replace(msgspec.json.encode(key.decode())[1:-1], stars)


class _OverBudget(Exception):  # noqa: N818 - reads as a statement
    """The request might cost more than is left."""


def _client(settings: EndpointSettings, key: str) -> "AsyncOpenAI":
    """Build the official client; every answer must be whole within the time-out.

    The client's own time-out starts again with every byte, so that a server that sends one
    now and then would keep it for ever.
    """
    import openai

    async def read_in_time(response: "httpx2.Response") -> None:
        _check_redirect(response)
        response.stream = _bounded(response)
        async with asyncio.timeout(settings.timeout):
            await response.aread()

    transport = openai.DefaultAsyncHttpxClient(
        timeout=settings.timeout,
        event_hooks={"response": [read_in_time]},
        # A compressed answer could be small here and fill the memory afterwards.
        headers={"Accept-Encoding": "identity"},
    )
    return openai.AsyncOpenAI(
        base_url=settings.base_url,
        api_key=key,
        timeout=settings.timeout,
        max_retries=settings.retries,
        http_client=transport,
    )


def _check_redirect(response: "httpx2.Response") -> None:
    """Refuse to follow a redirect to another server: prompts are for the one that was named.

    Raises:
        Failed: naming the other.
    """
    if not response.has_redirect_location:
        return
    here, there = response.url, response.url.join(response.headers["location"])
    secured = (here.scheme, there.scheme) == ("http", "https") and there.port is None
    if here.host != there.host or not (secured or _origin(here) == _origin(there)):
        raise Failed(
            f"redirects to {shorten(f'{there.scheme}://{there.netloc.decode()}')}, which is not "
            "followed; if that is the server, name it with --base-url",
            hopeless=True,
            free=True,
        )


def _origin(url: "httpx2.URL") -> tuple[str, int | None]:
    return url.scheme, url.port


def _bounded(response: "httpx2.Response") -> "httpx2.AsyncByteStream":
    """Return the body of an answer as a stream that ends where no answer is so long.

    Raises:
        Failed: it is compressed, which nobody asked for: its true length is unknown.
    """
    import httpx2

    assert isinstance(response.stream, httpx2.AsyncByteStream)
    body: httpx2.AsyncByteStream = response.stream
    if response.headers.get("content-encoding", "identity") != "identity":
        raise Failed("the answer is compressed, which was not asked for")

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for part in body:
                size += len(part)
                if size > MOST_BYTES:
                    raise Failed(f"the answer is longer than {MOST_BYTES >> 20} MiB")
                yield part

        async def aclose(self) -> None:
            await body.aclose()

    return Bounded()


def _check_prompt(request: Request[Any], usage: Usage) -> None:
    """Make sure that token ids were read as they are.

    Raises:
        ModelError: the server counts other tokens than were sent.
    """
    if isinstance(request.question, str) or usage.prompt_tokens == len(request.question):
        return
    raise ModelError(
        f"{len(request.question)} token ids were sent and the server read {usage.prompt_tokens}: "
        "it does not take prompts as token ids, or adds tokens to them. Use --endpoint chat for "
        "summaries, or --engine local."
    )


async def _take(arrived: "asyncio.Queue[Any]") -> list[Any]:
    """Wait for an answer; give it with all that have arrived by then."""
    got = [await arrived.get()]
    while not arrived.empty():
        got.append(arrived.get_nowait())
    return got


def _given(got: Sequence[tuple[int, Any]]) -> Iterator[dict[int, Any]]:
    """Yield what was answered before a fault that came with it is raised: it has been paid."""
    good = {index: outcome for index, outcome in got if not isinstance(outcome, BaseException)}
    if good:
        yield good
    for _, outcome in got:
        if isinstance(outcome, BaseException):
            raise outcome


async def _stop(workers: Sequence["asyncio.Task[None]"]) -> None:
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
