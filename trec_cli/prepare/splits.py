"""Who trains, who validates, who tests: by (seed, user) alone, or by the source's parts.

Shares of users go by a hash of (seed, user), so a user's split stays what it is when other
users are added, left out or reordered.  Numbers of users go by the rank of that hash.
"""

from collections.abc import Set
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from trec_cli.core.errors import UsageError
from trec_cli.core.records import ANSWERED, Split
from trec_cli.core.seeds import derive_seed
from trec_cli.core.text import counted
from trec_cli.prepare.collection import Part
from trec_cli.prepare.settings import Sizes

_ALL = 2**64
SPLIT_NAMES = ANSWERED
TRAIN, VALID, TEST = (SPLIT_NAMES.index(name) for name in ("train", "valid", "test"))
NO_SPLIT = -1
Points = npt.NDArray[np.uint64]
Splits = npt.NDArray[np.int8]


def place_of(seed: int, user: str) -> int:
    """Return the place of a user in the order of the output: a hash of (seed, user)."""
    return derive_seed(seed, user, "order")


def share_of(seed: int, user: str) -> int:
    """Return a point of a user in [0, 2 ** 64), independently of :func:`place_of`."""
    return derive_seed(seed, user, "split")


def by_users(points: Points, sizes: Sizes) -> Splits:
    """Split users at random: by shares (sizes come out approximately) or exact numbers.

    With numbers, users that are too many are in no split.

    Args:
        points: :func:`share_of` each user.
        sizes: of the splits.

    Returns:
        For each user the index of its split in :data:`SPLIT_NAMES`, or :data:`NO_SPLIT`.

    Raises:
        UsageError: numbers are given and there are too few users.
    """
    if not sizes.absolute:
        return _by_shares(points, sizes)
    if len(points) < sizes.total:
        raise UsageError(
            f"{counted(len(points), 'user is', 'users are')} left, and the sizes ask for "
            f"{sizes.total:,}; ask for fewer, or give shares like 10/12, 1/12 and 1/12"
        )
    found = np.full(len(points), NO_SPLIT, dtype=np.int8)
    numbers = (int(sizes.test), int(sizes.valid), int(sizes.train))
    names = np.repeat(np.array([TEST, VALID, TRAIN], dtype=np.int8), numbers)
    found[np.argsort(points, kind="stable")[: sizes.total]] = names
    return found


def _by_shares(points: Points, sizes: Sizes) -> Splits:
    shares = points.astype(np.float64) / 2**64
    found = np.full(len(points), TRAIN, dtype=np.int8)
    found[shares < _least(sizes.test + sizes.valid)] = VALID
    found[shares < _least(sizes.test)] = TEST
    return found


def _least(share: Fraction) -> float:
    """Return the least floating-point number that is not below a fraction."""
    nearest = float(share)
    return nearest if nearest >= share else float(np.nextafter(nearest, np.inf))


def by_fixed(points: Points, offered: npt.NDArray[np.bool_], sizes: Sizes) -> Splits:
    """Let users with candidates fixed by the source test, and split the others.

    With shares all of the former test; with numbers, so many of them.

    Args:
        points: :func:`share_of` each user.
        offered: whether the user has fixed candidates.
        sizes: of the splits.

    Raises:
        UsageError: the shares leave nobody to learn from, or numbers ask for too many users.
    """
    found = np.full(len(points), TEST, dtype=np.int8)
    if sizes.absolute:
        first = Sizes(sizes.train * 0, sizes.valid * 0, sizes.test, absolute=True)
        second = Sizes(sizes.train, sizes.valid, sizes.test * 0, absolute=True)
        found[offered] = by_users(points[offered], first)
        found[~offered] = by_users(points[~offered], second)
        return found
    rest = sizes.train + sizes.valid
    if not rest:
        raise UsageError("--split fixed needs a share above 0 for --train-users or --valid-users")
    second = Sizes(sizes.train / rest, sizes.valid / rest, sizes.test * 0)
    found[~offered] = by_users(points[~offered], second)
    return found


def check_parts(parts: Set[Part | None]) -> None:
    """Check that a source is published in parts.

    Raises:
        UsageError: the parts are not there.
    """
    if None in parts or len(parts) < 2 or "train" not in parts:
        raise UsageError(
            "--split parts needs a source published in parts, train and dev or test; "
            "use --split users"
        )


def by_part(part: Part | None, parts: Set[Part | None], point: int) -> Split:
    """Return the split of a user's question, where the source is published in parts.

    Part ``train`` trains.  Where part ``test`` has answers it tests and ``dev`` validates;
    where it has none, as in MIND, ``dev`` tests, and a twelfth of the users of ``train``
    validate.

    Args:
        part: of the question.
        parts: of all questions.
        point: :func:`share_of` the user.
    """
    if part == "train":
        if "test" in parts:
            return "train"
        return "valid" if point / _ALL < Fraction(1, 12) else "train"
    return "valid" if part == "dev" and "test" in parts else "test"
