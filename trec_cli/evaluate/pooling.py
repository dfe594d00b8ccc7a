"""Several seeds of one system: `scores-NAME@SEED.jsonl` are runs of the system NAME."""

import re
from collections.abc import Sequence

from trec_cli.core.errors import UsageError

_SEEDED = re.compile(r"(?P<system>.+)@(?P<seed>0|[1-9]\d*)")


def split_seed(name: str) -> tuple[str, str | None]:
    """Part ``hier@2`` into ``hier`` and ``2``; a name without a seed has None."""
    found = _SEEDED.fullmatch(name)
    return (found["system"], found["seed"]) if found else (name, None)


def pool_runs(names: Sequence[str], *, pool: bool = True) -> dict[str, list[int]]:
    """Give each system the places of its runs in ``names``, in the order of their seeds.

    Without ``pool`` every run is a system of its own.

    Raises:
        UsageError: a system has runs with and without a seed in their name.
    """
    if not pool:
        return {name: [place] for place, name in enumerate(names)}
    members: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        members.setdefault(split_seed(name)[0], []).append(place)
    for system, places in members.items():
        if len(places) > 1 and system in names:
            raise UsageError(
                f"{', '.join(names[place] for place in places)}: is {system} a seed like the "
                f"others? Then call it {system}@SEED too; else give --no-pool, or another name"
            )
        places.sort(key=lambda place: int(split_seed(names[place])[1] or 0))
    return members
