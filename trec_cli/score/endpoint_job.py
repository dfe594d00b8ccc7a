"""Scoring by a server: log-odds of yes from the log-probabilities of the next token.

The softmax's denominator is the same for all tokens, so
``logprob(yes) - logprob(no) = logit(yes) - logit(no)``: the score that
:mod:`~trec_cli.score.llm_job` computes.  Prompts are sent as token ids, from the same
trees; the prompts of a user go out together, so that a server that keeps prefixes reads
what they share once.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from trec_cli.core.errors import ModelError
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
from trec_cli.score.llm_job import TreeJob, model_source, read_material
from trec_cli.score.request import ScoreRequest
from trec_cli.score.writing import Cost

_DECIMALS = 6
_CHECKED_USERS = 2
_SHOWN = 5
_ALARMING = 0.05
"""Log-odds of the same model in float32 agree to 1e-4; half precision moves them by 0.01."""


@dataclass(frozen=True)
class Asked:
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
    """A :class:`~trec_cli.score.writing.Job` that asks a server.

    A batch is one user: what a failure or a kill costs at most.
    """

    def __init__(
        self,
        *material: Any,
        server: Server,
        tokenizer: Any,
        top_logprobs: int,
        check: "LocalCheck | None" = None,
        **more: Any,
    ) -> None:
        """Prepare to score.

        Args:
            material, more: see :class:`~trec_cli.score.llm_job.TreeJob`.
            server: must be entered while :meth:`score` runs.
            tokenizer: of the served model.
            top_logprobs: see :class:`Asked`.
            check: compares some scores with those of a model here.
        """
        super().__init__(*material, **more)
        self.server, self._tokenizer, self._check = server, tokenizer, check
        self._asked = Asked(self._builder.answers, top_logprobs)

    def _measure(self, tree: PromptTree) -> Cost:
        """Count every prompt whole: what a server shares it does not say."""
        return Cost(1, len(tree.branches), tree.separate_size, tree.separate_size)

    def batches(self) -> list[list[int]]:
        """Give every user alone, in the order of the file."""
        return [[place] for place in range(len(self.examples))]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's users.

        Raises:
            ModelError: the server never answered, or leaves yes or no out.
            PartialError: some candidates were not answered.
        """
        return [self._score(place) for place in batch]

    def _score(self, place: int) -> list[float]:
        """Ask once for each different prompt, so that equal candidates tie exactly."""
        if self._check:
            self._check.prepare()
        tree, example = self.tree(place), self.examples[place]
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
        """Give server, counts, cost, check, answers and cuts."""
        check = {"check": self._check.details()} if self._check else {}
        return {"endpoint": self.server.details(), **check, **super().details()}

    def remarks(self) -> list[str]:
        """Say what was asked, what it cost, and what the check has found."""
        settings = self.server.settings
        lines = [f"{settings.model} at {settings.base_url}: {self.server.note()}"]
        lines += [self._check.note()] if self._check else []
        return [*lines, f"prompts: {self.survey.cuts}"]


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
        """Give the model, what was compared and the largest difference in log-odds."""
        return {
            "model": self._name,
            "users": self._users,
            "candidates": self._candidates,
            "largest_difference": round(self._largest, _DECIMALS),
        }

    def note(self) -> str:
        """Say the same in a sentence."""
        if not self._users:
            return f"no score was left to compare with {self._name}"
        return (
            f"compared with {self._name} here: {self._candidates} scores of {self._users} users "
            f"differ by at most {self._largest:.2g}"
        )


def make_endpoint_job(
    request: ScoreRequest,
    adapter: Adapter | None,
    server: Server,
    progress: Progress,
    *,
    top_logprobs: int,
    check_with: str | None,
) -> EndpointJob:
    """Read everything; nothing is asked yet.

    Args:
        request: its ``source`` says where the tokenizer lies.
        adapter: what the server serves; only its prompt is read here (and, for the check,
            its weights).
        server: see :class:`EndpointJob`.
        progress: the same.
        top_logprobs: the same.
        check_with: name or folder of the served model (without adapter) to compare with.

    Raises:
        InputError: a file is at fault, or summaries are missing.
        ModelError: the tokenizer cannot be loaded or used.
        UsageError: the prompt settings leave no room or name attributes that no item has.
    """
    source = model_source(request, adapter)
    tokenizer = load_near_tokenizer(source)
    material = read_material(request, adapter, tokenizer, None, progress)
    settings = {
        **material.settings,
        "engine": "openai",
        "model": {"name": server.settings.model, "tokenizer": tokenizer_hash(tokenizer)},
        "extra": dict(server.settings.extra),
    }
    check = None
    if check_with is not None:
        local = ModelSource(check_with, trust_remote_code=source.trust_remote_code, dtype="float32")
        load = partial(load_adapted, local, adapter.folder if adapter else None, pack=True)
        answers = material.builder.answers
        check = LocalCheck(check_with, load, answers, request.max_tokens, progress)
    return EndpointJob(
        material.questions,
        material.builder,
        server=server,
        tokenizer=tokenizer,
        top_logprobs=top_logprobs,
        check=check,
        settings=settings,
        inputs=material.inputs,
        progress=progress,
    )
