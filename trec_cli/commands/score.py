"""``trec score``: one score per candidate, by a language model or a baseline."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from trec_cli.commands.console import Terminal, stage
from trec_cli.commands.inputs import resolve
from trec_cli.commands.options import (
    ApiKeyEnv,
    Attributes,
    BaseUrl,
    CandidateTokens,
    ChatTemplate,
    Concurrency,
    Config,
    Debug,
    Device,
    DryRun,
    Dtype,
    Embedder,
    Engine,
    EngineName,
    Examples,
    ExtraBody,
    Items,
    JsonLine,
    Limit,
    MaxCost,
    MaxLength,
    MaxTokens,
    Mode,
    Model,
    Out,
    Overwrite,
    PriceIn,
    PriceOut,
    Prompts,
    Quiet,
    Recent,
    Retries,
    Revision,
    Run,
    Seed,
    ServerLimits,
    Store,
    Summaries,
    Timeout,
    TokenizerOption,
    TrustRemoteCode,
    Vectors,
    check_engine,
    given,
    names,
    server,
)
from trec_cli.commands.preview import show_prompt
from trec_cli.core.errors import UsageError
from trec_cli.core.files import find_summaries
from trec_cli.core.jsonl import is_stream
from trec_cli.core.records import Split
from trec_cli.core.runs import RunFolder
from trec_cli.models.endpoint.settings import EndpointSettings
from trec_cli.models.source import DEFAULT_EMBEDDER, DEFAULT_MODEL
from trec_cli.recbole import TrainOn

if TYPE_CHECKING:
    from trec_cli.score.llm_job import TreeJob
    from trec_cli.score.request import ScoreRequest
    from trec_cli.score.writing import Job, Tally

_WHAT = "What is scored, and by what"

SplitOption = Annotated[
    Split, typer.Option("--split", help="Examples to score.", rich_help_panel=_WHAT)
]
Scorer = Annotated[
    str,
    typer.Option(
        help="llm, embedding, or without a model: popularity, random, recency, bm25, "
        "cooccurrence; or trained by RecBole: recbole:SASRec (docs/baselines.md).",
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
TopLogprobs = Annotated[
    int,
    typer.Option(
        min=1,
        help="With --engine openai: tokens whose log-probabilities are asked for; yes and no "
        "must be among them (vLLM returns them anyway).",
        rich_help_panel=_WHAT,
    ),
]
CheckWith = Annotated[
    str | None,
    typer.Option(
        help="With --engine openai: the same model here, to compare two users' scores with.",
        rich_help_panel=_WHAT,
    ),
]

RecbolePython = Annotated[
    Path | None,
    typer.Option(
        envvar="TREC_RECBOLE_PYTHON",
        help="Python of RecBole's environment, for recbole:MODEL.",
        rich_help_panel=_WHAT,
    ),
]
TrainOnOption = Annotated[
    TrainOn,
    typer.Option(
        "--train-on",
        help="recbole:MODEL learns from train and the histories of valid and test, or train alone.",
        rich_help_panel=_WHAT,
    ),
]

Tune = Annotated[
    bool,
    typer.Option(
        "--tune/--no-tune",
        help="Choose the settings of recency, bm25, cooccurrence or embedding on split valid, "
        "or take their defaults (docs/baselines.md).",
        rich_help_panel=_WHAT,
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


@dataclass(frozen=True)
class _Remote:
    """The server, and how it is asked."""

    settings: EndpointSettings
    top_logprobs: int
    check_with: str | None


def score(
    context: typer.Context,
    run: Run = None,
    mode: Mode = "hier",
    split: SplitOption = "test",
    scorer: Scorer = "llm",
    adapter: AdapterOption = None,
    zero_shot: ZeroShot = False,
    name: Name = None,
    recbole_python: RecbolePython = None,
    train_on: TrainOnOption = "histories",
    tune: Tune = True,
    items: Items = None,
    examples: Examples = None,
    summaries: Summaries = None,
    vectors: Vectors = None,
    out: Out = None,
    engine: Engine = "local",
    base_url: BaseUrl = None,
    tokenizer: TokenizerOption = None,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    concurrency: Concurrency = 8,
    timeout: Timeout = 120.0,
    retries: Retries = 4,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    max_cost: MaxCost = None,
    extra_body: ExtraBody = None,
    top_logprobs: TopLogprobs = 20,
    check_with: CheckWith = None,
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
    from trec_cli.core.database import IN_MEMORY
    from trec_cli.models.source import ModelSource
    from trec_cli.prompts.settings import PromptSettings
    from trec_cli.score.request import ScoreRequest

    piped = out is not None and is_stream(out)
    with stage(
        "score", quiet=quiet, json_line=json_line, debug=debug, data_on_stdout=piped
    ) as terminal:
        request = ScoreRequest(
            mode=mode,
            split=split,
            scorer=scorer,
            adapter=adapter,
            usual_adapter=None if run is None else RunFolder(run).adapter(mode),
            zero_shot=zero_shot,
            items=resolve(items, run, "items"),
            examples=resolve(examples, run, "examples"),
            summaries=find_summaries(mode, summaries, run) if scorer == "llm" else None,
            source=ModelSource(
                tokenizer or model,
                revision=revision,
                trust_remote_code=trust_remote_code,
                device=device,
                dtype=dtype,
            ),
            max_tokens=max_tokens,
            prompt=PromptSettings(
                recent=recent,
                max_length=max_length,
                candidate_tokens=candidate_tokens,
                attributes=names(attributes),
                chat=chat_template,
            ),
            prompts=prompts,
            seed=seed,
            limit=limit,
            given=_given(context, engine),
            typed=given(context, "COMMANDLINE"),
            vectors=vectors,
            embedder=embedder,
            store=store or (IN_MEMORY if run is None else RunFolder(run).store),
            recbole_python=recbole_python,
            train_on=train_on,
            tune=tune,
        )
        request.check()
        check_engine(context, engine, remote={"top_logprobs", "check_with"})
        target = _Target(out, run, name, split)
        if scorer == "llm" and engine == "openai":
            limits = ServerLimits(
                concurrency=concurrency,
                timeout=timeout,
                retries=retries,
                price_in=price_in,
                price_out=price_out,
                max_cost=max_cost,
            )
            settings = server(base_url, model, api_key_env, limits, extra_body)
            remote = _Remote(settings, top_logprobs, check_with)
            _score_remote(request, remote, target, terminal, dry_run, overwrite)
            return
        run_it = _chosen(scorer)
        run_it(request, target, terminal, dry_run, overwrite)


def _given(context: typer.Context, engine: EngineName) -> frozenset[str]:
    """Name what the user gave; a served model's files are known by its tokenizer."""
    found = given(context, "COMMANDLINE", "DEFAULT_MAP")
    if engine == "local":
        return found
    return found - {"model"} | ({"model"} if "tokenizer" in found else set())


