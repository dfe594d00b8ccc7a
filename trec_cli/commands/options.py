"""Options that several commands share, each written once."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from trec_cli.commands.config import load_config
from trec_cli.core.errors import UsageError
from trec_cli.models.endpoint.settings import EndpointSettings, parse_extra

_COMMON = "Output and behaviour"
_FILES = "Files (each overrides the one found in RUN)"
_MODEL = "Model"
_PROMPT = "Prompt"
_SERVER = "Server (with --engine openai)"

Run = Annotated[
    Path | None,
    typer.Argument(help="Run folder: inputs are found and outputs written there by name."),
]
Items = Annotated[Path | None, typer.Option(help="items.jsonl", rich_help_panel=_FILES)]
Examples = Annotated[
    Path | None, typer.Option(help="examples.jsonl; - is stdin.", rich_help_panel=_FILES)
]
Summaries = Annotated[
    Path | None, typer.Option(help="summaries-MODE.jsonl; - is stdin.", rich_help_panel=_FILES)
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Where to write; - is stdout.", rich_help_panel=_FILES),
]
Store = Annotated[
    Path | None,
    typer.Option(
        help="Store of all texts and vectors made (SQLite); several runs may share one.",
        rich_help_panel=_FILES,
    ),
]

Vectors = Annotated[
    Path | None,
    typer.Option(
        help="Item vectors of --mode attention --query candidate; beside the summaries by default.",
        rich_help_panel=_FILES,
    ),
]

Mode = Annotated[
    str,
    typer.Option(help="Which summaries: hier, recurrent, attention, none.", rich_help_panel=_FILES),
]

Recent = Annotated[
    int,
    typer.Option(min=0, help="Last history items shown word for word.", rich_help_panel=_PROMPT),
]
MaxLength = Annotated[
    int,
    typer.Option("--max-length", min=1, help="Tokens of one prompt.", rich_help_panel=_PROMPT),
]
CandidateTokens = Annotated[
    int,
    typer.Option(
        "--candidate-tokens",
        min=1,
        help="Of these, kept free for candidate and answer, which are never cut.",
        rich_help_panel=_PROMPT,
    ),
]
Attributes = Annotated[
    str | None,
    typer.Option(
        help="Item attributes to show, in order: title,category. All by default.",
        rich_help_panel=_PROMPT,
    ),
]
ChatTemplate = Annotated[
    bool | None,
    typer.Option(
        "--chat-template/--no-chat-template",
        help="Frame prompts with the model's chat template; where it has one by default.",
        rich_help_panel=_PROMPT,
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        help="Folder with your own prompt templates; files not in it are the built-in ones.",
        rich_help_panel=_PROMPT,
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        envvar="TREC_MODEL",
        help="Causal LM: a Hugging Face name or a folder (safetensors only).",
        rich_help_panel=_MODEL,
    ),
]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the model.", rich_help_panel=_MODEL)
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code that comes with the model.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_MODEL)]
Dtype = Annotated[
    str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=_MODEL)
]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        min=1,
        help="Tokens in one forward pass; bounds memory.",
        rich_help_panel=_MODEL,
    ),
]

EngineName = Literal["local", "openai"]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="local runs the model here; openai asks any server that speaks OpenAI's protocol.",
        rich_help_panel=_MODEL,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="OPENAI_BASE_URL",
        help="Address, such as http://127.0.0.1:8000/v1; --model is the name there.",
        rich_help_panel=_SERVER,
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "--tokenizer",
        help="Tokenizer of the served model: a Hugging Face name or a folder.",
        show_default="--model",
        rich_help_panel=_SERVER,
    ),
]
ApiKeyEnv = Annotated[
    str,
    typer.Option(help="Environment variable that holds the API key.", rich_help_panel=_SERVER),
]
Concurrency = Annotated[
    int, typer.Option(min=1, help="Requests in flight at most.", rich_help_panel=_SERVER)
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0.001, help="Seconds until a request must be answered.", rich_help_panel=_SERVER
    ),
]
Retries = Annotated[
    int,
    typer.Option(
        min=0, max=100, help="Further attempts after a failed one.", rich_help_panel=_SERVER
    ),
]
PriceIn = Annotated[
    float, typer.Option(min=0, help="Price of a million tokens read.", rich_help_panel=_SERVER)
]
PriceOut = Annotated[
    float, typer.Option(min=0, help="Price of a million tokens written.", rich_help_panel=_SERVER)
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        min=0, help="Stop before this run costs more (needs prices).", rich_help_panel=_SERVER
    ),
]
ExtraBody = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help="Fields to add to every request; null takes one out. No secrets.",
        rich_help_panel=_SERVER,
    ),
]
Embedder = Annotated[
    str,
    typer.Option(
        envvar="TREC_EMBEDDER",
        help="What makes vectors of items: a sentence-embedding model (a Hugging Face name or a "
        "folder, safetensors only), or llm for the language model itself.",
        rich_help_panel=_MODEL,
    ),
]

Seed = Annotated[
    int, typer.Option(help="Every random draw comes from it.", rich_help_panel=_COMMON)
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Use the first N examples per split.", rich_help_panel=_COMMON),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check inputs and show what would be done (a real prompt, the cost); write nothing.",
        rich_help_panel=_COMMON,
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace existing output.", rich_help_panel=_COMMON),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Only warnings and errors.", rich_help_panel=_COMMON),
]
JsonLine = Annotated[
    bool,
    typer.Option(
        "--json",
        help="End with one JSON line on stdout; on stderr with --out -.",
        rich_help_panel=_COMMON,
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_COMMON)]
Config = Annotated[
    Path | None,
    typer.Option(
        callback=load_config,
        is_eager=True,
        help="TOML file with any of these options.",
        rich_help_panel=_COMMON,
    ),
]


def names(given: str | None) -> tuple[str, ...] | None:
    """Read a list of names with commas between; None stays None."""
    if given is None:
        return None
    return tuple(name.strip() for name in given.split(",") if name.strip())


_SERVER_OPTIONS = {
    "base_url",
    "tokenizer",
    "api_key_env",
    "concurrency",
    "timeout",
    "retries",
    "price_in",
    "price_out",
    "max_cost",
    "extra_body",
}
_LOCAL_OPTIONS = frozenset({"device", "dtype", "max_tokens"})


def given(context: typer.Context, *places: str) -> frozenset[str]:
    """Name the parameters that the user gave in one of ``places``, such as COMMANDLINE."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(
        name for name, source in sources.items() if source is not None and source.name in places
    )


