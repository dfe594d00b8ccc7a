"""``trec summarize``: a preference summary for every example."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trec_cli.commands import options
from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.inputs import resolve
from trec_cli.commands.show import show_user
from trec_cli.commands.summary_notes import show_plan, tell_quality, tell_run, tell_vectors
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import check_streams, content_hash, is_stream, read_examples, read_items
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import locked
from trec_cli.core.records import SPLITS, Domain, Example, Item, Mode, Query
from trec_cli.models.source import DEFAULT_EMBEDDER, DEFAULT_MODEL

if TYPE_CHECKING:
    from trec_cli.models.vectors import VectorMaker
    from trec_cli.summarize.attention import Attender
    from trec_cli.summarize.prompts import PromptWriter
    from trec_cli.summarize.run import Written
    from trec_cli.summarize.setup import Setup

_SUMMARY, _WRITING = "Summaries", "How the model writes"
_LOCAL_DECODING = {"repetition_penalty", "no_repeat_ngram"}
_CHECKS = "How texts are checked"
_ATTENTION = "Mode attention"
_ATTENTION_OPTIONS = {
    "query",
    "temperature",
    "top_k",
    "query_items",
    "budget",
    "embedder",
    "vectors",
}


def _option(panel: str, help_: str, **more: Any) -> Any:
    return typer.Option(help=help_, rich_help_panel=panel, **more)


ModeOption = Annotated[
    Mode,
    typer.Option(
        "--mode",
        help="hier merges block summaries, recurrent carries one forward, attention weighs them.",
    ),
]
Splits = Annotated[
    list[str] | None,
    _option(_SUMMARY, "Only train, valid or test; may be given more than once."),
]
BlockSize = Annotated[int, _option(_SUMMARY, "Items in a block.", min=1)]
ItemTokens = Annotated[int, _option(_SUMMARY, "Longest item in a prompt, in tokens.", min=1)]
PromptTokens = Annotated[
    int, _option(_SUMMARY, "Longest prompt, in tokens; more is merged in levels.", min=1)
]
MaxNewTokens = Annotated[int, _option(_WRITING, "Longest summary, in tokens.", min=1)]
RepetitionPenalty = Annotated[
    float, _option(_WRITING, "Against tokens already in the summary; 1 is off.", min=0.01)
]
NoRepeatNgram = Annotated[
    int, _option(_WRITING, "No sequence of so many tokens twice in a summary; 0 is off.", min=0)
]
EndpointKind = Annotated[
    Literal["chat", "completions"],
    _option(
        _WRITING,
        "With --engine openai: chat lets the server apply its template; completions sends the "
        "token ids that --engine local would read.",
    ),
]
DomainOption = Annotated[
    Domain,
    _option(
        "Prompt",
        "Whose prompts: auto looks at the items' attributes; sentences asks for prose.",
    ),
]
Repair = Annotated[
    bool,
    _option(_CHECKS, "Drop what no item supports; ask again for bad texts, then replace them."),
]
Rewrites = Annotated[
    int, _option(_CHECKS, "How often a bad text is asked for again.", min=0, max=5)
]

QueryOption = Annotated[
    Query,
    _option(
        _ATTENTION,
        "Who asks: the recent items, or each candidate (then the prompt's branches carry the "
        "summaries).",
    ),
]
Temperature = Annotated[
    float,
    _option(
        _ATTENTION,
        "Of the softmax over cosines: small looks at the best block.",
        min=0.001,
        max=1_000_000,
    ),
]
TopK = Annotated[int, _option(_ATTENTION, "Block summaries that speak at most.", min=1)]
QueryItems = Annotated[int, _option(_ATTENTION, "Last items that ask, for recent.", min=1)]
Budget = Annotated[
    int | None,
    typer.Option(
        help="Tokens of the block summaries that speak, together.",
        rich_help_panel=_ATTENTION,
        show_default="--max-new-tokens",
        min=1,
    ),
]
Show = Annotated[
    str | None,
    typer.Option(
        metavar="USER",
        help="Print what RUN's summaries say of a user, block by block, and stop.",
    ),
]


@dataclass(frozen=True)
class _Job:
    """Where everything is, and what to do with it."""

    mode: Mode
    items: Path | None
    examples: Path
    out: Path
    store: Path
    splits: tuple[str, ...]
    limit: int | None
    overwrite: bool
    vectors: Path | None = None


def summarize(
    context: typer.Context,
    run: options.Run = None,
    mode: ModeOption = "hier",
    show: Show = None,
    items: options.Items = None,
    examples: options.Examples = None,
    out: options.Out = None,
    vectors: options.Vectors = None,
    store: options.Store = None,
    split: Splits = None,
    block_size: BlockSize = 5,
    item_tokens: ItemTokens = 64,
    prompt_tokens: PromptTokens = 1024,
    domain: DomainOption = "auto",
    prompts: options.Prompts = None,
    attributes: options.Attributes = None,
    chat_template: options.ChatTemplate = None,
    max_new_tokens: MaxNewTokens = 64,
    repetition_penalty: RepetitionPenalty = 1.0,
    no_repeat_ngram: NoRepeatNgram = 3,
    repair: Repair = True,
    rewrites: Rewrites = 1,
    engine: options.Engine = "local",
    endpoint: EndpointKind = "chat",
    base_url: options.BaseUrl = None,
    tokenizer: options.TokenizerOption = None,
    api_key_env: options.ApiKeyEnv = "OPENAI_API_KEY",
    concurrency: options.Concurrency = 8,
    timeout: options.Timeout = 120.0,
    retries: options.Retries = 4,
    price_in: options.PriceIn = 0.0,
    price_out: options.PriceOut = 0.0,
    max_cost: options.MaxCost = None,
    extra_body: options.ExtraBody = None,
    query: QueryOption = "recent",
    temperature: Temperature = 0.1,
    top_k: TopK = 3,
    query_items: QueryItems = 3,
    budget: Budget = None,
    model: options.Model = DEFAULT_MODEL,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    embedder: options.Embedder = DEFAULT_EMBEDDER,
    max_tokens: options.MaxTokens = 16384,
    limit: options.Limit = None,
    dry_run: options.DryRun = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    json_line: options.JsonLine = False,
    debug: options.Debug = False,
    config: options.Config = None,  # noqa: ARG001 - read by its callback
) -> None:
    """Write a preference summary for every example with a frozen language model.

    Histories are cut into blocks, oldest first. [b]hier[/b] summarises every block and merges
    the summaries; [b]recurrent[/b] updates one summary block by block; [b]attention[/b] lets the
    recent items or each candidate choose among the block summaries; [b]none[/b] writes empty
    ones. Every text is kept in a store, so the same command continues where it was stopped.

    Example: trec summarize runs/news --mode hier --model models/SmolLM2-135M-Instruct

    Print the tree of one user:

    [b]trec summarize runs/news --mode hier --show U147[/b]
    """
    piped = out is not None and is_stream(out)
    with stage(
        "summarize", quiet=quiet, json_line=json_line, debug=debug, data_on_stdout=piped
    ) as terminal:
        _check_mode(context, mode)
        if show is not None:
            show_user(
                terminal,
                show,
                summaries=resolve(out, run, "summaries", mode),
                items=resolve(items, run, "items"),
                examples=resolve(examples, run, "examples"),
                as_json=json_line,
            )
            return
        job = _find_files(run, mode, items, examples, out, store, split, limit, overwrite)
        if mode == "none":
            _run_without_model(terminal, job, dry_run)
            return
        from trec_cli.models.generate import Decoding
        from trec_cli.models.source import ModelSource
        from trec_cli.summarize.settings import SummarySettings
        from trec_cli.summarize.setup import Setup

        options.check_engine(
            context,
            engine,
            local=_LOCAL_DECODING,
            remote={"endpoint"},
            embeds=mode == "attention",
        )
        texts = options.names(attributes)
        sizes = (block_size, item_tokens, max_new_tokens, prompt_tokens)
        settings = SummarySettings(*sizes, texts, chat_template, domain, repair, rewrites)
        decoding = Decoding(max_new_tokens, repetition_penalty, no_repeat_ngram)
        source = ModelSource(
            tokenizer or model,
            revision=revision,
            trust_remote_code=trust_remote_code,
            device=device,
            dtype=dtype,
        )
        setup = Setup(mode, settings, decoding, source, max_tokens, prompts)
        if mode == "attention":
            job = _with_vectors(job, query, vectors)
            asked = (query, temperature, top_k, query_items, budget or max_new_tokens)
            setup = _with_attention(setup, embedder, engine, *asked)
        if engine == "openai":
            from trec_cli.summarize.remote import remote_setup

            limits = options.ServerLimits(
                concurrency=concurrency,
                timeout=timeout,
                retries=retries,
                price_in=price_in,
                price_out=price_out,
                max_cost=max_cost,
            )
            server = options.server(base_url, model, api_key_env, limits, extra_body)
            setup = remote_setup(setup, server, endpoint)
        _run_with_model(terminal, job, setup, dry_run)


def _check_mode(context: typer.Context, mode: Mode) -> None:
    """Refuse options, on the command line, of a mode that was not asked for."""
    foreign = options.given(context, "COMMANDLINE") & _ATTENTION_OPTIONS
    if mode != "attention" and foreign:
        option = min(foreign).replace("_", "-")
        raise UsageError(f"--{option} is for --mode attention, not for {mode}")


def _with_vectors(job: _Job, query: Query, given: Path | None) -> _Job:
    """Find where item vectors go, if the candidates ask."""
    from trec_cli.attention.target import vectors_path

    if query == "recent":
        return job
    place = given or vectors_path(job.out)
    if place is None:
        raise UsageError("--query candidate with --out - needs --vectors FILE for item vectors")
    return dataclasses.replace(job, vectors=place)


def _with_attention(
    setup: "Setup", embedder: str, engine: options.EngineName, *settings: Any
) -> "Setup":
    from trec_cli.models.embedder import EmbedderSource
    from trec_cli.summarize.attention import AttentionSettings

    return dataclasses.replace(
        setup,
        attention=AttentionSettings(*settings),
        embedder=EmbedderSource(embedder, setup.source, served=engine == "openai"),
    )


def _find_files(
    run: Path | None,
    mode: Mode,
    items: Path | None,
    examples: Path | None,
    out: Path | None,
    store: Path | None,
    split: Sequence[str] | None,
    limit: int | None,
    overwrite: bool,
) -> _Job:
    """Find all files; without RUN the store lies beside the output (nowhere for stdout)."""
    unknown = set(split or ()) - set(SPLITS)
    if unknown:
        raise UsageError(f"--split {min(unknown)}: choose from {', '.join(SPLITS)}")
    output = resolve(out, run, "summaries", mode)
    if store is None and run is None:
        store = Path(":memory:") if is_stream(output) else output.parent / "generations.sqlite"
    return _Job(
        mode=mode,
        items=None if mode == "none" else resolve(items, run, "items"),
        examples=resolve(examples, run, "examples"),
        out=output,
        store=resolve(store, run, "store"),
        splits=tuple(dict.fromkeys(split or ())),
        limit=limit,
        overwrite=overwrite,
    )


def _read(terminal: Terminal, job: _Job) -> tuple[dict[str, Item], list[Example]]:
    """Read the catalogue and the examples that were chosen."""
    from trec_cli.summarize.run import choose

    check_streams({"--items": job.items, "--examples": job.examples})
    catalogue = None if job.items is None else read_items(job.items)
    chosen = choose(read_examples(job.examples, catalogue), job.splits, job.limit)
    if not chosen:
        raise UsageError(f"{job.examples} has no example of split {', '.join(job.splits)}")
    empty = sum(not example.history for example in chosen)
    if empty and job.mode != "none":
        terminal.warn(f"{empty} of {len(chosen)} examples have no history; their summary is empty")
    return catalogue or {}, chosen


def _provenance(
    job: _Job,
    items: Mapping[str, Item],
    chosen: Sequence[Example],
    settings: dict[str, Any],
) -> Provenance:
    """Start the manifest; what came through a stream is known by its content."""
    inputs = [path for path in (job.items, job.examples) if path is not None]
    about = {**settings, "splits": job.splits, "limit": job.limit}
    if is_stream(job.examples):
        about["examples"] = content_hash(chosen)
    if job.items is not None and is_stream(job.items):
        about["items"] = content_hash(items.values())
    return Provenance("summarize", about, inputs)


@contextmanager
def _unless_done(terminal: Terminal, job: _Job, provenance: Provenance) -> Iterator[bool]:
    """Hold the output's lock; give whether there is anything to do."""
    check = partial(up_to_date, settings=provenance.settings, overwrite=job.overwrite)
    beside = [job.vectors] if job.vectors else []
    if is_stream(job.out):
        for output in beside:
            check(output)
        yield True
        return
    outputs = [job.out, *beside]
    with locked(job.out):
        checked = [check(output) for output in outputs]  # each, to refuse what is another's
        done = all(checked)
        if done:
            terminal.info(f"{job.out} is there already, made with the same settings")
        terminal.result(output=str(job.out), already_done=done)
        yield not done


