"""Scoring by a server: log-odds of yes from the log-probabilities of the next token.

The softmax's denominator is the same for all tokens, so
``logprob(yes) - logprob(no) = logit(yes) - logit(no)``: the score that
:mod:`~trec_cli.score.llm` computes.  Prompts are sent as token ids, from the same
trees; the prompts of a user go out together, so that a server that keeps prefixes reads
what they share once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from trec_cli.core.errors import ModelError, UsageError
from trec_cli.core.progress import Progress
from trec_cli.models.answers import AnswerTokens
from trec_cli.models.endpoint.faults import Failure, missing_error
from trec_cli.models.endpoint.replies import NextToken, read_next_token
from trec_cli.models.endpoint.server import Request, Server
from trec_cli.models.load import LanguageModel, load_adapted, load_near_tokenizer, tokenizer_hash
from trec_cli.models.log_odds import BranchScorer
from trec_cli.models.source import ModelSource
from trec_cli.prompts.recommend import PromptTree
from trec_cli.score.adapters import Adapter
from trec_cli.score.job import check_there
from trec_cli.score.options import ServedOptions
from trec_cli.score.prompting import Prompting, Prompts, TreeJob, make_prompts

_DECIMALS = 6
_CHECKED_USERS = 2
_SHOWN = 5
_ALARMING = 0.05
"""Log-odds of the same model in float32 agree to 1e-4; half precision moves them by 0.01."""


@dataclass(frozen=True)
class NextTokenQuery:
    """How the next token is asked for.

    Attributes:
        top_logprobs: so many of the most likely tokens are to be returned.
        fields: of the request.
    """

    answers: AnswerTokens
    top_logprobs: int

    @property
    def fields(self) -> dict[str, Any]:
        """Ask for yes and no by id where the server can (vLLM); others ignore that."""
        return {
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": self.top_logprobs,
            "logprob_token_ids": [self.answers.yes, self.answers.no],
            "return_tokens_as_token_ids": True,
        }


class EndpointJob(TreeJob):
    """A job that asks a server; a batch is one user: what a failure or a kill costs at most."""

    def __init__(
        self,
        system: str,
        prompts: Prompts,
        server: Server,
        *,
        tokenizer: Any,
        top_logprobs: int,
        check: "LocalCheck | None",
        progress: Progress,
    ) -> None:
        """Prepare to score.

        Args:
            system, prompts, progress: see :class:`~trec_cli.score.prompting.TreeJob`.
            server: is entered while the job runs.
            tokenizer: of the served model.
            top_logprobs: see :class:`NextTokenQuery`.
            check: compares some scores with those of a model here.
        """
        settings = {
            "engine": "openai",
            "model": {"name": server.settings.model, "tokenizer": tokenizer_hash(tokenizer)},
            "extra": dict(server.settings.extra),
        }
        super().__init__(system, prompts, settings, progress)
        self.server, self._tokenizer, self._check = server, tokenizer, check
        self._asked = NextTokenQuery(self._builder.answers, top_logprobs)

    def _size(self, tree: PromptTree) -> int:
        """Count every prompt whole: what a server shares it does not say."""
        return tree.separate_size

    def batches(self) -> list[list[int]]:
        """Return every user alone, in the order of the file."""
        return [[index] for index in range(len(self.examples))]

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:  # noqa: ARG002 - what every job takes
        """Hold the connections to the server."""
        with self.server:
            yield

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's users.

        Raises:
            ModelError: the server never answered, or leaves yes or no out.
            PartialError: some candidates were not answered.
        """
        return [self._score(index) for index in batch]

    def _score(self, index: int) -> list[float]:
        """Ask once for each different prompt, so that equal candidates tie exactly."""
        if self._check:
            self._check.prepare()
        tree, example = self.tree(index), self.examples[index]
        branches = list(dict.fromkeys(map(tuple, tree.branches)))
        requests = [self._request([*tree.prefix, *branch]) for branch in branches]
        replies: dict[int, NextToken | Failure] = {}
        with closing(self.server.answers(requests)) as answers:
            for arrived in answers:
                replies.update(arrived)
        by_branch = dict(zip(branches, (replies[i] for i in range(len(branches))), strict=True))
        own = [by_branch[tuple(branch)] for branch in tree.branches]
        scores, missing = [], []
        for candidate, reply in zip(example.candidates, own, strict=True):
            name = f"example {example.example_id!r}, candidate {candidate!r}"
            if isinstance(reply, Failure):
                missing.append((name, reply))
            else:
                scores.append(self._log_odds(reply, name))
        if missing:
            raise self._missing(missing, len(own))
        if self._check:
            self._check.compare(tree, scores)
        return scores

    def _missing(self, missing: Sequence[tuple[str, Failure]], total: int) -> Exception:
        server = f"{self.server.settings.base_url} ({self.server.note()})"
        return missing_error("scores", missing, total, server=server, dead=self.server.dead)

    def _request(self, ids: Sequence[int]) -> Request[NextToken]:
        return Request(
            kind="completions",
            question=ids,
            fields=self._asked.fields,
            read=read_next_token,
            prompt_tokens=len(ids),
            new_tokens=1,
        )

    def _log_odds(self, reply: NextToken, name: str) -> float:
        answers = self._asked.answers
        yes = self._logprob(reply, answers.yes, name)
        no = self._logprob(reply, answers.no, name)
        return round(yes - no, _DECIMALS)

    def _logprob(self, reply: NextToken, token: int, name: str) -> float:
        if token in reply.by_id:
            return reply.by_id[token]
        text = self._text_of[token]
        if not reply.by_id and text in reply.by_text:
            self._check_unique(token)
            return reply.by_text[text]
        raise ModelError(
            f"{name}: {text!r} is not among the log-probabilities that the server returned "
            f"({_shown(reply)}). Raise --top-logprobs (it is {self._asked.top_logprobs}), and "
            "the server's own limit (vLLM: --max-logprobs); or use --engine local."
        )

    @cached_property
    def _text_of(self) -> dict[int, str]:
        answers = self._asked.answers
        return {token: self._tokenizer.decode([token]) for token in (answers.yes, answers.no)}

    @cached_property
    def _ambiguous(self) -> set[int]:
        """Find answers whose text is that of another token, too."""
        texts = [self._tokenizer.decode([token]) for token in range(len(self._tokenizer))]
        return {token for token, text in self._text_of.items() if texts.count(text) > 1}

    def _check_unique(self, token: int) -> None:
        if token in self._ambiguous:
            raise ModelError(
                f"the server names tokens by their text only, and {self._text_of[token]!r} is the "
                "text of several, so yes and no cannot be told from them; use --engine local, or "
                "a server that gives token ids (vLLM, llama.cpp)"
            )

    def details(self) -> dict[str, Any]:
        """Return server, counts, cost, check, answers and cuts."""
        check = {"check": self._check.details()} if self._check else {}
        return {**self.spent(), **check, **super().details()}

    def spent(self) -> dict[str, Any]:
        """Return counts and cost of the server, which a failed run has, too."""
        return {"endpoint": self.server.details()}

    def remarks(self) -> list[str]:
        """Return what was asked, what it cost, and what the check has found."""
        settings = self.server.settings
        lines = [f"{settings.model} at {settings.base_url}: {self.server.note()}"]
        lines += [self._check.note()] if self._check else []
        return [*lines, f"prompts: {self.cuts}"]


