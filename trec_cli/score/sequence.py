"""Scoring by a small sequence model over text vectors (``--scorer sequence``).

It is trained when the first batch is scored, on the histories and answers of split train,
and kept beside the scores in ``model-sequence.safetensors``, from where it is taken for
whatever is scored of the same items and examples with the same settings.  A killed training
continues after its last whole epoch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from trec_cli.core.attributes import check_attributes
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import content_hash, is_stream
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import locked
from trec_cli.core.progress import Progress
from trec_cli.models.device import choose_device
from trec_cli.models.vectors import CatalogueVectors, embedding_text
from trec_cli.score.blend import is_kept
from trec_cli.score.job import Job, Material, read_material
from trec_cli.score.kinds import SEQUENCE
from trec_cli.score.options import Asked
from trec_cli.sequence.model import SequenceModel
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import Checkpoint, score_all, train
from trec_cli.sequence.whitening import whitened
from trec_cli.signals.histories import Events


def make_sequence_job(
    asked: Asked, settings: SequenceSettings, vectors: CatalogueVectors, progress: Progress
) -> "SequenceJob":
    """Read the files; nothing is embedded or learnt yet.

    Args:
        asked: the questions.
        settings: of the model and its training.
        vectors: how those of the items are made.
        progress: where to say what goes on.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
        ModelError: there is no such embedder.
        UsageError: split train is asked, or holds no history to learn from.
    """
    if asked.split == "train":
        raise UsageError(
            "--scorer sequence has learnt the answers of split train; score valid or test"
        )
    material = read_material(asked, SEQUENCE)
    check_attributes(vectors.attributes, material.items)
    return SequenceJob(asked, material, settings, ItemTexts(material, vectors, progress))


class ItemTexts:
    """Whitened vectors of the whole catalogue.

    Rows are sorted by text, so that no file order and no id decides a rounding.

    Attributes:
        rows: item id to row.
        identity: what decides the vectors, beside the texts.
        progress: where to say what goes on.
    """

    def __init__(self, material: Material, vectors: CatalogueVectors, progress: Progress) -> None:
        """Order the items; nothing is embedded yet."""
        self._items, self._vectors, self.progress = material.items, vectors, progress
        names = vectors.attributes
        texts = {name: embedding_text(item, names) for name, item in self._items.items()}
        self.rows = {name: row for row, name in enumerate(sorted(texts, key=texts.__getitem__))}
        self.identity = vectors.identity()

    @cached_property
    def tensor(self) -> Tensor:
        """Embed and whiten, on the device of the embedder: [items, size]."""
        found = self._vectors.of({name: self._items[name] for name in self.rows}, self.progress)
        model = self._vectors.sources[0].model
        device = choose_device(model.device, model.dtype).device
        return torch.from_numpy(whitened(found)).to(device)


class SequenceJob(Job):
    """A job for the sequence model."""

    def __init__(
        self, asked: Asked, material: Material, settings: SequenceSettings, texts: ItemTexts
    ) -> None:
        """Describe the settings.

        Raises:
            UsageError: no train user has two items.
        """
        told = settings.recorded(len(texts.rows))
        self._own = {"seed": asked.seed, "sequence": told, **texts.identity}
        super().__init__(SEQUENCE, material, self._own)
        self._material, self._settings, self._seed = material, settings, asked.seed
        self._texts = texts
        sequences = Events.of(material.everything, texts.rows).sequences
        self._histories = [
            sequences.items[start:end].tolist()
            for start, end in zip(sequences.ends[:-1], sequences.ends[1:], strict=True)
        ]
        if not any(len(history) > 1 for history in self._histories):
            raise UsageError(
                "--scorer sequence learns what follows what in split train, and no user there "
                "has two items. Add examples of split train, or choose --scorer embedding."
            )
        self._file: Path | None = None
        self._losses: list[float] = []

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:
        """Let the model be kept beside the output."""
        if not is_stream(out):
            self._file = out.with_name("model-sequence.safetensors")
        yield

    @cached_property
    def _model(self) -> SequenceModel:
        """Load the model where it is kept, else train and keep it."""
        if self._file is None:
            return self._train(None)
        material = self._material
        settings = {"scorer": SEQUENCE, **self._own}
        with locked(self._file):
            made = Provenance("score", settings, material.files, material.hashes)
            if is_kept(self._file, made):
                return self._load(self._file)
            key = content_hash([{"settings": settings, "histories": self._histories}])
            checkpoint = Checkpoint(self._file.with_suffix(".partial"), key)
            model = self._train(checkpoint)
            with made.publish(self._file):
                save_file(model.state_dict(), self._file)
            checkpoint.remove()
        return model

    def _train(self, checkpoint: Checkpoint | None) -> SequenceModel:
        texts = self._texts.tensor
        progress = self._texts.progress
        with progress.task("training the sequence model", total=self._settings.epochs) as task:

            def after_epoch(_epoch: int, loss: float, _model: SequenceModel) -> None:
                self._losses.append(loss)
                task.advance(1)

            return train(
                texts,
                self._histories,
                self._settings,
                self._seed,
                checkpoint=checkpoint,
                after_epoch=after_epoch,
            )

    def _load(self, path: Path) -> SequenceModel:
        texts = self._texts.tensor
        model = SequenceModel(texts.shape[1], len(texts), self._settings).to(texts.device)
        model.load_state_dict(load_file(path, device=str(texts.device)))
        return model.eval()

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples: log-probabilities over the catalogue."""
        examples, rows = [self.examples[index] for index in batch], self._texts.rows
        histories = [[rows[item] for item in example.history] for example in examples]
        blocks = score_all(self._model, self._texts.tensor, histories)
        scores = (row for block in blocks for row in block)
        return [
            row[[rows[item] for item in example.candidates]].astype(float).tolist()
            for example, row in zip(examples, scores, strict=True)
        ]

    def details(self) -> dict[str, Any]:
        """Return what was learnt from, and the loss of every epoch that was trained now."""
        targets = sum(max(0, len(history) - 1) for history in self._histories)
        learnt = {"learnt_users": len(self._histories), "learnt_targets": targets}
        return {**learnt, "losses": self._losses}

    def remarks(self) -> list[str]:
        """Say the same to people."""
        targets = self.details()["learnt_targets"]
        loss = f", last loss {self._losses[-1]:.3f}" if self._losses else ", taken from before"
        kept = self._file or "nowhere"
        return [
            f"sequence: {targets:,} targets of {len(self._histories):,} users{loss}; kept in {kept}"
        ]
