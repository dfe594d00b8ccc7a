"""What decides a summary, and the options of ``trec summarize``; imports no torch."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from trec_cli.core.cost import PlanOptions
from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import UsageError
from trec_cli.core.files import (
    Examples,
    Items,
    Limit,
    Out,
    Run,
    Store,
    Vectors,
    check_named,
    resolve,
)
from trec_cli.core.jsonl import check_streams, is_stream
from trec_cli.core.options import Option, check_choice, parameters, refuse_unread
from trec_cli.core.records import SPLITS, Domain, Mode, Query
from trec_cli.core.shards import ShardName, find_shard
from trec_cli.models.endpoint.settings import Engine, ServerOptions
from trec_cli.models.source import DEFAULT_EMBEDDER, Decoding, EmbedderName, MaxTokens, ModelSource
from trec_cli.models.workers import RayOptions
from trec_cli.prompts.settings import PANEL as PROMPT
from trec_cli.prompts.settings import Attributes, ChatTemplate, Prompts

_SUMMARY = "Summaries"
_WRITING = "How the model writes"
_CHECKS = "How texts are checked"
_ATTENTION = "Mode attention"


@dataclass(frozen=True, kw_only=True)
class SummarySettings:
    """Sizes and texts of the prompts.

    Attributes:
        block_size: items in a block (the paper's 5).
        skip_recent: newest items to leave out, because the prompt shows them.
        item_tokens: longest line of an item, in tokens.
        prompt_tokens: longest prompt, in tokens; what does not fit is merged in more levels.
        summary_tokens: longest summary, in tokens, both written and read again.
        domain: whose templates; ``auto`` looks at the items' attributes.
        attributes: item attributes to show, in this order; None shows all.
        chat: use the model's chat template; None where it has one and the prompts are no
            texts to continue.
        repair: drop what has no support, ask again, replace; False keeps what models write.
        retries: how often a bad text is asked for again before it is replaced.
    """

    block_size: Annotated[int, Option("Items in a block.", panel=_SUMMARY, minimum=1)] = 5
    skip_recent: Annotated[
        int,
        Option(
            "Newest items to leave out, for prompts that show them; then train --targets all "
            "learns them, too.",
            panel=_SUMMARY,
            minimum=0,
        ),
    ] = 0
    item_tokens: Annotated[
        int, Option("Longest item in a prompt, in tokens.", panel=_SUMMARY, minimum=1)
    ] = 64
    prompt_tokens: Annotated[
        int,
        Option("Longest prompt, in tokens; more is merged in levels.", panel=_SUMMARY, minimum=1),
    ] = 1024
    domain: Annotated[
        Domain,
        Option(
            "Whose prompts: auto looks at the items' attributes; sentences asks for prose.",
            panel=PROMPT,
        ),
    ] = "auto"
    attributes: Attributes = None
    chat: ChatTemplate = None
    summary_tokens: Annotated[
        int,
        Option(
            "Longest summary, in tokens.", panel=_WRITING, names=("--max-new-tokens",), minimum=1
        ),
    ] = 64
    repair: Annotated[
        bool,
        Option(
            "Drop what no item supports; ask again for bad texts, then replace them.",
            panel=_CHECKS,
        ),
    ] = True
    retries: Annotated[
        int,
        Option(
            "How often a bad text is asked for again.",
            panel=_CHECKS,
            names=("--rewrites",),
            recorded="retries",
            minimum=0,
            maximum=5,
        ),
    ] = 1

    def recorded(self) -> dict[str, Any]:
        """Return the settings for the manifest; ``skip_recent`` 0 is left out, as before it was."""
        values = asdict(self)
        if not self.skip_recent:
            del values["skip_recent"]
        return values


@dataclass(frozen=True, kw_only=True)
class AttentionSettings:
    """What decides the weights of blocks, beside the embedder.

    Attributes:
        query: who asks: the recent items (one summary for all candidates), or each
            candidate.
        temperature: of the softmax; cosines lie between -1 and 1.
        top_k: how many blocks the summary is made of, at most.
        query_items: how many of the last items ask in ``recent``.
        budget: tokens of these blocks' summaries together; None takes those of a summary.
    """

    query: Annotated[
        Query,
        Option(
            "Who asks: the recent items, or each candidate (then the prompt's branches carry "
            "the summaries).",
            panel=_ATTENTION,
        ),
    ] = "recent"
    temperature: Annotated[
        float,
        Option(
            "Of the softmax over cosines: a small one looks at the best block alone.",
            panel=_ATTENTION,
            minimum=0.001,
            maximum=1_000_000,
        ),
    ] = 0.1
    top_k: Annotated[
        int, Option("Block summaries that are used, at most.", panel=_ATTENTION, minimum=1)
    ] = 3
    query_items: Annotated[
        int, Option("Last items that ask, for recent.", panel=_ATTENTION, minimum=1)
    ] = 3
    budget: Annotated[
        int | None,
        Option(
            "Tokens of the block summaries that are used, together.",
            panel=_ATTENTION,
            default_text="--max-new-tokens",
            minimum=1,
        ),
    ] = None


@dataclass(frozen=True)
class SummaryFiles:
    """Where everything is.

    Attributes:
        items: the catalogue; None for mode ``none``, which needs no text.
        examples: whose histories are summarised.
        out: the summaries.
        store: all texts and vectors made.
        vectors: of items, where the candidates ask; else None.
    """

    items: Path | None
    examples: Path
    out: Path
    store: Path
    vectors: Path | None = None

    def check(self) -> None:
        """Refuse two inputs from one standard input.

        Raises:
            UsageError: naming the options.
        """
        check_streams({"--items": self.items, "--examples": self.examples})


@dataclass(frozen=True, kw_only=True)
class SummarizeOptions:
    """All options of ``trec summarize``.

    Attributes:
        run: the folder in which files are found by name.
        mode: how summaries are made.
        show: print the summaries of this user, and stop.
        items, examples, out, vectors, store: files; None where RUN has them.
        split: only examples of these splits; all where there is none.
        summary: sizes and texts of prompts.
        prompts: folder with the user's templates.
        decoding: how a local model writes.
        engine: where the model runs.
        endpoint: which endpoint of a server writes.
        server: which server, and how it is asked.
        ray: how a Ray cluster is used.
        plan: on what a dry run is planned.
        attention, embedder: of mode ``attention`` alone.
        source: which model.
        max_tokens: tokens of one batch, answers included.
        limit: only the first so many examples of each split.
        shard: part of these, ``I/N``; None for all.
    """

    run: Run = None
    mode: Annotated[
        Mode,
        Option(
            "hier merges block summaries, recurrent carries one forward, attention weighs them."
        ),
    ] = "hier"
    show: Annotated[
        str | None,
        Option(
            "Print what RUN's summaries say of a user, block by block, and stop.", metavar="USER"
        ),
    ] = None
    items: Items = None
    examples: Examples = None
    out: Out = None
    vectors: Vectors = None
    store: Store = None
    split: Annotated[
        tuple[str, ...],
        Option(
            "Only train, valid, test or predict; may be given more than once.",
            panel=_SUMMARY,
            recorded="splits",
            repeatable=True,
        ),
    ] = ()
    summary: SummarySettings = field(default_factory=SummarySettings)
    prompts: Prompts = None
    decoding: Decoding = field(default_factory=Decoding)
    engine: Engine = "local"
    endpoint: Annotated[
        Literal["chat", "completions"],
        Option(
            "With --engine openai: chat lets the server apply its template; completions sends "
            "the token ids that --engine local would read.",
            panel=_WRITING,
        ),
    ] = "chat"
    server: ServerOptions = field(default_factory=ServerOptions)
    ray: RayOptions = field(default_factory=RayOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    attention: AttentionSettings = field(default_factory=AttentionSettings)
    source: ModelSource = field(default_factory=ModelSource)
    embedder: EmbedderName = DEFAULT_EMBEDDER
    max_tokens: MaxTokens = 16384
    limit: Limit = None
    shard: ShardName = None

    def check(self, typed: Collection[str] = ()) -> None:
        """Refuse unknown splits, and options that change nothing here.

        Args:
            typed: parameters that stand on the command line; in a file for several
                commands and modes an option may well be of no use.

        Raises:
            UsageError: naming the option.
        """
        for split in self.split:
            check_choice("--split", split, SPLITS)
        if self.shard and self.mode == "attention" and self.attention.query == "candidate":
            raise UsageError("--shard cannot be used with --query candidate: run it in one piece")
        attention = {*parameters(AttentionSettings), "embedder", "vectors"}
        if self.mode != "attention":
            refuse_unread(typed, attention, f"--mode attention, not for {self.mode}")
        if self.mode == "none":
            return
        if self.engine != "ray":
            refuse_unread(typed, parameters(RayOptions), f"--engine ray, not for {self.engine}")
        if self.engine != "openai":
            served = {*parameters(ServerOptions), "endpoint"}
            refuse_unread(typed, served, f"--engine openai, not for {self.engine}")
        else:
            # An embedder runs here, whatever writes the texts.
            placed = set() if self.mode == "attention" else {"device", "dtype", "max_tokens"}
            local = {*parameters(Decoding), *placed}
            refuse_unread(typed, local, "--engine local, not for openai")

    @property
    def tokenized(self) -> ModelSource:
        """Where the tokenizer lies (and, of a local model, the weights)."""
        return replace(self.source, name=self.server.tokenizer or self.source.name)

    def files(self) -> SummaryFiles:
        """Find all files; without RUN the store lies beside the output (nowhere for stdout).

        A shard writes beside the output, and has a store of its own: machines that share a
        folder over the network cannot share a database in it.

        Raises:
            UsageError: a file that neither an option nor RUN names, or a shard of a stream.
        """
        asked = {"--examples": self.examples, "--out": self.out}
        if self.mode != "none":
            asked = {"--items": self.items, **asked}
        check_named(self.run, asked)
        out = resolve(self.out, self.run, "summaries", self.mode)
        shard, store = find_shard(self.shard, [self.items, self.examples]), self.store
        if shard:
            out = shard.out(out)
            store = store or out.with_suffix(".sqlite")
        elif store is None and self.run is None:
            store = IN_MEMORY if is_stream(out) else out.parent / "generations.sqlite"
        return SummaryFiles(
            items=None if self.mode == "none" else resolve(self.items, self.run, "items"),
            examples=resolve(self.examples, self.run, "examples"),
            out=out,
            store=resolve(store, self.run, "store"),
            vectors=self._vectors(out),
        )

    def _vectors(self, out: Path) -> Path | None:
        """Return where item vectors go, if the candidates ask."""
        if self.mode != "attention" or self.attention.query == "recent":
            return None
        from trec_cli.attention.target import vectors_path

        found = self.vectors or vectors_path(out)
        if found is None:
            raise UsageError("--query candidate with --out - needs --vectors FILE for item vectors")
        return found