def _shown(reply: NextToken) -> str:
    """Show the most likely tokens that were returned."""
    named: Iterable[tuple[Any, float]] = [*reply.by_id.items(), *reply.by_text.items()]
    best = sorted(named, key=lambda pair: -pair[1])[:_SHOWN]
    return ", ".join(f"{token!r} {value:.2f}" for token, value in best) + ", …"


class LocalCheck:
    """Compares the scores of the first users with those of a model in this process."""

    def __init__(
        self,
        name: str,
        load: Callable[[], LanguageModel],
        answers: AnswerTokens,
        max_tokens: int,
        progress: Progress,
    ) -> None:
        """Take the model's name and how to load it."""
        self._name, self._load, self._answers = name, load, answers
        self._max_tokens, self._progress = max_tokens, progress
        self._users = self._candidates = 0
        self._largest = 0.0

    def prepare(self) -> None:
        """Load the model before the server is paid for what it will be compared with."""
        if self._users < _CHECKED_USERS:
            _ = self._scorer

    def compare(self, tree: PromptTree, scores: Sequence[float]) -> None:
        """Score a tree here, too, unless enough were compared."""
        if self._users >= _CHECKED_USERS:
            return
        here = self._scorer([tree])[0]
        self._users += 1
        self._candidates += len(here)
        difference = max(abs(a - b) for a, b in zip(here, scores, strict=True))
        self._largest = max(self._largest, difference)
        if difference > _ALARMING:
            self._progress.warn(
                f"the server's log-odds differ from those of {self._name} here by up to "
                f"{difference:.3g}: another model, adapter or tokenizer, or low precision"
            )

    @cached_property
    def _scorer(self) -> BranchScorer:
        return BranchScorer(self._load().model, self._answers, self._max_tokens)

    def details(self) -> dict[str, Any]:
        """Return the model, what was compared and the largest difference in log-odds."""
        return {
            "model": self._name,
            "users": self._users,
            "candidates": self._candidates,
            "largest_difference": round(self._largest, _DECIMALS),
        }

    def note(self) -> str:
        """Return the same in a sentence."""
        if not self._users:
            return f"no score was left to compare with {self._name}"
        return (
            f"compared with {self._name} here: {self._candidates} scores of {self._users} users "
            f"differ by at most {self._largest:.2g}"
        )


