"""``trec eval --exposure``: what systems would have earned, from a log of what was shown.

A line of the log is one item that a user was shown, the probability with which that
happened, and what came of it.  The policies to evaluate show the first K items of a system's
list; or the log itself has their probabilities.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.files import check_folder
from trec_cli.core.jsonl import FaultList, is_stream, read_lines
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import write_bytes
from trec_cli.core.progress import Progress
from trec_cli.core.records import Identifier
from trec_cli.core.runs import RunFolder, system_name
from trec_cli.core.text import counted
from trec_cli.evaluate.exposure import Earned, earned, group_means
from trec_cli.evaluate.metrics import Floats
from trec_cli.evaluate.outputs import AS_SCORES
from trec_cli.evaluate.scores import read_scores
from trec_cli.evaluate.settings import EvalOptions

EXPOSURE = "exposure.json"
FEW = 100
"""Effective events below which an estimate is not to be trusted; a convention."""
_LARGE = 10
"""Weights above which cutting them is worth a thought."""


class Event(msgspec.Struct, kw_only=True, gc=False):
    """One item that was shown.

    Attributes:
        user_id, item_id: who saw what.
        propensity: probability that it was shown to this user, above 0.
        reward: what came of it, such as 1 for a click.
        example_id: the question of the scores that it belongs to; found by the user where it
            is left out.
        policies: probability with which other policies would have shown it, by their names.
        group: of users who were served alike, to be compared with the other groups.
    """

    user_id: Identifier
    item_id: Identifier
    propensity: Annotated[float, msgspec.Meta(gt=0, le=1)]
    reward: float
    example_id: Identifier | None = None
    policies: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1)]] = {}
    group: str | None = None


@dataclass
class Log:
    """All events of a file.

    Attributes:
        file: where they were read.
        events: in its order.
        by_question: indexes of the events by example id, where they have one …
        by_user: … and of the others by user.
    """

    file: Path
    events: list[Event]
    by_question: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    by_user: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        """Index the events."""
        for index, event in enumerate(self.events):
            if event.example_id is None:
                self.by_user[event.user_id].append(index)
            else:
                self.by_question[event.example_id].append(index)

    @property
    def questions(self) -> int:
        """Number of users, or of their questions, that were shown something."""
        return len(self.by_question) + len(self.by_user)

    def column(self, name: str) -> Floats:
        """Return a number of every event."""
        return np.array([getattr(event, name) for event in self.events], dtype=np.float64)


def read_log(path: Path) -> Log:
    """Read a log of what was shown.

    Raises:
        InputError: lines that are none, or policies that some lines lack.
    """
    faults = FaultList(path)
    events, named = list[Event](), frozenset[str]()
    lines = read_lines(path, msgspec.json.Decoder(Event).decode, faults=faults)
    for number, event in lines:
        if not math.isfinite(event.reward):
            faults.add(number, "reward is not a finite number", "write 1 for a click, 0 for none")
        named = named if events else frozenset(event.policies)
        if event.policies.keys() != named:
            faults.add(
                number,
                f"has probabilities of {_listed(event.policies)}, the first line of "
                f"{_listed(named)}",
                "give every line the same policies; 0 where one would not show the item",
            )
        if events and (event.group is None) != (events[0].group is None):
            faults.add(number, "group is in some lines only", "give every line its group, or none")
        events.append(event)
    faults.raise_if_any()
    return Log(path, events)


def _listed(names: Mapping[str, Any] | frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "no policy"


@dataclass(frozen=True)
class Shown:
    """How likely a policy shows each event of a log.

    Attributes:
        name: of the policy; ``hier, first 3``.
        probability: ``[events]``; NaN where the policy has no list for the question.
        size: number of items that it shows to each question, where that is known.
    """

    name: str
    probability: Floats
    size: int | None = None


class _Rank(msgspec.Struct):
    item_id: str
    rank: int


class _List(msgspec.Struct):
    """What is needed of a line of recommendations."""

    user_id: Identifier
    items: list[_Rank]


def _of_log(log: Log) -> Iterator[Shown]:
    for name in log.events[0].policies:
        yield Shown(name, np.array([event.policies[name] for event in log.events]))


def of_scores(log: Log, path: Path, split: str, ks: Sequence[int]) -> list[Shown]:
    """Return, for each K, how likely every event is among the first K of a system's list.

    Equal scores share their places in expectation.

    Raises:
        InputError: the file is faulty, or has several questions of a user of whom the log does
            not say which.
    """
    places = [np.full(len(log.events), np.nan) for _ in ks]
    seen: set[str] = set()
    for number, line in read_scores(path):
        if line.split != split:
            continue
        asked = [*log.by_question.get(line.example, ()), *log.by_user.get(line.user_id, ())]
        if line.user_id in log.by_user and line.user_id in seen:
            raise InputError.of(
                path,
                f"has several questions of user {line.user_id!r}, and {log.file} does not say "
                "which was shown",
                "give every line of the log its example_id",
                number,
            )
        seen.add(line.user_id)
        if asked:
            scores = np.array(line.scores)
            own = dict(zip(line.candidates, line.scores, strict=False))
            for index in asked:
                score = own.get(log.events[index].item_id)
                ahead = np.inf if score is None else float((scores > score).sum())
                tied = 1 if score is None else int((scores == score).sum())
                for place, k in zip(places, ks, strict=True):
                    place[index] = min(max((k - ahead) / tied, 0.0), 1.0)
    return _known(system_name(path), places, ks)


def of_recommendations(log: Log, name: str, path: Path, ks: Sequence[int]) -> list[Shown]:
    """Return, for each K, whether every event is among the first K of a user's list.

    Raises:
        InputError: the file is faulty.
    """
    users: dict[str, list[int]] = defaultdict(list)
    for index, event in enumerate(log.events):
        users[event.user_id].append(index)
    places = [np.full(len(log.events), np.nan) for _ in ks]
    for _, line in read_lines(path, msgspec.json.Decoder(_List).decode):
        ranks = {entry.item_id: entry.rank for entry in line.items}
        for index in users.get(line.user_id, ()):
            rank = ranks.get(log.events[index].item_id, math.inf)
            for place, k in zip(places, ks, strict=True):
                place[index] = float(rank <= k)
    return _known(name, places, ks)


def _no_list(path: Path, log: Log) -> InputError:
    return InputError.of(
        path,
        f"has no list for any user of {log.file}",
        "user_id (or example_id) of the log must be those of the system's questions; is it the "
        "right --split?",
    )


def _known(name: str, places: Sequence[Floats], ks: Sequence[int]) -> list[Shown]:
    """Name the policies of a system; none where it has a list for no event."""
    if np.isnan(places[0]).all():
        return []
    return [Shown(f"{name}, first {k}", p, k) for k, p in zip(ks, places, strict=True)]


@dataclass(frozen=True)
class ExposureJob:
    """One log and the policies to evaluate by it.

    Attributes:
        options: of ``trec eval``.
        log: file of what was shown.
    """

    options: EvalOptions
    log: Path

    @property
    def folder(self) -> Path | None:
        """Where the result goes; None prints only a table."""
        return self.options.out or self.options.run

    def files(self) -> tuple[list[Path], dict[str, Path]]:
        """Return files of scores, and of recommendations by system."""
        run = self.options.run
        if self.options.scores or run is None:
            return list(self.options.scores), {}
        check_folder(run, AS_SCORES)
        return RunFolder(run).all_scores(), RunFolder(run).all_recommendations()

    def look(self) -> int:
        """Read and check the log; return its number of events.

        Raises:
            InputError: it is at fault.
        """
        return len(read_log(self.log).events)

    def run(self, progress: Progress, *, overwrite: bool = False) -> tuple[dict[str, Any], bool]:
        """Estimate, unless that is done; return what `exposure.json` has, and whether it is new.

        Raises:
            InputError: a file is at fault.
            SettingsChanged: there is a result of other options, and not ``overwrite``.
            UsageError: there is no policy to evaluate.
        """
        scores, lists = self.files()
        if any(map(is_stream, (self.log, *scores))):
            raise UsageError("--exposure reads files, no streams")
        numbers = self.options.numbers
        settings = {
            "exposure": True, "split": self.options.split, "ks": list(numbers.ks),
            "clip": self.options.clip, "replicates": numbers.replicates, "seed": numbers.seed,
        }  # fmt: skip
        inputs = [self.log, *scores, *lists.values()]
        provenance = Provenance("eval", settings, inputs if self.folder else [])
        out = self.folder / EXPOSURE if self.folder else None
        if out and up_to_date(out, provenance.settings, overwrite=overwrite):
            return msgspec.json.decode(out.read_bytes(), type=dict[str, Any]), False
        found = self._estimate(scores, lists, progress)
        if out:
            with provenance.publish(out):
                body = msgspec.json.format(msgspec.json.encode(found), indent=2)
                write_bytes(out, [body, b"\n"])
            progress.info(f"wrote {out}")
        return found, True

    def _estimate(
        self, scores: Sequence[Path], lists: Mapping[str, Path], progress: Progress
    ) -> dict[str, Any]:
        log = read_log(self.log)
        policies = [*_of_log(log), *self._of_systems(log, scores, lists, progress)]
        users = [event.user_id for event in log.events]
        groups = self._groups(log, users)
        if not policies and len(groups) < 2:
            raise UsageError(
                "no policy to evaluate: give a RUN or --scores with lists for the users of the "
                "log (is it the right --split?), or the log its own 'policies' or several groups"
            )
        found = {policy.name: self._of(policy, log, users, progress) for policy in policies}
        return {
            "events": len(log.events),
            "users": len(set(users)),
            "questions": log.questions,
            "mean_reward": float(log.column("reward").mean()),
            "smallest_propensity": float(log.column("propensity").min()),
            "clip": self.options.clip,
            "groups": groups,
            "policies": found,
        }

    def _groups(self, log: Log, users: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Compare the groups of users that the log tells apart."""
        named = [event.group for event in log.events if event.group is not None]
        numbers = self.options.numbers
        means = (
            group_means(
                log.column("reward"),
                named,
                users,
                replicates=numbers.replicates,
                seed=numbers.seed,
            )
            if named
            else {}
        )
        served = {group: set[str]() for group in means}
        for user, group in zip(users, named, strict=bool(named)):
            served[group].add(user)
        return {n: {"users": len(served[n]), **_numbers(mean)} for n, mean in means.items()}

    def _of_systems(
        self, log: Log, scores: Sequence[Path], lists: Mapping[str, Path], progress: Progress
    ) -> Iterator[Shown]:
        """Yield the policies of every system; of RUN, those that have lists for the log."""
        split, ks = self.options.split, self.options.numbers.ks
        found = {path: of_scores(log, path, split, ks) for path in scores}
        for name, path in lists.items():
            found[path] = of_recommendations(log, f"{name} (recommendations)", path, ks)
        without = [path for path, policies in found.items() if not policies]
        if without and self.options.scores:
            raise _no_list(without[0], log)
        if without:
            names = ", ".join(path.name for path in without)
            progress.info(f"left out, without a list for any user of the log: {names}")
        yield from (policy for policies in found.values() for policy in policies)

    def _of(
        self, policy: Shown, log: Log, users: Sequence[str], progress: Progress
    ) -> dict[str, Any]:
        """Estimate one policy on the events for which it has a list."""
        known = np.flatnonzero(~np.isnan(policy.probability))
        if missing := len(log.events) - len(known):
            progress.warn(
                f"{policy.name}: no list for the users of {missing:,} of {len(log.events):,} "
                "events; they are left out"
            )
        wanted = policy.probability[known]
        if not wanted.any():
            progress.warn(f"{policy.name} would have shown nothing of what was logged")
            return {"answered": len(known), "events": 0, "value": None}
        numbers = self.options.numbers
        result = earned(
            log.column("reward")[known],
            log.column("propensity")[known],
            {policy.name: wanted},
            [users[index] for index in known.tolist()],
            clip=self.options.clip,
            replicates=numbers.replicates,
            seed=numbers.seed,
        )[policy.name]
        for note in cautions(policy, result):
            progress.warn(note)
        return {"answered": len(known), "shows": policy.size, **_numbers(result)}


def _numbers(result: Earned) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in asdict(result).items()
    }


def cautions(policy: Shown, result: Earned) -> Iterator[str]:
    """Yield why an estimate is to be read with care, if it is."""
    if result.effective < FEW:
        advice = ", or cut large weights with --clip" if result.largest > _LARGE else ""
        yield (
            f"{policy.name}: few events decide; its {result.events:,} count like "
            f"{result.effective:.0f} of equal weight (the largest weight is {result.largest:.3g}). "
            f"Log more{advice}"
        )
    if result.clipped:
        yield (
            f"{policy.name}: {counted(result.clipped, 'weight was', 'weights were')} cut by "
            "--clip; the estimate leans towards what the log has shown"
        )
