"""Who trains, who validates, who tests: by (seed, user) alone, or by time.

Shares of users go by a hash of (seed, user), so a user's split stays what it is when other
users are added, left out or reordered.  Numbers of users go by the rank of that hash.
"""

import math
from collections.abc import Iterable, Sequence

from trec_cli.core.errors import UsageError
from trec_cli.core.records import Split
from trec_cli.core.seeds import derive_seed
from trec_cli.prepare.collection import Question
from trec_cli.prepare.settings import Sizes

_ALL = 2**64


def hash_order(users: Iterable[str], seed: int) -> list[str]:
    """Order users by a hash of (seed, user); the first n are a random sample of n."""
    return sorted(set(users), key=lambda user: (derive_seed(seed, user, "order"), user))


def _share(seed: int, user: str) -> float:
    """Place a user in [0, 1), independently of :func:`hash_order`."""
    return derive_seed(seed, user, "split") / _ALL


def by_users(users: Sequence[str], sizes: Sizes, seed: int) -> dict[str, Split]:
    """Split users at random: by shares (sizes come out approximately) or exact numbers.

    With numbers, users that are too many are in no split.

    Raises:
        UsageError: numbers are given and there are too few users.
    """
    if not sizes.absolute:
        return {user: _by_share(_share(seed, user), sizes) for user in users}
    if len(users) < sizes.total:
        raise UsageError(
            f"{len(users):,} users are left, and the sizes ask for "
            f"{sizes.total:,}; ask for fewer, or give shares like 10/12, 1/12 and 1/12"
        )
    ranked = sorted(users, key=lambda user: (_share(seed, user), user))
    test, valid = int(sizes.test), int(sizes.valid)
    splits: dict[str, Split] = dict.fromkeys(ranked[:test], "test")
    splits |= dict.fromkeys(ranked[test : test + valid], "valid")
    return splits | dict.fromkeys(ranked[test + valid : sizes.total], "train")


def _by_share(place: float, sizes: Sizes) -> Split:
    if place < sizes.test:
        return "test"
    return "valid" if place < sizes.test + sizes.valid else "train"


def by_fixed(users: Sequence[str], offered: set[str], sizes: Sizes, seed: int) -> dict[str, Split]:
    """Let users with candidates fixed by the source test, and split the others.

    With shares all of the former test; with numbers, so many of them.
    """
    testers = [user for user in users if user in offered]
    others = [user for user in users if user not in offered]
    if sizes.absolute:
        first = Sizes(sizes.train * 0, sizes.valid * 0, sizes.test, absolute=True)
        second = Sizes(sizes.train, sizes.valid, sizes.test * 0, absolute=True)
        return by_users(testers, first, seed) | by_users(others, second, seed)
    rest = sizes.train + sizes.valid
    if not rest:
        raise UsageError("--split fixed needs a share above 0 for --train-users or --valid-users")
    second = Sizes(sizes.train / rest, sizes.valid / rest, sizes.test * 0)
    splits: dict[str, Split] = dict.fromkeys(testers, "test")
    return splits | by_users(others, second, seed)


def by_time(questions: Sequence[Question], sizes: Sizes) -> list[Split]:
    """Split by the time of the target: the earliest train, the latest test.

    Cuts lie where the shares of examples (numbers are taken as shares) put them; equal
    times stay together, on the earlier side.

    Raises:
        UsageError: an example has no time.
    """
    times = [q.timestamp for q in questions if q.timestamp is not None]
    if len(times) < len(questions):
        raise UsageError(
            f"--split time needs the time of every target; {len(questions) - len(times):,} of "
            f"{len(questions):,} examples have none. Use --split users or leave-last-out"
        )
    ordered = sorted(times)
    total = sizes.train + sizes.valid + sizes.test
    last_train = _cut(ordered, math.ceil(len(times) * sizes.train / total))
    last_valid = _cut(ordered, math.ceil(len(times) * (sizes.train + sizes.valid) / total))
    return [
        "train" if time <= last_train else "valid" if time <= last_valid else "test"
        for time in times
    ]


def _cut(ordered: Sequence[float], count: int) -> float:
    """Give the time of the ``count``-th example, or before all of them for none."""
    return ordered[count - 1] if count else -math.inf