def _chosen(scorer: str) -> "Callable[[ScoreRequest, _Target, Terminal, bool, bool], None]":
    """Give what scores with ``scorer``."""
    from trec_cli.score.names import RECBOLE

    if scorer.startswith(RECBOLE):
        return _score_recbole
    own = {"llm": _score_llm, "embedding": _score_embedding}
    return own.get(scorer, _score_baseline)


def _score_baseline(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score without a language model; torch is never imported."""
    from trec_cli.score.baseline_job import make_baseline_job

    _write_baseline(make_baseline_job(request), request, target, terminal, dry_run, overwrite)


def _score_embedding(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score by the vectors of a sentence-embedding model, or of the language model."""
    from trec_cli.score.embedding_job import make_embedding_job

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
        _announce(job, out, terminal)
    else:
        _write(job, out, terminal, overwrite)


def _announce(job: "Job", out: Path, terminal: Terminal) -> None:
    """Say what a scorer without prompts would do."""
    terminal.info(f"dry run: would score {len(job.examples)} examples into {out}")
    terminal.result(dry_run=True, examples=len(job.examples), out=str(out))


def _score_recbole(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Let RecBole train a model; its finished trials are kept until the scores are written."""
    from trec_cli.score.recbole_job import make_recbole_job

    out = target.path(request.scorer.replace(":", "-"))
    with TemporaryDirectory(prefix="trec-recbole-") as folder:
        work = Path(folder) if is_stream(out) else out.with_name(f".{out.name}.recbole")
        job = make_recbole_job(request, work, terminal)
        if dry_run:
            _announce(job, out, terminal)
            return
        _write(job, out, terminal, overwrite)
        rmtree(work, ignore_errors=True)


def _score_llm(
    request: "ScoreRequest", target: _Target, terminal: Terminal, dry_run: bool, overwrite: bool
) -> None:
    """Score with the base model or an adapter on it, and say which, loudly."""
    from trec_cli.score.llm_job import make_llm_job

    request.check_files()
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


def _score_remote(
    request: "ScoreRequest",
    remote: _Remote,
    target: _Target,
    terminal: Terminal,
    dry_run: bool,
    overwrite: bool,
) -> None:
    """Score with what a server serves; the adapter only says which prompt that has learnt."""
    from trec_cli.models.endpoint.server import Server
    from trec_cli.score.endpoint_job import make_endpoint_job

    adapter = request.find_adapter()
    if adapter and request.adapter is None:
        raise UsageError(
            f"{adapter.folder} is there: give --adapter {adapter.folder} if the server serves it "
            "(its prompt is used then), or --zero-shot if it serves a model without it"
        )
    out = target.path(request.mode if adapter else f"{request.mode}-zeroshot")
    settings = remote.settings
    prompt = f"the prompt of {adapter.folder}" if adapter else "the zero-shot prompt"
    terminal.info(f"{settings.model} at {settings.base_url}, with {prompt}")
    job = make_endpoint_job(
        request,
        adapter,
        Server(settings),
        terminal,
        top_logprobs=remote.top_logprobs,
        check_with=remote.check_with,
    )
    if dry_run:
        _preview(job, out, terminal)
        return
    try:
        with job.server:
            _write(job, out, terminal, overwrite)
    finally:  # what a run has cost is told of a run that failed, too
        terminal.result(endpoint=job.server.details())


def _preview(job: "TreeJob", out: Path, terminal: Terminal) -> None:
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
    from trec_cli.score.writing import write_scores

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
