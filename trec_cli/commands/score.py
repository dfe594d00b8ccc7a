"""``trec score``: one score per candidate, by a language model or a baseline."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.inputs import resolve
from trec_cli.commands.options import (
    Attributes,
    CandidateTokens,
    ChatTemplate,
    Config,
    Debug,
    Device,
    DryRun,
    Dtype,
    Examples,
    Items,
    JsonLine,
    Limit,
    MaxLength,
    MaxTokens,
    Mode,
    Model,
    Out,
    Overwrite,
    Prompts,
    Quiet,
    Recent,
    Revision,
    Run,
    Seed,
    Summaries,
    TrustRemoteCode,
    names,
)
from trec_cli.errors import InputError, UsageError
from trec_cli.jsonl import is_stream
from trec_cli.llm import DEFAULT_MODEL
from trec_cli.records import MODES, Split

if TYPE_CHECKING:
    from trec_cli.llm.load import ModelSource
    from trec_cli.prompts.recommend import PromptBuilder
    from trec_cli.records import Example, Item
    from trec_cli.scoring.adapters import Adapter
    from trec_cli.scoring.llm import LlmJob
    from trec_cli.scoring.writing import Job, Tally

_WHAT = "What is scored, and by what"
_PROMPT_OPTIONS = ("recent", "max_length", "candidate_tokens", "attributes", "chat_template")

SplitOption = Annotated[
    Split, typer.Option("--split", help="Examples to score.", rich_help_panel=_WHAT)
]
Scorer = Annotated[
    str,
    typer.Option(
        help="llm, or without a model: popularity, random, recency, bm25, cooccurrence.",
        rich_help_panel=_WHAT,
    ),
]
AdapterOption = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        help="Adapter folder.",
        rich_help_panel=_WHAT,
        show_default="RUN/model-MODE where it is",
    ),
]
ZeroShot = Annotated[
    bool,
    typer.Option(
        "--zero-shot", help="Leave the adapter out: the base model.", rich_help_panel=_WHAT
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        help="Name of the system, in scores-NAME.jsonl and in every table.",
        rich_help_panel=_WHAT,
        show_default="MODE, MODE-zeroshot, or the scorer",
    ),
]


@dataclass(frozen=True)
class _Request:
    """What was asked for."""

    run: Path | None
    mode: str
    split: Split
    scorer: str
    adapter: Path | None
    zero_shot: bool
    name: str | None
    items: Path
    examples: Path
    summaries: Path | None
    out: Path | None
    source: Mapping[str, Any]
    max_tokens: int
    prompt: Mapping[str, Any]
    prompts: Path | None
    seed: int
    limit: int | None
    given: frozenset[str] = field(default_factory=frozenset)

    def check(self) -> None:
        """Refuse what contradicts itself."""
        if self.mode not in MODES:
            raise UsageError(f"--mode {self.mode}: choose one of {', '.join(MODES)}")
        if self.zero_shot and self.adapter:
            raise UsageError("--zero-shot and --adapter exclude each other; leave one out")
        streams = [path for path in (self.examples, self.summaries) if path and is_stream(path)]
        if len(streams) > 1:
            raise UsageError("--examples and --summaries cannot both be standard input")
        foreign = self.given & {"adapter", "zero_shot", "model", *_PROMPT_OPTIONS}
        if self.scorer != "llm" and foreign:
            option = min(foreign).replace("_", "-")
            raise UsageError(f"--{option} is for --scorer llm, not for {self.scorer}")

    def target(self, default: str) -> Path:
        """Give the file to write; ``default`` names the system where the user does not."""
        return resolve(self.out, self.run, "scores", self.name or default)

    @property
    def common(self) -> dict[str, Any]:
        """Settings that every scorer has."""
        return {"scorer": self.scorer, "split": self.split, "limit": self.limit}


def score(
    context: typer.Context,
    run: Run = None,
    mode: Mode = "hier",
    split: SplitOption = "test",
    scorer: Scorer = "llm",
    adapter: AdapterOption = None,
    zero_shot: ZeroShot = False,
    name: Name = None,
    items: Items = None,
    examples: Examples = None,
    summaries: Summaries = None,
    out: Out = None,
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    max_tokens: MaxTokens = 4096,
    recent: Recent = 3,
    max_length: MaxLength = 2048,
    candidate_tokens: CandidateTokens = 512,
    attributes: Attributes = None,
    chat_template: ChatTemplate = None,
    prompts: Prompts = None,
    seed: Seed = 0,
    limit: Limit = None,
    dry_run: DryRun = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_line: JsonLine = False,
    debug: Debug = False,
    config: Config = None,  # noqa: ARG001 - its callback has read it
) -> None:
    """Score every candidate: the log-odds that the model answers yes.

    Takes the adapter RUN/model-MODE with the prompt that it was trained on; where there is none,
    the base model. What the candidates of a user share is computed once. Killed, the same
    command goes on where it was.

    [bold]trec score runs/sample --mode hier[/]

    [bold]trec score runs/sample --scorer popularity[/]
    """
    with stage("score", quiet=quiet, json_line=json_line, debug=debug) as terminal:
        request = _Request(
            run=run,
            mode=mode,
            split=split,
            scorer=scorer,
            adapter=adapter,
            zero_shot=zero_shot,
            name=name,
            items=resolve(items, run, "items"),
            examples=resolve(examples, run, "examples"),
            summaries=None if mode == "none" else resolve(summaries, run, "summaries", mode),
            out=out,
            source={
                "name": model,
                "revision": revision,
                "trust_remote_code": trust_remote_code,
                "device": device,
                "dtype": dtype,
            },
            max_tokens=max_tokens,
            prompt={
                "recent": recent,
                "max_length": max_length,
                "candidate_tokens": candidate_tokens,
                "attributes": names(attributes),
                "chat": chat_template,
            },
            prompts=prompts,
            seed=seed,
            limit=limit,
            given=_given(context),
        )
        request.check()
        if scorer == "llm":
            _score_llm(request, terminal, dry_run, overwrite)
        else:
            _score_baseline(request, terminal, dry_run, overwrite)


def _given(context: typer.Context) -> frozenset[str]:
    """Name the parameters that the user gave, on the command line or in a config file."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(
        name
        for name, source in sources.items()
        if source is not None and source.name in {"COMMANDLINE", "DEFAULT_MAP"}
    )