def _run_without_model(terminal: Terminal, job: _Job, dry_run: bool) -> None:
    from trec_cli.summarize.run import no_summaries, save

    _, chosen = _read(terminal, job)
    if dry_run:
        terminal.info(f"would write {len(chosen)} empty summaries to {job.out}; no model is needed")
        terminal.result(examples=len(chosen), calls=0, prompt_tokens=0)
        return
    provenance = _provenance(job, {}, chosen, {"mode": "none"})
    with _unless_done(terminal, job, provenance) as needed:
        if needed:
            _finish(terminal, job, save(no_summaries(chosen), job.out, provenance))


def _finish(terminal: Terminal, job: _Job, details: dict[str, Any]) -> None:
    """Say that it is done."""
    if not is_stream(job.out):
        terminal.info(f"wrote {job.out}")
    terminal.result(**details)


def _run_with_model(terminal: Terminal, job: _Job, setup: "Setup", dry_run: bool) -> None:
    catalogue, chosen = _read(terminal, job)
    writer = setup.writer(catalogue)
    if dry_run:
        show_plan(terminal, job.mode, setup, writer, chosen)
        return
    provenance = _provenance(job, catalogue, chosen, setup.describe(writer))
    with _unless_done(terminal, job, provenance) as needed:
        if needed:
            attention = setup.attender(catalogue, chosen, writer, job.store, terminal)
            details = _summarize(terminal, job, setup, writer, chosen, provenance, attention)
            _finish(terminal, job, details)


