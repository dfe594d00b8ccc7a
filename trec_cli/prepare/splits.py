"""Who trains, who validates, who tests: by (seed, user) alone, or by the source's parts.

Shares of users go by a hash of (seed, user), so a user's split stays what it is when other
users are added, left out or reordered.  Numbers of users go by the rank of that hash.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction

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
    """Return a point of a user in [0, 1), independently of :func:`hash_order`."""
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


def _by_share(point: float, sizes: Sizes) -> Split:
    if point < sizes.test:
        return "test"
    return "valid" if point < sizes.test + sizes.valid else "train"


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


def by_parts(questions: Sequence[Question], seed: int) -> dict[str, dict[str, Split]]:
    """Return the split of every part and user, where the source is published in parts.

    Part ``train`` trains.  Where part ``test`` has answers it tests and ``dev`` validates;
    where it has none, as in MIND, ``dev`` tests, and a twelfth of the users of ``train``
    validate.

    Raises:
        UsageError: the parts are not there.
    """
    parts = {q.part for q in questions}
    if None in parts or len(parts) < 2 or "train" not in parts:
        raise UsageError(
            "--split parts needs a source published in parts, train and dev or test; "
            "use --split users"
        )
    found: dict[str, dict[str, Split]] = {str(part): {} for part in parts}
    sizes = Sizes(Fraction(11, 12), Fraction(1, 12), Fraction(0))
    for question in questions:
        user, part = question.user_id, str(question.part)
        if part == "train" and "test" not in parts:
            found[part][user] = _by_share(_share(seed, user), sizes)
        elif part == "dev":
            found[part][user] = "valid" if "test" in parts else "test"
        else:
            found[part][user] = "train" if part == "train" else "test"
    return found
