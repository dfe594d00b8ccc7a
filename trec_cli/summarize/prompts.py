"""Prompts of the summariser: block, merge and update, within a token budget.

Every part is tokenised by itself and the ids are concatenated, so that a part may be cut
at a token boundary without moving any other.  Items and summaries are one line each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from trec_cli.core.blocks import Span, even_cap, group_consecutive
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Item
from trec_cli.models.chat import Frame, encode_text, make_frame
from trec_cli.prompts.template import Template, load_template
from trec_cli.summarize.settings import SummarySettings


@dataclass(frozen=True, slots=True)
class SourceTexts:
    """What a text should be about.

    Attributes:
        items: all items beneath it, oldest first, with the attributes that prompts show.
        summaries: the summaries that it merges or updates, oldest first; none for a block.
        new: how many of the last items the request shows word for word besides summaries.
    """

    items: tuple[Item, ...] = ()
    summaries: tuple[str, ...] = ()
    new: int = 0

    @property
    def shown(self) -> tuple[Item, ...]:
        """The items that the request shows word for word."""
        if not self.summaries:
            return self.items
        return self.items[len(self.items) - self.new :]


@dataclass(frozen=True, slots=True)
class Answer:
    """A summary as it is kept.

    Attributes:
        text: one line.
        flags: what was found or done, in the order of :data:`trec_cli.core.records.FLAGS`.
    """

    text: str
    flags: tuple[str, ...] = ()


TEMPLATES = {
    "summarize_block": ("items",),
    "summarize_merge": ("summaries",),
    "summarize_update": ("summary", "items"),
}
MODE_TEMPLATES = {
    "hier": ("summarize_block", "summarize_merge"),
    "recurrent": ("summarize_block", "summarize_update"),
    "attention": ("summarize_block",),
}
_PRODUCTS = {"brand", "price", "color", "size", "model", "material", "manufacturer"}
_NEWS = {"subcategory", "abstract", "section", "headline", "publisher"}
_LINE = "- "
_NO_TEXT = "unknown"
_LEAST_ITEM_TOKENS = 8
_CACHED_ITEMS = 1 << 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request.

    Attributes:
        message: the user's message as text.
        ids: the whole prompt, chat frame included.
        parts: (name, tokens) of each part, in order.
        instruction: the template's own words; an answer should not repeat them.
        source: what the answer should be about; no part of the request itself.
    """

    message: str
    ids: tuple[int, ...]
    parts: tuple[tuple[str, int], ...]
    instruction: str = ""
    source: SourceTexts = field(default=SourceTexts(), compare=False)


@dataclass
class SummaryCuts:
    """What did not fit, counted over the prompts written.

    Attributes:
        items: item lines written.
        long_items: those cut at ``item_tokens``.
        squeezed_items: those cut further because the block did not fit the prompt.
        long_summaries: summaries cut when they were read again.
    """

    items: int = 0
    long_items: int = 0
    squeezed_items: int = 0
    long_summaries: int = 0

    def asdict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Line:
    """A text with its ids; ``cut`` where it is not whole."""

    text: str
    ids: list[int]
    cut: bool = False


def choose_domain(domain: str, items: Mapping[str, Item]) -> str:
    """Return the folder of templates; ``auto`` looks at the names of the attributes.

    What a shop says of its goods (brand, price, …) makes products; otherwise what a
    newspaper says (subcategory, abstract, …) makes news; anything else is general.
    ``sentences`` asks for prose, as the paper does, in any domain.
    """
    if domain != "auto":
        return domain
    names = {name for item in items.values() for name in item.attributes}
    if names & _PRODUCTS:
        return "products"
    return "news" if names & _NEWS else "general"


def load_templates(domain: str, prompts: Path | None = None) -> dict[str, Template]:
    """Load the texts of a domain; those in the user's folder come before the built-in ones.

    Raises:
        InputError: a template has wrong slots.
    """
    return {name: load_template(name, s, prompts, domain) for name, s in TEMPLATES.items()}


def frame_for(tokenizer: Any, templates: Mapping[str, Template], chat: bool | None) -> Frame:
    """Return what stands around the messages; ``chat`` None leaves it to the templates.

    Templates that end in a colon are texts to go on with: a small model does so far better
    than it follows an instruction, but only outside a chat.

    Raises:
        ModelError: as :func:`make_frame`.
    """
    if chat is None and all(template.continues for template in templates.values()):
        chat = False
    return make_frame(tokenizer, chat=chat)