def _summarize(
    terminal: Terminal,
    job: _Job,
    setup: "Setup",
    writer: "PromptWriter",
    chosen: Sequence[Example],
    provenance: "Provenance",
    attention: "tuple[Attender, VectorMaker] | None",
) -> dict[str, Any]:
    """Make and save all summaries; give what there is to tell."""
    from trec_cli.summarize.asking import Asker
    from trec_cli.summarize.audit import Audit
    from trec_cli.summarize.run import save, summarize
    from trec_cli.summarize.store import Store

    attender, maker = attention or (None, None)
    told = tell_vectors(terminal, maker) if maker else {}
    beside = {}
    if attender and maker and job.vectors:
        beside[job.vectors] = attender.target.encoded(maker.identity)
    with Store(job.store) as store:
        engine, reason = setup.engine(writer)
        terminal.info(f"{engine.identity['name']} on {reason}; texts are kept in {job.store}")
        checker, retries = setup.checker(writer), setup.retries
        asker = Asker(engine, store, terminal, checker=checker, retries=retries)
        audit = Audit(writer.items)

        def tell(written: "Written") -> dict[str, Any]:
            tell_run(terminal, asker.counts, writer, written)
            tell_quality(terminal, asker.counts, audit, setup.advice())
            return {
                **asdict(written),
                **asker.counts.asdict(),
                "cuts": writer.cuts.asdict(),
                "quality": audit.asdict(),
                "device": reason,
                "store": str(job.store),
                **told,
                **setup.details(),
            }

        name = engine.identity["name"]
        made = summarize(chosen, job.mode, writer, asker.ask, name, attender)
        watched = audit.watch(made, (example.history for example in chosen))
        try:
            return save(watched, job.out, provenance, tell, beside)
        finally:  # what a run has cost is told of a run that failed, too
            terminal.result(**setup.details())