def _choose(everything: "Sequence[Example]", request: _Request) -> "list[Example]":
    """Take the first examples of the split."""
    chosen = [example for example in everything if example.split == request.split]
    if not chosen:
        raise InputError.of(
            request.examples,
            f"holds no example of split {request.split}",
            "choose another --split, or prepare the data with one",
        )
    return chosen[: request.limit]


def _streamed(request: _Request, records: "Sequence[Any]") -> dict[str, str]:
    """Hash what came from standard input: its name says nothing about it."""
    import hashlib

    from trec_cli.jsonl import encode_all

    if not any(path and is_stream(path) for path in (request.examples, request.summaries)):
        return {}
    return {"streamed": hashlib.sha256(b"".join(encode_all(records))).hexdigest()}


def _score_baseline(request: _Request, terminal: Terminal, dry_run: bool, overwrite: bool) -> None:
    """Score without a language model; torch is never imported."""
    from trec_cli.jsonl import read_examples, read_items
    from trec_cli.scoring.baseline_job import BaselineJob
    from trec_cli.scoring.baselines import BASELINES

    if request.scorer not in BASELINES:
        known = ", ".join(["llm", *BASELINES])
        raise UsageError(f"--scorer {request.scorer}: choose one of {known}")
    items = read_items(request.items)
    everything = read_examples(request.examples, items)
    chosen = _choose(everything, request)
    job = BaselineJob(
        request.scorer,
        items,
        everything,
        chosen,
        settings={**request.common, **_streamed(request, everything)},
        inputs=[request.items, request.examples],
        seed=request.seed,
    )
    out = request.target(request.scorer)
    if dry_run:
        terminal.info(f"dry run: would score {len(chosen)} examples into {out}")
        terminal.result(dry_run=True, examples=len(chosen), out=str(out))
        return
    _write(job, out, terminal, overwrite)


def _score_llm(request: _Request, terminal: Terminal, dry_run: bool, overwrite: bool) -> None:
    """Score with the base model or an adapter on it."""
    adapter = _find_adapter(request)
    out = request.target(request.mode if adapter else f"{request.mode}-zeroshot")
    source = _source(request, adapter)
    terminal.info(
        f"adapter {adapter.folder} on {source.name}"
        if adapter
        else f"zero-shot: {source.name} without an adapter"
    )
    if adapter is None and not request.zero_shot:
        terminal.warn(
            f"no adapter of mode {request.mode} is there (trec train makes one), so this is "
            "the untrained base model; --zero-shot says that you want it"
        )
    job = _llm_job(request, adapter, source, terminal)
    if dry_run:
        _preview(job, out, terminal)
    else:
        _write(job, out, terminal, overwrite)


def _find_adapter(request: _Request) -> "Adapter | None":
    """Find the adapter, and refuse options that do not fit it."""
    from trec_cli.runs import RunFolder
    from trec_cli.scoring.adapters import read_adapter

    folder = request.adapter
    if folder is None and request.run is not None and not request.zero_shot:
        usual = RunFolder(request.run).adapter(request.mode)
        folder = usual if usual.is_dir() else None
    if folder is None:
        return None
    adapter = read_adapter(folder)
    if "model" in request.given:
        adapter.check_base(request.source["name"])
    if "prompts" in request.given:
        raise UsageError(
            f"--prompts cannot be used with the adapter {folder}, which brings its own template "
            "in prompt.json; leave it out, or score with --zero-shot"
        )
    options = {"chat" if name == "chat_template" else name for name in request.given}
    adapter.check_prompt({name: v for name, v in request.prompt.items() if name in options})
    return adapter