class PromptWriter:
    """Writes the prompts of one run, and counts what had to be cut.

    Attributes:
        frame: what stands around every message.
        items: the catalogue.
        settings: sizes, as given.
        domain: whose templates are used.
        budget: tokens of the longest prompt, as the model and the batch allow.
        templates: the prompt texts by name.
        cuts: what did not fit so far.
    """

    def __init__(
        self,
        tokenizer: Any,
        frame: Frame,
        items: Mapping[str, Item],
        settings: SummarySettings,
        *,
        prompts: Path | None = None,
        most_tokens: int | None = None,
    ) -> None:
        """Load the templates.

        Args:
            prompts: the user's folder of templates.
            most_tokens: what a prompt with its answer may take at most (the model's
                positions, the tokens of a batch); None where unbounded.

        Raises:
            InputError: a template has wrong slots.
        """
        self._tokenizer, self.frame, self.items = tokenizer, frame, items
        self.settings = settings
        self.domain = choose_domain(settings.domain, items)
        self.templates = load_templates(self.domain, prompts)
        self.budget = settings.prompt_tokens
        if most_tokens is not None:
            self.budget = min(self.budget, most_tokens - settings.summary_tokens)
        self.cuts = SummaryCuts()
        self._encode = lru_cache(maxsize=None)(partial(encode_text, self._tokenizer))
        self._shown_item = lru_cache(maxsize=_CACHED_ITEMS)(self._choose_attributes)
        self._item_line = lru_cache(maxsize=_CACHED_ITEMS)(self._encode_item)
        self._newline = self._encode("\n")

    def _encode_item(self, item_id: str) -> _Line:
        text = self.items[item_id].text(self.settings.attributes) or _NO_TEXT
        return self._capped(self._line(_LINE + text), self.settings.item_tokens)

    def _line(self, text: str) -> _Line:
        return _Line(text, encode_text(self._tokenizer, text))

    def _capped(self, line: _Line, cap: int) -> _Line:
        """Cut a line after ``cap`` tokens; half a character at the end is no text."""
        if len(line.ids) <= cap:
            return line
        ids = line.ids[:cap]
        return _Line(self._tokenizer.decode(ids).rstrip("\ufffd"), ids, cut=True)

    def _summary_line(self, summary: str, prefix: str = "") -> _Line:
        """Read a summary again; texts of any engine fit ``summary_tokens`` afterwards."""
        mark = len(self._encode(prefix)) if prefix else 0
        line = self._capped(self._line(prefix + summary), self.settings.summary_tokens + mark)
        self.cuts.long_summaries += line.cut
        return line

    def block(self, history: Sequence[str]) -> Prompt:
        """Ask for a summary of some items."""
        template = self.templates["summarize_block"]
        source = SourceTexts(self._shown(history))
        return self._assemble(template, source, items=self._item_lines(template, history))

    def update(self, summary: str, history: Sequence[str], new: int) -> Prompt:
        """Ask for a complete summary of ``summary`` and the last ``new`` items of a history."""
        source = SourceTexts(self._shown(history), (summary,), new)
        history = history[len(history) - new :]
        template = self.templates["summarize_update"]
        before = self._summary_line(summary)
        items = self._item_lines(template, history, len(before.ids))
        return self._assemble(template, source, summary=before, items=items)

    def merge(self, summaries: Sequence[str], history: Sequence[str]) -> Prompt:
        """Ask for one summary of several, which must fit (see :meth:`merge_groups`).

        ``history`` holds the items that they are about.
        """
        source = SourceTexts(self._shown(history), tuple(summaries))
        lines = [self._summary_line(summary, _LINE) for summary in summaries]
        template = self.templates["summarize_merge"]
        return self._assemble(template, source, summaries=self._joined(lines))

    @property
    def continues(self) -> bool:
        """Whether answers go on with the prompt's last line, outside a chat."""
        return not self.frame.chat and all(t.continues for t in self.templates.values())

    def _shown(self, history: Sequence[str]) -> tuple[Item, ...]:
        """Return the items with the attributes that prompts show, these whole."""
        return tuple(map(self._shown_item, history))

    def _choose_attributes(self, item_id: str) -> Item:
        item, names = self.items[item_id], self.settings.attributes
        if names is None:
            return item
        return Item(item_id, {n: item.attributes[n] for n in names if n in item.attributes})

    def merge_groups(self, summaries: Sequence[str]) -> list[Span]:
        """Group neighbouring summaries so that each group fits one merge prompt."""
        room = self.budget - self._overhead(self.templates["summarize_merge"])
        cap = self.settings.summary_tokens + len(self._encode(_LINE))
        lengths = [
            min(cap, len(encode_text(self._tokenizer, _LINE + summary))) + len(self._newline)
            for summary in summaries
        ]
        return group_consecutive(lengths, room)

    def tokens(self, text: str) -> int:
        """Count the tokens of a text by itself."""
        return len(encode_text(self._tokenizer, text))

    def cut(self, text: str, tokens: int) -> str:
        """Return a text cut after so many tokens."""
        return self._capped(self._line(text), tokens).text.strip()

    def show(self, prompt: Prompt) -> str:
        """Write out a prompt exactly as the model reads it, special tokens included."""
        text: str = self._tokenizer.decode(prompt.ids)
        return text

    def check(self, mode: str) -> None:
        """Check that every prompt of a mode can be written, whatever the texts.

        Raises:
            UsageError: a block does not fit, or not even two summaries do.
        """
        for name in MODE_TEMPLATES[mode]:
            least = self._least_tokens(self.templates[name])
            if least > self.budget:
                raise UsageError(
                    f"the prompt {name} needs at least {least} tokens and has {self.budget}. "
                    "Raise --prompt-tokens (and --max-tokens, where it is the limit), "
                    "or lower --block-size or --max-new-tokens."
                )

    def _least_tokens(self, template: Template) -> int:
        """Return the tokens of a prompt with shortest items and longest summaries."""
        size, newline = self.settings, len(self._newline)
        summary = size.summary_tokens + len(self._encode(_LINE)) + newline
        item = min(_LEAST_ITEM_TOKENS, size.item_tokens) + newline
        needs = {"items": item * size.block_size, "summary": summary, "summaries": 2 * summary}
        return self._overhead(template) + sum(needs[slot] for slot in template.slots)

    def _overhead(self, template: Template) -> int:
        """Return the tokens of everything but the slots."""
        fixed = sum(len(self._encode(text)) for text in template.parts[::2] if text)
        return len(self.frame.head) + fixed + len(self.frame.tail)

    def _item_lines(self, template: Template, history: Sequence[str], taken: int = 0) -> _Line:
        """Write items as lines, all shortened to the same length if they do not fit."""
        lines = [self._item_line(item_id) for item_id in history]
        room = self.budget - self._overhead(template) - taken
        cap = even_cap([len(line.ids) for line in lines], room - len(lines) * len(self._newline))
        self.cuts.items += len(lines)
        self.cuts.long_items += sum(line.cut for line in lines)
        self.cuts.squeezed_items += sum(len(line.ids) > cap for line in lines)
        return self._joined([self._capped(line, cap) for line in lines])

    def _joined(self, lines: Sequence[_Line]) -> _Line:
        ids = [token for line in lines for token in (*self._newline, *line.ids)]
        return _Line("\n".join(line.text for line in lines), ids[len(self._newline) :])

    def _assemble(self, template: Template, source: SourceTexts, **slots: _Line) -> Prompt:
        """Concatenate frame, template and slots."""
        parts: list[tuple[str, Sequence[int]]] = [("chat frame", self.frame.head)]
        for index, part in enumerate(template.parts):
            inside = index % 2
            ids = slots[part].ids if inside else self._encode(part) if part else []
            parts.append((part if inside else "instruction", ids))
        parts.append(("chat frame", self.frame.tail))
        return Prompt(
            message=template.fill(**{name: line.text for name, line in slots.items()}),
            ids=tuple(token for _, ids in parts for token in ids),
            parts=tuple((name, len(ids)) for name, ids in parts if ids),
            instruction="\n".join(template.parts[::2]),
            source=source,
        )


Ask = Callable[[Sequence[Prompt], str], list[Answer]]
"""Answers prompts; the text says what they are, for people."""
