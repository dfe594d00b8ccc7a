"""How likely a model finds the texts of items without a user, kept in the store.

That is the same in every question, so each item is asked for once, and found by every other arm
that asks for the same items.  Items are taken in fixed blocks of all that are asked for, and kept
as blocks: neither order nor resume, shards or what the store holds change a bit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.database import ContentKeys
from trec_cli.core.manifest import file_hash
from trec_cli.core.progress import Progress
from trec_cli.models.device import Placement
from trec_cli.models.log_odds import TreeScorer
from trec_cli.models.vector_store import VectorStore
from trec_cli.prompts.recommend import PromptBuilder, PromptTree, tree_bytes

_BLOCK = 64
"""Items asked for at a time."""


class TextsAlone:
    """Log-likelihoods of item texts after the prompt of nobody, in nats.

    Attributes:
        found: how many likelihoods were in the store.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        items: Iterable[str],
        *,
        model: Mapping[str, str],
        placement: Placement,
        max_tokens: int,
        adapter: Iterable[Path] = (),
    ) -> None:
        """Take the items that may be asked for, and what decides how likely they are.

        Args:
            builder: of prompts that ask for texts.
            items: their ids.
            model: its identity.
            placement: where it runs.
            max_tokens: of one forward pass.
            adapter: its files, where it has one.
        """
        identity = {
            "what": "log p(text)",
            "model": model,
            "adapter": [file_hash(path) for path in adapter],
            "device": placement.device.type,
            "dtype": placement.precision,
            "max_tokens": max_tokens,
        }
        ids = sorted(set(items))
        self._builder = builder
        self._blocks = [ids[start : start + _BLOCK] for start in range(0, len(ids), _BLOCK)]
        self._block_of = {item: n for n, block in enumerate(self._blocks) for item in block}
        self._keys = ContentKeys(identity)
        self._known: dict[str, float] = {}
        self.found = 0

    def of(self, item: str, store: VectorStore, scorer: Callable[[], TreeScorer]) -> float:
        """Return an item's likelihood; its block is asked for where it is not known yet."""
        if item not in self._known:
            self._learn(self._blocks[self._block_of[item]], store, scorer)
        return self._known[item]

    def every(
        self,
        items: Iterable[str],
        store: VectorStore,
        scorer: Callable[[], TreeScorer],
        progress: Progress,
    ) -> Mapping[str, float]:
        """Return the likelihoods of some items and of those in their blocks.

        ``scorer`` is called where one is missing.
        """
        wanted = sorted({self._block_of[item] for item in items})
        with progress.task("asking for texts without a user", len(wanted)) as bar:
            for block in (self._blocks[number] for number in wanted):
                if block[0] not in self._known:
                    self._learn(block, store, scorer)
                bar.advance()
        return self._known

    def ask(
        self, tree: PromptTree, store: VectorStore, scorer: Callable[[], TreeScorer]
    ) -> NDArray[np.float32]:
        """Return the likelihoods of a tree's texts, from the store where they are there."""
        key = self._keys.of(tree_bytes(tree))
        values = store.get([key]).get(key)
        if values is None or len(values) != len(tree.branches):
            [made] = scorer()([tree])
            values = np.array(made, np.float32)
            store.put({key: values})
        else:
            self.found += len(values)
        return values

    def _learn(
        self, block: Sequence[str], store: VectorStore, scorer: Callable[[], TreeScorer]
    ) -> None:
        values = self.ask(self._builder.tree([], "", block), store, scorer)
        self._known.update(zip(block, map(float, values), strict=True))

    def checked(
        self, scorer: TreeScorer, progress: Progress, longest: PromptTree | None = None
    ) -> TreeScorer:
        """Let a model that cannot share a prefix be asked text by text, and say so.

        ``longest`` is the longest tree that it will be asked beside the texts alone.
        """
        scorer.tell = progress.warn
        trees = [self._builder.tree([], "", self._blocks[0]), *([longest] if longest else [])]
        scorer.check(trees)
        if scorer.fallback:
            progress.warn(f"{scorer.fallback}; asking the base model one prompt at a time, slowly")
        return scorer