def _source(request: _Request, adapter: "Adapter | None") -> "ModelSource":
    """Say which base model: the one named, else the adapter's, else the default."""
    from trec_cli.llm.load import ModelSource

    source = ModelSource(**request.source)
    if adapter is None or "model" in request.given:
        return source
    revision = source.revision or adapter.revision
    return dataclasses.replace(source, name=adapter.base_model, revision=revision)


def _builder(
    request: _Request, adapter: "Adapter | None", source: "ModelSource", items: "dict[str, Item]"
) -> "PromptBuilder":
    from trec_cli.llm.load import load_config, load_tokenizer, max_positions
    from trec_cli.prompts.recommend import PromptBuilder, PromptSettings

    settings: PromptSettings = adapter.prompt if adapter else PromptSettings(**request.prompt)
    return PromptBuilder(
        load_tokenizer(source),
        items,
        settings,
        max_positions=max_positions(load_config(source)),
        prompts=request.prompts,
        template=adapter.template if adapter else None,
    )


def _llm_job(
    request: _Request, adapter: "Adapter | None", source: "ModelSource", terminal: Terminal
) -> "LlmJob":
    """Read everything but the weights."""
    from trec_cli.jsonl import read_examples, read_items, read_summaries
    from trec_cli.llm.device import choose_device
    from trec_cli.llm.load import model_identity
    from trec_cli.prompts.recommend import template_hash
    from trec_cli.scoring.llm import LlmJob, load_scorer
    from trec_cli.training.dataset import questions_of

    items = read_items(request.items)
    chosen = _choose(read_examples(request.examples, items), request)
    summaries = read_summaries(request.summaries) if request.summaries else None
    questions = questions_of(
        chosen, summaries, request.split, file=request.summaries or request.examples
    )
    placement = choose_device(source.device, source.dtype)
    builder = _builder(request, adapter, source, items)
    settings = {
        **request.common,
        **_streamed(request, [*chosen, *(summaries or {}).values()]),
        "mode": request.mode,
        "model": model_identity(source),
        "adapter": adapter is not None,
        "prompt": dataclasses.asdict(builder.settings),
        "template": template_hash(builder.template),
        "device": placement.device.type,
        "dtype": str(placement.dtype).removeprefix("torch."),
        "max_tokens": request.max_tokens,
    }
    files = [request.items, request.examples, request.summaries]
    return LlmJob(
        questions,
        builder,
        lambda: load_scorer(source, adapter.folder if adapter else None),
        placement=placement,
        max_tokens=request.max_tokens,
        settings=settings,
        inputs=[*filter(None, files), *(adapter.files if adapter else [])],
        progress=terminal,
    )


def _preview(job: "LlmJob", out: Path, terminal: Terminal) -> None:
    """Show the first prompt, its tokens part by part, and what all of it would cost."""
    from rich.table import Table

    parts = job.describe(0)
    terminal.info("".join(part.text for part in parts))
    table = Table("part of this prompt", "tokens", title="first example, first candidate")
    for part in parts:
        table.add_row(part.name, str(part.tokens))
    table.add_row("together", str(sum(part.tokens for part in parts)))
    terminal.table(table)
    cost, cuts = job.survey.total, job.survey.cuts
    terminal.info(
        f"dry run: {cost.users} users, {cost.candidates} candidates, {cost.tokens} tokens to "
        f"compute instead of {cost.separate_tokens} ({cost.saved:.0%} saved by sharing); "
        f"{cuts}; would write {out}"
    )
    terminal.result(
        dry_run=True, out=str(out), **dataclasses.asdict(cost), cuts=dataclasses.asdict(cuts)
    )


def _write(job: "Job", out: Path, terminal: Terminal, overwrite: bool) -> None:
    """Score, and tell what came of it."""
    from trec_cli.scoring.writing import write_scores

    tally = write_scores(job, out, terminal, overwrite=overwrite)
    if tally is None:
        terminal.info(f"{out} is finished already; nothing to do")
        terminal.result(out=str(out), done_before=True)
        return
    _tell(job, tally, terminal)
    terminal.info(f"wrote {out}; next: trec eval {out.parent}")
    terminal.result(out=str(out), examples=len(job.examples), **tally.details(), **job.details())


def _tell(job: "Job", tally: "Tally", terminal: Terminal) -> None:
    if tally.continued:
        terminal.info(f"{tally.continued} users had been scored before")
    terminal.info(tally.note())
    for line in job.remarks():
        terminal.info(line)
