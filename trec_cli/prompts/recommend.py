"""The five-part prompt of the recommender, built once for training and for scoring.

Instruction, preference summary, last *k* items, candidate, answer (LLM-TRSR, section 3.4).
All candidates of a user share everything up to the candidate's text, so a prompt is a
*tree*: one prefix and a branch per candidate.  The parts are tokenised one by one and
concatenated; training and scoring thus see the same ids, and cutting never moves a border.

The token budget: the prefix gets ``max_length - candidate_tokens``, a fixed share, so that
a score never depends on which other candidates there are.  Instruction, candidate and
answer are never cut.  The oldest recent item is shortened first, then dropped, then the
next; only then is the summary shortened, from its end.

Training may ask after every item of the history at once (:meth:`PromptBuilder.history_tree`):
a prompt about the first n items is the trunk up to the n-th, then a branch.  The trunk begins
with the oldest item that the whole history's prompt shows.  Since parts are tokenised one by
one, its ids are those of the prompt that :meth:`PromptBuilder.tree` makes of the trunk's items
up to the n-th.

With ``ask`` "text" there is no question and no answer: the candidate is the next line of the
history, and how likely its tokens are is its score.  Prefix and branches are the same tree; a
branch is the candidate's line with its line break.

Where every candidate asks the history itself (target attention), the summary has no part
in the prefix.  The candidate's branch carries its *evidence* instead: a few block summaries
behind the candidate, within a budget of their own and what the candidate leaves of its share.
"""

import dataclasses
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trec_cli.attention.evidence import Evidence
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Item
from trec_cli.core.text import counted
from trec_cli.models.answers import AnswerTokens, find_answers
from trec_cli.models.chat import encode_text, make_frame
from trec_cli.prompts.settings import PromptSettings
from trec_cli.prompts.template import Template, load_template

UNKNOWN = "unknown"
"""What the prompt says where there is no summary or no history."""

PREFIX_PARTS = (
    "instruction",
    "preference summary",
    "instruction",
    "recent items",
    "instruction",
)
BRANCH_PARTS = ("candidate", "instruction", "evidence", "answer")
_SLOTS = ("summary", "recent", "candidate")
_TARGET_SLOTS = ("recent", "candidate", "evidence")
_PLAIN_TAIL = "\nAnswer:"
_CACHED_ITEMS = 1 << 16
_CACHED_TEXTS = 1 << 12


@dataclass(frozen=True)
class Cuts:
    """What did not fit, summed over trees.

    Attributes:
        examples: trees in which anything was cut.
        recent_shortened, recent_dropped: recent items, by what happened to them.
        recent_tokens, summary_tokens: tokens removed of each part.
        long_candidates: candidates longer than their share; they are kept whole.
        squeezed: trees cut further because of such a candidate and the model's limit.
        evidence_tokens: tokens of evidence for which a candidate left no room in its share.
    """

    examples: int = 0
    recent_shortened: int = 0
    recent_dropped: int = 0
    recent_tokens: int = 0
    summary_tokens: int = 0
    long_candidates: int = 0
    squeezed: int = 0
    evidence_tokens: int = 0

    def __add__(self, other: "Cuts") -> "Cuts":
        """Sum what was cut, kind by kind."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Cuts(*(mine + theirs for mine, theirs in pairs))

    def __bool__(self) -> bool:
        """Return whether anything was cut."""
        return any(dataclasses.astuple(self))

    def __str__(self) -> str:
        """Write in a sentence what was cut."""
        if not self:
            return "nothing was cut"
        squeezed = f"; {self.squeezed} cut further for the model's limit" if self.squeezed else ""
        if self.evidence_tokens:
            squeezed += f"; {counted(self.evidence_tokens, 'token')} of evidence"
        return (
            f"{counted(self.examples, 'prompt')} cut: "
            f"{counted(self.recent_shortened, 'recent item')} shortened and "
            f"{self.recent_dropped} dropped ({counted(self.recent_tokens, 'token')}), "
            f"{counted(self.summary_tokens, 'token')} of summaries; "
            f"{counted(self.long_candidates, 'candidate')} longer than the share, kept "
            f"whole{squeezed}"
        )


@dataclass(frozen=True)
class PromptTree:
    """The prompts of one user: prompt *i* is ``prefix[:at[i]] + branches[i]``.

    Attributes:
        prefix: ids that all candidates share; never empty.
        branches: ids from the candidate's first token to the last before the answer; with
            ``at`` from the instruction before the candidate.
        cuts: what was cut to make it fit.
        parts: lengths of the prefix's parts, in the order of ``PREFIX_PARTS``.
        shapes: tokens of candidate and evidence in each branch.
        at: tokens of the prefix that each branch follows; empty where all follow its end.
        lead: first tokens of each branch that are instruction.
    """

    prefix: list[int]
    branches: list[list[int]]
    cuts: Cuts = Cuts()
    parts: tuple[int, ...] = ()
    shapes: tuple[tuple[int, int], ...] = ()
    at: tuple[int, ...] = ()
    lead: int = 0

    @property
    def size(self) -> int:
        """Tokens of the tree: the prefix once and every branch."""
        return len(self.prefix) + sum(map(len, self.branches))

    @property
    def separate_size(self) -> int:
        """Tokens of the same prompts written out one by one."""
        shared = sum(self.at) if self.at else len(self.prefix) * len(self.branches)
        return shared + sum(map(len, self.branches))


def tree_bytes(tree: PromptTree) -> bytes:
    """Encode the tokens of a tree's parts, each with its length in front, to be hashed."""
    parts = (tree.prefix, *tree.branches)
    return b"".join(array("q", [len(part), *part]).tobytes() for part in parts)


