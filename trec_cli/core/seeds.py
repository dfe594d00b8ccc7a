"""Random draws that depend on (seed, key) alone, never on order or sharding."""

import hashlib
from functools import lru_cache

import numpy as np


def derive_seed(seed: int, *keys: str | int) -> int:
    """Hash ``(seed, *keys)`` to an unsigned 64-bit integer, the same on every machine.

    Keys are joined with a separator that no text key can imitate (their length
    stands in front), so ``("a", "b")`` and ``("ab",)`` differ.
    """
    joined = _joined(seed, *keys[:-1]) + _part(keys[-1]) if keys else _joined(seed)
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


@lru_cache(64, typed=True)
def _joined(*keys: str | int) -> bytes:
    """Join what many calls have in common: all keys but the last."""
    return b"".join(map(_part, keys))


def _part(key: str | int) -> bytes:
    text = f"{type(key).__name__}:{key}".encode()
    return len(text).to_bytes(8, "little") + text


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the random generator of ``(seed, *keys)``, for example ``(seed, user_id, epoch)``."""
    return np.random.default_rng(derive_seed(seed, *keys))


FOLDS = 10


def fold_of(user: str) -> int:
    """Return the fold of a user, one of :data:`FOLDS`.

    Whatever is counted for a training question is counted over users of other folds, and its
    negatives come from answers of its own, where answers are what is drawn: so a count knows
    neither the right answer nor the wrong ones.  The same for all seeds, or it would not hold
    where one command draws and another counts.
    """
    return derive_seed(0, "fold", user) % FOLDS
