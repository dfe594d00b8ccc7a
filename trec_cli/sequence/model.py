"""A causal transformer over the vectors of a history's items.

An item's vector is a projection of its text vector, so that items nobody has taken yet have
one, too; with ``ids`` a learnt vector is added for each known item.  A user's vector after
k items predicts item k + 1: the logit of item c is ``cos(user, c) / temperature + bias(c)``,
where the bias is a linear function of the text (and of the id), the popularity that a
softmax over the catalogue needs.  Attention knows order by the distance between items
alone (a learnt bias a head and distance), so a history cut at its old end reads the same.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trec_cli.sequence.settings import SequenceSettings

PADDING = -1
"""Row number of a position that holds no item."""


class SequenceModel(nn.Module):
    """Items to vectors, histories to user vectors, both to logits."""

    def __init__(self, size: int, known: int, settings: SequenceSettings) -> None:
        """Start from random weights.

        Args:
            size: of a text vector.
            known: items that get a learnt vector with ``ids``: rows 0 to ``known - 1``.
            settings: sizes.
        """
        super().__init__()
        width = settings.width
        self.settings = settings
        self.project = nn.Linear(size, width)
        self.text_bias = nn.Linear(size, 1)
        self.id_vectors = nn.Embedding(known, width) if settings.ids else None
        self.id_bias = nn.Embedding(known, 1) if settings.ids else None
        self.blocks = nn.ModuleList(TransformerBlock(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)
        self._start()

    def _start(self) -> None:
        """Start as the similarity of texts: the cosine with the newest item.

        Whitened vectors have their dimensions by variance, so that the first ``width`` say
        most; a block that writes nothing leaves the newest item's vector as it is.  Learnt
        vectors start at 0, so that equal texts start equal.
        """
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.text_bias.weight)
        nn.init.zeros_(self.text_bias.bias)
        if self.id_vectors is not None and self.id_bias is not None:
            nn.init.zeros_(self.id_vectors.weight)
            nn.init.zeros_(self.id_bias.weight)

    def items(self, texts: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return vectors [items, width] and biases [items] of text vectors [items, size].

        The first rows are the known items, in the order of their ids' vectors.  With ``rows``
        only these of them are computed.
        """
        chosen = texts if rows is None else texts[rows]
        vectors = self.dropout(self.project(chosen))
        bias = self.text_bias(chosen).squeeze(1)
        if self.id_vectors is not None and self.id_bias is not None:
            vectors = vectors + _learnt(self.id_vectors, rows, len(texts))
            bias = bias + _learnt(self.id_bias, rows, len(texts)).squeeze(1)
        return vectors, bias

    def users(self, vectors: Tensor, histories: Tensor, left_out: Tensor | None = None) -> Tensor:
        """Return the user's vector after each item: [users, length, width].

        Args:
            vectors: of all items, [items, width].
            histories: row numbers, oldest first, padded in front: [users, length].
            left_out: which of them no later item sees.
        """
        there = histories != PADDING
        if left_out is not None:
            there = there & ~left_out
        hidden = vectors[histories.clamp(min=0)]
        length = histories.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=hidden.device).tril()
        # Every position sees itself; a padded one has nothing else.
        itself = torch.eye(length, dtype=torch.bool, device=hidden.device)
        visible = (earlier & there[:, None, :]) | itself
        for block in self.blocks:
            hidden = block(hidden, visible[:, None])
        normed: Tensor = self.norm(hidden)
        return normed

    def logits(self, users: Tensor, vectors: Tensor, bias: Tensor) -> Tensor:
        """Return the logits of all items for users [..., width]: [..., items]."""
        # Scaled before they are many, and shifted in the product: each pass over them costs.
        directions = functional.normalize(users, dim=-1) / self.settings.temperature
        return functional.linear(directions, functional.normalize(vectors, dim=-1), bias)


def _learnt(table: nn.Embedding, rows: Tensor | None, items: int) -> Tensor:
    """Return what was learnt of each item, or of some; 0 of those that are not known."""
    if rows is not None:
        found: Tensor = table(rows)
        return found
    return functional.pad(table.weight, (0, 0, 0, items - table.num_embeddings))


class TransformerBlock(nn.Module):
    """Attention with a bias by distance, then a feed-forward layer; both normed before."""

    def __init__(self, settings: SequenceSettings) -> None:
        """Start from random weights, no distance preferred."""
        super().__init__()
        width = settings.width
        self.heads, self.share = settings.heads, settings.dropout
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for last in (self.write, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.distance = nn.Parameter(torch.zeros(settings.heads, settings.max_history))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Transform [users, length, width]; ``visible`` is [users, 1, length, length]."""
        attended = self._attend(self.before(hidden), visible)
        hidden = hidden + self.dropout(self.write(attended))
        written = self.narrow(functional.gelu(self.widen(self.between(hidden))))
        changed: Tensor = hidden + self.dropout(written)
        return changed

    def _attend(self, hidden: Tensor, visible: Tensor) -> Tensor:
        rows, length, width = hidden.shape
        parts = self.read(hidden).view(rows, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        steps = torch.arange(length, device=hidden.device)
        distance = (steps[:, None] - steps[None, :]).clamp(min=0)
        bias = self.distance[:, distance].expand(rows, -1, -1, -1)
        attended = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias.masked_fill(~visible, float("-inf")),
            dropout_p=self.share if self.training else 0.0,
        )
        return attended.transpose(1, 2).reshape(rows, length, width)
