"""``trec score``: one score per candidate, by a language model or a baseline."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    Embedder,
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
    Store,
    Summaries,
    TrustRemoteCode,
    Vectors,
    given,
    names,
)
from trec_cli.commands.preview import show_prompt
from trec_cli.embedding import DEFAULT_EMBEDDER
from trec_cli.errors import UsageError
from trec_cli.jsonl import is_stream
from trec_cli.llm import DEFAULT_MODEL
from trec_cli.records import Split
from trec_cli.runs import RunFolder

if TYPE_CHECKING:
    from trec_cli.scoring.llm_job import LlmJob
    from trec_cli.scoring.request import ScoreRequest
    from trec_cli.scoring.writing import Job, Tally

_WHAT = "What is scored, and by what"

SplitOption = Annotated[
    Split, typer.Option("--split", help="Examples to score.", rich_help_panel=_WHAT)
]
Scorer = Annotated[
    str,
    typer.Option(
        help="llm, embedding, or without a model: popularity, random, recency, bm25, cooccurrence.",
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
        show_default="MODE, MODE-zeroshot, or the scorer; -SPLIT behind it where it is not test",
    ),
]


@dataclass(frozen=True)
class _Target:
    """Where the scores go: as named, else by the system's name (and split) in RUN."""

    out: Path | None
    run: Path | None
    name: str | None
    split: Split

    def path(self, system: str) -> Path:
        """Give the file; ``system`` is its name where the user gave none."""
        if self.name and Path(self.name).name != self.name:
            raise UsageError(f"--name {self.name} is part of a file name and cannot hold a slash")
        usual = system if self.split == "test" else f"{system}-{self.split}"
        return resolve(self.out, self.run, "scores", self.name or usual)


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
    vectors: Vectors = None,
    out: Out = None,
    store: Store = None,
    model: Model = DEFAULT_MODEL,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    embedder: Embedder = DEFAULT_EMBEDDER,
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

    Takes the adapter RUN/model-MODE with the prompt that it was trained on;
    where there is none, the base model. What the candidates of a user share is
    computed once. Killed, the same command goes on where it was.

    [bold]trec score runs/sample --mode hier[/]

    [bold]trec score runs/sample --scorer popularity[/]
    """
    from trec_cli.database import IN_MEMORY
    from trec_cli.prompts.recommend import PromptSettings
    from trec_cli.scoring.request import EMBEDDING, ScoreRequest, SourceOptions

    piped = out is not None and is_stream(out)
    with stage(
        "score", quiet=quiet, json_line=json_line, debug=debug, data_on_stdout=piped
    ) as terminal:
        summarized = scorer == "llm" and mode != "none"
        request = ScoreRequest(
            mode=mode,
            split=split,
            scorer=scorer,
            adapter=adapter,
            usual_adapter=None if run is None else RunFolder(run).adapter(mode),
            zero_shot=zero_shot,
            items=resolve(items, run, "items"),
            examples=resolve(examples, run, "examples"),
            summaries=resolve(summaries, run, "summaries", mode) if summarized else None,
            source=SourceOptions(model, revision, trust_remote_code, device, dtype),
            max_tokens=max_tokens,
            prompt=PromptSettings(
                recent, max_length, candidate_tokens, names(attributes), chat_template
            ),
            prompts=prompts,
            seed=seed,
            limit=limit,
            vectors=vectors,
            embedder=embedder,
            store=store or (IN_MEMORY if run is None else RunFolder(run).store),
            given=given(context, "COMMANDLINE", "DEFAULT_MAP"),
            typed=given(context, "COMMANDLINE"),
        )
        request.check()
        run_it = {"llm": _score_llm, EMBEDDING: _score_embedding}.get(scorer, _score_baseline)
        run_it(request, _Target(out, run, name, split), terminal, dry_run, overwrite)


def _score_baseline(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score without a language model; torch is never imported."""
    from trec_cli.scoring.baseline_job import make_baseline_job

    _write_baseline(make_baseline_job(request), request, target, terminal, dry_run, overwrite)


def _score_embedding(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score by the vectors of a sentence-embedding model, or of the language model."""
    from trec_cli.scoring.embedding_job import make_embedding_job

    job = make_embedding_job(request, terminal)
    _write_baseline(job, request, target, terminal, dry_run, overwrite)


def _write_baseline(
    job: "Job",
    request: "ScoreRequest",
    target: _Target,
    terminal: Terminal,
    dry_run: bool,
    overwrite: bool,
) -> None:
    out = target.path(request.scorer)
    if dry_run:
        terminal.info(f"dry run: would score {len(job.examples)} examples into {out}")
        terminal.result(dry_run=True, examples=len(job.examples), out=str(out))
        return
    _write(job, out, terminal, overwrite)


def _score_llm(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score with the base model or an adapter on it, and say which, loudly."""
    from trec_cli.scoring.llm_job import make_llm_job

    adapter = request.find_adapter()
    base = request.base_model(adapter)
    out = target.path(request.mode if adapter else f"{request.mode}-zeroshot")
    if adapter:
        terminal.info(f"adapter {adapter.folder} on {base}")
    elif request.zero_shot:
        terminal.info(f"zero-shot: {base} without an adapter")
    else:
        terminal.warn(
            f"no adapter of mode {request.mode} is there (trec train makes one), so this is "
            f"the untrained base model {base}; --zero-shot says that you want it"
        )
    job = make_llm_job(request, adapter, terminal)
    if dry_run:
        _preview(job, out, terminal)
    else:
        _write(job, out, terminal, overwrite)


def _preview(job: "LlmJob", out: Path, terminal: Terminal) -> None:
    """Show the first prompt, its tokens part by part, and what all of it would cost."""
    show_prompt(job.describe(0), terminal)
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
    if not is_stream(out):
        terminal.info(f"wrote {out}; next: trec eval {out.parent}")
    terminal.result(out=str(out), examples=len(job.examples), **tally.details(), **job.details())


def _tell(job: "Job", tally: "Tally", terminal: Terminal) -> None:
    if tally.continued:
        terminal.info(f"{tally.continued} users had been scored before")
    terminal.info(tally.note())
    for line in job.remarks():
        terminal.info(line)
