"""Which server, how it is asked, and what that may cost."""

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

from trec_cli.core.errors import UsageError
from trec_cli.core.json_file import decode_json
from trec_cli.core.options import Option
from trec_cli.models.source import PANEL as MODEL

PANEL = "Server (with --engine openai)"
DEFAULT_KEY_VARIABLE = "OPENAI_API_KEY"
EngineName = Literal["local", "openai", "ray"]
Engine = Annotated[
    EngineName,
    Option(
        "local runs the model here; openai asks any server that speaks OpenAI's protocol; ray "
        "runs it in the workers of a Ray cluster (docs/cluster.md).",
        panel=MODEL,
    ),
]
_NO_KEY = "none"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OWN_FIELDS = {"model", "messages", "prompt", "n", "stream"}
"""Fields of a request that decide what is read back; nobody may replace them."""


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """What bounds a server's work.

    Attributes:
        api_key_env: the environment variable that holds the key.
        concurrency: requests in flight at most.
        timeout: seconds until one request must be answered completely.
        retries: further attempts after a failed one.
        price_in, price_out: of a million tokens read and written, in any currency.
        max_cost: of one run; None is unbounded.
    """

    api_key_env: Annotated[
        str, Option("Environment variable that holds the API key.", panel=PANEL)
    ] = DEFAULT_KEY_VARIABLE
    concurrency: Annotated[int, Option("Requests in flight at most.", panel=PANEL, minimum=1)] = 8
    timeout: Annotated[
        float, Option("Seconds until a request must be answered.", panel=PANEL, minimum=0.001)
    ] = 120.0
    retries: Annotated[
        int, Option("Further attempts after a failed one.", panel=PANEL, minimum=0, maximum=100)
    ] = 4
    price_in: Annotated[
        float, Option("Price of a million tokens read.", panel=PANEL, minimum=0)
    ] = 0.0
    price_out: Annotated[
        float, Option("Price of a million tokens written.", panel=PANEL, minimum=0)
    ] = 0.0
    max_cost: Annotated[
        float | None,
        Option("Stop before this run costs more (needs prices).", panel=PANEL, minimum=0),
    ] = None


@dataclass(frozen=True)
class EndpointSettings(ServerLimits):
    """One model on one server.

    Attributes:
        base_url: up to and with ``/v1``; without user, password or query.
        model: as the server names it.
        extra: fields to add to every request (null takes a field out); part of what
            decides an answer.
    """

    base_url: str
    model: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what cannot work, or would write a secret into a manifest.

        Raises:
            UsageError: naming the option.
        """
        _check_url(self.base_url)
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise UsageError("--max-cost needs prices: give --price-in and --price-out")
        if own := _OWN_FIELDS & self.extra.keys():
            raise UsageError(f"--extra-body: {min(own)} is trec's own; leave it out")
        self.key()

    def key(self) -> str:
        """Read the API key; servers without keys get a word that says so.

        Raises:
            UsageError: a variable was named and is not set.
        """
        if not _NAME.fullmatch(self.api_key_env):
            # The text may be the key itself, so it is not repeated.
            raise UsageError("--api-key-env takes the name of an environment variable, not a key")
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.api_key_env != DEFAULT_KEY_VARIABLE:
            raise UsageError("the environment variable that --api-key-env names is not set")
        # A line break in a key would be shown, with all of it, by whoever refuses the header.
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise UsageError("the API key holds characters that no key has; set it again")
        return key or _NO_KEY

    def price(self, prompt_tokens: int, new_tokens: int) -> float:
        """Return the cost of tokens read and written."""
        return (prompt_tokens * self.price_in + new_tokens * self.price_out) / 1e6

    def body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Add the extra fields to a request's own; null takes one out."""
        merged = {**fields, **self.extra}
        return {name: value for name, value in merged.items() if value is not None}


def _check_url(url: str) -> None:
    # What stands here ends in manifests and messages, so no secret may be part of it.
    if any(sign in url for sign in "@?#"):
        raise UsageError(
            "--base-url must have no user, password or query; put the key into the "
            "environment (--api-key-env)"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--base-url {url!r} is no address such as http://127.0.0.1:8000/v1")


def parse_extra(text: str | None) -> dict[str, Any]:
    """Read ``--extra-body``: a JSON object.

    Raises:
        UsageError: it is something else.
    """
    if text is None:
        return {}
    try:
        return decode_json(text, dict[str, Any])
    except msgspec.DecodeError as error:
        raise UsageError(f"--extra-body is no JSON object: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ServerOptions(ServerLimits):
    """The options of a server, as a user gives them; :meth:`endpoint` checks them.

    Attributes:
        base_url: see :class:`EndpointSettings`.
        tokenizer: of the served model; None takes the model's own name.
        extra_body: JSON object of fields for every request.
    """

    base_url: Annotated[
        str | None,
        Option(
            "Address, such as http://127.0.0.1:8000/v1; --model is the name there.",
            panel=PANEL,
            envvar="OPENAI_BASE_URL",
        ),
    ] = None
    tokenizer: Annotated[
        str | None,
        Option(
            "Tokenizer of the served model: a Hugging Face name or a folder.",
            panel=PANEL,
            default_text="--model",
        ),
    ] = None
    extra_body: Annotated[
        str | None,
        Option(
            "Fields to add to every request; null takes one out. No secrets.",
            panel=PANEL,
            metavar="JSON",
        ),
    ] = None

    def endpoint(self, model: str) -> EndpointSettings:
        """Return the settings of ``model`` on this server.

        Raises:
            UsageError: an address is missing, or an option cannot work.
        """
        if self.base_url is None:
            raise UsageError("--engine openai needs the server's address: give --base-url")
        own = asdict(self)
        limits = {name: own[name] for name in ServerLimits.__dataclass_fields__}
        settings = EndpointSettings(
            self.base_url, model, extra=parse_extra(self.extra_body), **limits
        )
        settings.check()
        return settings