def check_engine(
    context: typer.Context,
    engine: EngineName,
    *,
    local: Collection[str] = (),
    remote: Collection[str] = (),
    embeds: bool = False,
) -> None:
    """Refuse options, on the command line, of the engine that does not run.

    ``local`` and ``remote`` name the command's own, beside those that several have; with
    ``embeds`` an embedder runs here whatever the engine, with device, dtype and tokens.

    Raises:
        UsageError: naming the first of them.
    """
    here = frozenset() if embeds else _LOCAL_OPTIONS
    foreign = _SERVER_OPTIONS.union(remote), here.union(local)
    wrong = given(context, "COMMANDLINE") & foreign[engine == "openai"]
    if wrong:
        other = "local" if engine == "openai" else "openai"
        option = min(wrong).replace("_", "-")
        raise UsageError(f"--{option} is for --engine {other}, not for {engine}")


class ServerLimits(NamedTuple):
    """What bounds a server's work, as :class:`EndpointSettings` names it."""

    concurrency: int
    timeout: float
    retries: int
    price_in: float
    price_out: float
    max_cost: float | None


def server(
    base_url: str | None,
    model: str,
    api_key_env: str,
    limits: ServerLimits,
    extra_body: str | None,
) -> EndpointSettings:
    """Put the options of a server together.

    Raises:
        UsageError: an address is missing, or an option cannot work.
    """
    if base_url is None:
        raise UsageError("--engine openai needs the server's address: give --base-url")
    extra = parse_extra(extra_body)
    settings = EndpointSettings(
        base_url, model, api_key_env=api_key_env, **limits._asdict(), extra=extra
    )
    settings.check()
    return settings