@dataclass(frozen=True)
class PromptPart:
    """One part of a written-out prompt: its name, text and number of tokens."""

    name: str
    text: str
    tokens: int


def _cut_recent(
    items: list[list[int]], excess: int, separator: int
) -> tuple[list[list[int]], Cuts]:
    """Shorten the oldest item, then drop it, then the next, until ``excess`` is gone."""
    kept, cuts = list(items), Cuts()
    while kept and excess > 0:
        oldest = kept[0]
        if excess < len(oldest):
            kept[0] = oldest[: len(oldest) - excess]
            return kept, cuts + Cuts(recent_shortened=1, recent_tokens=excess)
        kept.pop(0)
        excess -= len(oldest) + (separator if kept else 0)
        cuts += Cuts(recent_dropped=1, recent_tokens=len(oldest))
    return kept, cuts


class PromptBuilder:
    """Builds prompt trees for one tokenizer, catalogue and setting.

    Attributes:
        items: the catalogue.
        settings: as given, with ``chat`` decided.
        template: the prompt's text.
        text: whether the candidate's text is asked for, and no answer.
        target: whether branches carry evidence, and the prefix no summary.
        attention: what evidence is made with, for :func:`save_settings`; None without.
    """

    def __init__(
        self,
        tokenizer: Any,
        items: Mapping[str, Item],
        settings: PromptSettings,
        *,
        max_positions: int | None = None,
        prompts: Path | None = None,
        template: Template | None = None,
        target: bool = False,
        attention: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare all that does not depend on the user.

        Args:
            tokenizer: of the model that will read the prompts.
            items: the catalogue.
            settings: see :class:`PromptSettings`.
            max_positions: the model's limit, in tokens; None where it has none.
            prompts: a folder with an own ``recommend.txt`` or ``recommend_target.txt``.
            template: a template already loaded (from an adapter); wins over ``prompts``
                and ``target``.
            target: every candidate brings its evidence.
            attention: what that is made with; written beside the settings, and not used.

        Raises:
            InputError: the template's slots are wrong.
            ModelError: no usable answers or chat template.
            UsageError: the settings leave no room for a prompt.
        """
        name = "recommend_target" if target else "recommend"
        self.text = settings.ask == "text"
        if self.text:
            name = "recommend_text"
            if target:
                raise UsageError("--ask text does not go with summaries of --query candidate")
        slots = _TARGET_SLOTS if target else _SLOTS
        self.template = template or load_template(name, slots, prompts)
        self.target, self.attention = "evidence" in self.template.slots, attention
        self._tokenizer, self.items = tokenizer, items
        self._max_positions = max_positions
        self._frame = make_frame(tokenizer, chat=False if self.text else settings.chat)
        self.settings = dataclasses.replace(settings, chat=self._frame.chat)
        self._encode_tail(*self._texts())
        self._item_ids = lru_cache(_CACHED_ITEMS)(self._encode_item)
        self._text_ids = lru_cache(_CACHED_TEXTS)(self._encode)
        self._check_room()

    def _texts(self) -> tuple[str, str, str, str]:
        """Return the template's texts: before, between and after the slots."""
        parts, slots = self.template.parts, _TARGET_SLOTS if self.target else _SLOTS
        if parts[1::2] != list(slots):
            order = ", ".join(f"{{{slot}}}" for slot in slots)
            raise InputError.of(
                f"{self.template.name}.txt", "slots stand in another order", f"write {order}"
            )
        first, second, third, last = parts[::2]
        return first, second, third, last

    def _encode_tail(self, first: str, second: str, third: str, last: str) -> None:
        """Encode the fixed parts and find the answers behind them."""
        end = last if self._frame.chat else last + _PLAIN_TAIL
        if self.text:
            end = f"{last}\n"
        head = [*self._frame.head, *self._encode(first)]
        if not head:
            raise InputError.of(f"{self.template.name}.txt", "starts with a slot", "add a text")
        between = self._encode(second), self._encode(third)
        self._fixed = (head, [], between[0]) if self.target else (head, *between)
        self._link = between[1] if self.target else []
        self._end = [*self._encode(end), *self._frame.tail]
        self._newline = self._encode("\n")
        self._unknown = self._encode(UNKNOWN)
        self._answers = (
            None if self.text else find_answers(self._tokenizer, end, chat=self._frame.chat)
        )

    @property
    def answers(self) -> AnswerTokens:
        """The tokens that mean yes and no after these prompts; there are none for a text."""
        if self._answers is None:
            raise ValueError("a text has no answer")
        return self._answers

    def _encode(self, text: str) -> list[int]:
        return encode_text(self._tokenizer, text)

    def _encode_item(self, item_id: str) -> list[int]:
        """Encode an item's text; an item without any text is called unknown."""
        return self._encode(self.items[item_id].text(self.settings.attributes)) or self._unknown

    @property
    def thinking(self) -> str:
        """What was done so that a model answers without thinking first; empty if nothing."""
        return self._frame.thinking

    @property
    def _instruction_tokens(self) -> int:
        return sum(map(len, self._fixed))

    @property
    def prefix_budget(self) -> int:
        """Tokens that the prefix may have: a fixed share of the whole."""
        return self.settings.max_length - self.settings.candidate_tokens

    def _check_room(self) -> None:
        """Refuse settings under which no prompt could be built."""
        limit, length = self._max_positions, self.settings.max_length
        if limit is not None and length > limit:
            raise UsageError(
                f"--max-length {length} is more than the model's limit of {limit} tokens; "
                f"give --max-length {limit} or less"
            )
        if self.prefix_budget < self._instruction_tokens:
            raise UsageError(
                f"--max-length {length} less {self.settings.candidate_tokens} tokens for the "
                f"candidate leaves no room for the instruction ({self._instruction_tokens} "
                "tokens); give a longer --max-length"
            )

    def tree(
        self,
        history: Sequence[str],
        summary: str,
        candidates: Sequence[str],
        *,
        example: str = "",
        evidence: Sequence[Evidence] | None = None,
    ) -> PromptTree:
        """Build the prompts of one user.

        Args:
            history: item ids, oldest first; the last ``settings.recent`` are shown.
            summary: the preference summary; may be empty.
            candidates: item ids, one branch each.
            example: named in the error.
            evidence: of each candidate, for a template with a place for it.

        Raises:
            InputError: instruction and a candidate alone exceed the model's limit.
            UsageError: there is evidence and no place for it, or the other way round.
        """
        branches, shapes, lost = self._branches(candidates, evidence)
        long_term, kept, cuts = self._fitted(history, summary, branches, example)
        first, second, _ = self._fixed
        between = self._before_candidate(kept)
        parts = [first, long_term, second, self._lines(kept), between]
        prefix = [token for part in parts for token in part]
        cuts += Cuts(evidence_tokens=lost)
        return PromptTree(prefix, branches, cuts, tuple(map(len, parts)), shapes)

    def history_tree(
        self,
        history: Sequence[str],
        summary: str,
        asked: Sequence[tuple[int, Sequence[str]]],
        *,
        example: str = "",
    ) -> tuple[PromptTree, list[int]]:
        """Build the prompts of one user after several items of the history at once.

        Args:
            history: item ids, oldest first; the last ``settings.recent`` are shown.
            summary: the preference summary; it must speak of nothing that is asked.
            asked: candidates and how many items of the history come before them.
            example: named in the error.

        Returns:
            The tree, and which of the candidates, counted through, have a branch: those asked
            when no shown item had come yet have none.

        Raises:
            InputError: instruction and a candidate alone exceed the model's limit.
            UsageError: the template has a place for evidence.
        """
        counts = [count for count, candidates in asked for _ in candidates]
        branches, shapes, _ = self._branches([c for _, each in asked for c in each], None)
        long_term, kept, cuts = self._fitted(history, summary, branches, example)
        third = self._before_candidate(kept)
        branches = [[*third, *branch] for branch in branches]
        parts, ends = self._trunk(long_term, kept)
        prefix = [token for part in parts for token in part]
        hidden = len(history) - (len(kept) if self.settings.recent else 0)
        # After a history of which nothing is shown, the prompt says that it is unknown.
        where = {hidden + number: end for number, end in enumerate(ends, 1)}
        where[len(history)] = len(prefix)
        shown = [index for index, count in enumerate(counts) if count in where]
        tree = PromptTree(
            prefix,
            [branches[index] for index in shown],
            cuts,
            tuple(map(len, parts)),
            tuple(shapes[index] for index in shown),
            tuple(where[counts[index]] for index in shown),
            len(third),
        )
        return tree, shown

    def _before_candidate(self, kept: Sequence[Sequence[int]]) -> list[int]:
        """Return what stands before a candidate; without a history a text is the first line."""
        return self._fixed[2] if kept or not self.text else []

    def _trunk(
        self, long_term: list[int], kept: list[list[int]]
    ) -> tuple[list[list[int]], list[int]]:
        """Return the prefix's parts without the last, and where each item ends in them."""
        first, second, _ = self._fixed
        before = len(first) + len(long_term) + len(second)
        ends: list[int] = []
        for item in kept:
            start = ends[-1] + len(self._newline) if ends else before
            ends.append(start + len(item))
        return [first, long_term, second, self._lines(kept), []], ends

    def _fitted(
        self,
        history: Sequence[str],
        summary: str,
        branches: Sequence[Sequence[int]],
        example: str,
    ) -> tuple[list[int], list[list[int]], Cuts]:
        """Return summary and recent items, cut to what the branches leave, and what was cut."""
        lengths = list(map(len, branches))
        budget = min(self.prefix_budget, self._room_beside(max(lengths), example))
        long_term, kept, cuts = self._prefix(history, summary, budget)
        cuts += Cuts(
            examples=int(bool(cuts)),
            long_candidates=sum(length > self.settings.candidate_tokens for length in lengths),
            squeezed=int(bool(cuts) and budget < self.prefix_budget),
        )
        return long_term, kept, cuts

    def _branches(
        self, candidates: Sequence[str], evidence: Sequence[Evidence] | None
    ) -> tuple[list[list[int]], tuple[tuple[int, int], ...], int]:
        """Return every branch, the tokens of its candidate and evidence, and what was lost."""
        if self.target != (evidence is not None):
            raise UsageError(
                "the summaries and the prompt are of different kinds: with --query candidate the "
                "prompt has a place for {evidence}, else for {summary}. Take the summaries that "
                "the adapter was trained on, or score without it: --zero-shot"
            )
        items = list(map(self._item_ids, candidates))
        if evidence is None:
            return [[*ids, *self._end] for ids in items], tuple((len(ids), 0) for ids in items), 0
        pairs = [self._evidence(e, len(ids)) for e, ids in zip(evidence, items, strict=True)]
        branches = [
            [*ids, *self._link, *shown, *self._end]
            for ids, (shown, _) in zip(items, pairs, strict=True)
        ]
        shapes = tuple((len(i), len(e)) for i, (e, _) in zip(items, pairs, strict=True))
        return branches, shapes, sum(lost for _, lost in pairs)

    def _evidence(self, evidence: Evidence, candidate: int) -> tuple[list[int], int]:
        """Return the tokens of evidence beside a candidate so long, and how many were lost."""
        lines = [self._text_ids(passage.text) for passage in evidence.passages]
        lengths = [len(line) + len(self._newline) for line in lines]
        wanted = evidence.shares(lengths)
        room = self.settings.candidate_tokens - candidate - len(self._link) - len(self._end)
        given = evidence.shares(lengths, room)
        kept = [
            line[: tokens - len(self._newline)]
            for line, tokens in zip(lines, given, strict=True)
            if tokens > len(self._newline)
        ]
        return self._lines(kept) or self._unknown, sum(wanted) - sum(given)

    def _room_beside(self, branch: int, example: str) -> int:
        """Return the tokens that the model's limit leaves for the prefix (one is the answer's)."""
        if self._max_positions is None:
            return self.prefix_budget
        room = self._max_positions - branch - 1
        if room < self._instruction_tokens:
            raise InputError.of(
                f"example {example!r}",
                f"instruction ({self._instruction_tokens} tokens) and longest candidate ({branch}) "
                f"exceed the model's limit of {self._max_positions} tokens",
                "show fewer --attributes, or take a model with a longer limit",
            )
        return room

    def _prefix(
        self, history: Sequence[str], summary: str, budget: int
    ) -> tuple[list[int], list[list[int]], Cuts]:
        """Return summary and recent items, cut to ``budget`` tokens, and what was cut."""
        recent = self._recent(history)
        long_term = [] if self.target else self._encode(summary.strip()) or self._unknown
        room = budget - self._instruction_tokens
        excess = len(long_term) + len(self._lines(recent)) - room
        kept, cuts = _cut_recent(recent, excess, len(self._newline))
        excess = len(long_term) + len(self._lines(kept)) - room
        if excess > 0:
            cuts += Cuts(summary_tokens=excess)
            long_term = long_term[: len(long_term) - excess]
        return long_term, kept, cuts

    def _recent(self, history: Sequence[str]) -> list[list[int]]:
        count = self.settings.recent
        last = history[-count:] if count else []
        nothing = [] if self.text else [self._unknown]
        return [list(self._item_ids(item)) for item in last] or nothing

    def shown(self, history: Sequence[str], summary: str) -> int:
        """Count the newest items of a history that a prompt has room for, whole or shortened."""
        if not history or not self.settings.recent:
            return 0
        return len(self._prefix(history, summary, self.prefix_budget)[1])

    def line_tokens(self, items: Sequence[str]) -> int:
        """Count the tokens of items on lines of their own."""
        return len(self._lines([list(self._item_ids(item)) for item in items]))

    def _lines(self, items: list[list[int]]) -> list[int]:
        """Join items by line breaks."""
        joined: list[int] = []
        for index, item in enumerate(items):
            joined += [*(self._newline if index else []), *item]
        return joined

    def describe(self, tree: PromptTree, branch: int = 0) -> list[PromptPart]:
        """Write out one prompt of a tree part by part, as the model reads it."""
        parts, start = [], 0
        shared = tree.prefix[: tree.at[branch]] if tree.at else tree.prefix
        for name, length in zip(PREFIX_PARTS, tree.parts, strict=True):
            parts.append(self._part(name, shared[start : start + length]))
            start += length
        start, rest = 0, tree.branches[branch]
        candidate, evidence = tree.shapes[branch]
        lengths = (tree.lead, candidate, len(self._link), evidence, len(self._end))
        for name, length in zip(("instruction", *BRANCH_PARTS), lengths, strict=True):
            parts.append(self._part(name, rest[start : start + length]))
            start += length
        return [part for part in parts if part.tokens]

    def _part(self, name: str, tokens: list[int]) -> PromptPart:
        text: str = self._tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
        return PromptPart(name, text, len(tokens))