def make_endpoint_job(
    prompting: Prompting, options: ServedOptions, max_tokens: int, progress: Progress
) -> EndpointJob:
    """Read everything; nothing is asked yet.

    Raises:
        InputError: a file is at fault, or summaries are missing.
        ModelError: the tokenizer cannot be loaded or used.
        UsageError: the server's options cannot work, an adapter is there and nobody says
            whether it is served, or the prompt settings leave no room or name attributes that
            no item has.
    """
    settings = options.endpoint(prompting.served)
    check_there(prompting.files)
    adapter = prompting.find_adapter()
    if adapter and prompting.options.adapter is None:
        raise UsageError(
            f"{adapter.folder} is there: give --adapter {adapter.folder} if the server serves it "
            "(its prompt is used then), or --zero-shot if it serves a model without it"
        )
    prompt = f"the prompt of {adapter.folder}" if adapter else "the zero-shot prompt"
    progress.info(f"{settings.model} at {settings.base_url}, with {prompt}")
    tokenizer = load_near_tokenizer(prompting.base(adapter))
    prompts = make_prompts(prompting, adapter, prompting.read(), tokenizer, None, progress)
    if prompts.builder.text:
        raise UsageError("--ask text runs with --engine local alone: no server is asked for texts")
    return EndpointJob(
        prompting.system(adapter),
        prompts,
        Server(settings),
        tokenizer=tokenizer,
        top_logprobs=options.top_logprobs,
        check=_local_check(prompting, options, adapter, prompts, max_tokens, progress),
        progress=progress,
    )


def _local_check(
    prompting: Prompting,
    options: ServedOptions,
    adapter: Adapter | None,
    prompts: Prompts,
    max_tokens: int,
    progress: Progress,
) -> LocalCheck | None:
    """Prepare the comparison with a model here; None where none was asked for."""
    if options.check_with is None:
        return None
    trusted = prompting.source.trust_remote_code
    local = ModelSource(options.check_with, trust_remote_code=trusted, dtype="float32")
    load = partial(load_adapted, local, adapter.folder if adapter else None, pack=True)
    return LocalCheck(options.check_with, load, prompts.builder.answers, max_tokens, progress)
