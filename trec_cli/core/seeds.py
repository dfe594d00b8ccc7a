"""Random draws that depend on (seed, key) alone, never on order or sharding."""

import hashlib

import numpy as np


def derive_seed(seed: int, *keys: str | int) -> int:
    """Hash ``(seed, *keys)`` to an unsigned 64-bit integer, the same on every machine.

    Keys are joined with a separator that no text key can imitate (their length
    stands in front), so ``("a", "b")`` and ``("ab",)`` differ.
    """
    texts = [f"{type(key).__name__}:{key}".encode() for key in (seed, *keys)]
    joined = b"".join([part for text in texts for part in (len(text).to_bytes(8, "little"), text)])
    return int.from_bytes(hashlib.blake2b(joined, digest_size=8).digest(), "little")


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return the random generator of ``(seed, *keys)``, for example ``(seed, user_id, epoch)``."""
    return np.random.default_rng(derive_seed(seed, *keys))
