"""Scores that stay when the inputs have only grown.

Beside an output lie the keys of its batches, ``.NAME.keys``: a hash of all that each was
asked.  A batch that is asked the same again, by the same model with the same settings, keeps
its scores, so the output is that of a fresh run to the byte.  A scorer that learns from all
examples has no keys and starts again.  A file of recommendations has the best items alone;
all scores behind it are kept in ``.NAME.kept``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import msgspec

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.json_file import UNREADABLE, read_json
from trec_cli.core.jsonl import open_input
from trec_cli.core.manifest import file_hash, recorded_settings
from trec_cli.core.outputs import Settings, write_bytes
from trec_cli.core.records import Scores
from trec_cli.score.job import Job

_decode = msgspec.json.Decoder(Scores).decode


class _Keys(msgspec.Struct):
    """What each example of an output was asked, and the hash of the file with its scores."""

    sha256: str
    keys: dict[str, str]


@dataclass(frozen=True)
class Earlier:
    """The output that is replaced because its inputs have grown.

    Attributes:
        examples: that it has.
        keys: of what they were asked; empty where no score may be kept.
        scores: of its examples.
    """

    examples: frozenset[str] = frozenset()
    keys: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, list[float]] = field(default_factory=dict)

    def of(self, job: Job, batch: Sequence[int]) -> list[list[float]] | None:
        """Return the scores of a batch; None where it is asked something else now."""
        names = [job.examples[index].example_id for index in batch]
        if not all(name in self.keys and name in self.scores for name in names):
            return None
        if job.keys(batch) != [self.keys[name] for name in names]:
            return None
        return [self.scores[name] for name in names]


def read_earlier(
    job: Job, out: Path, settings: Settings, change: SettingsChanged, *, top: bool
) -> Earlier:
    """Read the output whose inputs have changed.

    Args:
        job: that makes it again.
        out: where it lies.
        settings: of the job, inputs included.
        change: what is different.
        top: whether it has recommendations.

    Raises:
        SettingsChanged: more is different than inputs that have grown: a setting, an adapter,
            or an example that is gone.
    """
    old, fixed = recorded_settings(out) or {}, len(job.fixed)
    if not change.only_inputs or (fixed and old["inputs"][-fixed:] != settings["inputs"][-fixed:]):
        raise change
    source = _scores_of(out, top=top)
    keys = _read_keys(out, source)
    scores = _read_scores(source)
    examples = set(keys if top else scores)
    own = {example.example_id for example in job.examples}
    if "shard" in settings:  # what a shard has no more, another has now
        examples &= own
    if not examples or examples - own:
        raise change
    return Earlier(frozenset(examples), keys, scores)


def write_keys(job: Job, out: Path, records: Mapping[str, bytes], *, top: bool) -> None:
    """Keep what the next run needs to keep scores, where the scorer has keys."""
    batches = job.batches()
    if not top and (not batches or job.keys(batches[0]) is None):
        return
    source = _scores_of(out, top=top)
    if top:
        names = (job.examples[index].example_id for batch in batches for index in batch)
        write_bytes(source, (records[name] for name in names))
    write_bytes(_keys_path(out), _encoded(file_hash(source), _keys_of(job, batches)))


def _keys_of(job: Job, batches: Sequence[Sequence[int]]) -> Iterator[tuple[str, str]]:
    """Yield the key of every example; an empty one where there is none."""
    for batch in batches:
        own = job.keys(batch) or [""] * len(batch)
        for index, key in zip(batch, own, strict=True):
            yield job.examples[index].example_id, key


def _encoded(sha256: str, keys: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """Encode :class:`_Keys` piece by piece."""
    yield b'{"sha256":' + msgspec.json.encode(sha256) + b',"keys":{'
    for number, (name, key) in enumerate(keys):
        pair = msgspec.json.encode(name) + b":" + msgspec.json.encode(key)
        yield b"," + pair if number else pair
    yield b"}}"


def merge_keys(shards: Sequence[Path], out: Path, *, top: bool) -> None:
    """Keep for an output what its shards have kept, where all have."""
    full = [shard for shard in shards if shard.stat().st_size]
    if not all(_keys_path(shard).is_file() for shard in full):
        return
    source = _scores_of(out, top=top)
    if top:
        write_bytes(source, (line for shard in full for line in _lines(_scores_of(shard, top=top))))
    keys = (_read_keys(shard, _scores_of(shard, top=top)).items() for shard in full)
    write_bytes(_keys_path(out), _encoded(file_hash(source), chain.from_iterable(keys)))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        yield from stream


def _keys_path(out: Path) -> Path:
    return out.with_name(f".{out.name}.keys")


def _scores_of(out: Path, *, top: bool) -> Path:
    """Name the file with all scores of an output."""
    return out.with_name(f".{out.name}.kept") if top else out


def _read_keys(out: Path, source: Path) -> dict[str, str]:
    """Read the keys of an output; empty where they are not there, or of another file."""
    with suppress(OSError, msgspec.MsgspecError):
        found = read_json(_keys_path(out), _Keys)
        if found.sha256 == file_hash(source):
            return found.keys
    return {}


def _read_scores(source: Path) -> dict[str, list[float]]:
    """Read scores by example; what is damaged is left out and scored again."""
    found: dict[str, list[float]] = {}
    if source.is_file():
        with open_input(source) as stream:
            for line in stream:
                with suppress(*UNREADABLE):
                    record = _decode(line)
                    found[record.example_id] = record.scores
    return found
