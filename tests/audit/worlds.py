"""Worlds of users and items for the audit: clean ones, and ones with a planted shortcut."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from trec_cli.core.records import Example, Item, Split

Random = np.random.Generator
Draw = Callable[[Random, "World"], int]


@dataclass
class World:
    """What a world is made of; by default nothing tells a right answer from a wrong one.

    Attributes:
        right: draws a right answer.
        wrong: draws a wrong one.
        history: draws an item of a history.
        title: title of an item.
        arrange: puts candidates in order, given the right one.
    """

    items: int = 150
    candidates: int = 11
    train: int = 240
    valid: int = 40
    test: int = 120
    right: Draw = lambda random, world: int(random.integers(world.items))
    wrong: Draw = lambda random, world: int(random.integers(world.items))
    history: Draw = lambda random, world: int(random.integers(world.items))
    title: Callable[[Random, int], str] = lambda random, _: _words(random, 4)
    arrange: Callable[[Random, list[int], int], list[int]] = lambda random, pool, _: [
        pool[index] for index in random.permutation(len(pool))
    ]
    more: dict[str, Callable[[Random, int], str]] = field(default_factory=dict)


def _words(random: Random, number: int) -> str:
    """Make a title of words of equal length."""
    return " ".join(f"word{random.integers(100, 400)}" for _ in range(number))


def words(random: Random, number: int) -> str:
    """Make a text of so many words."""
    return _words(random, number)


def name(item: int) -> str:
    """Give an item an id."""
    return f"n{item}"


def make(world: World, seed: int) -> tuple[dict[str, Item], list[Example]]:
    """Draw the catalogue and all examples."""
    random = np.random.default_rng(seed)
    items = {
        name(index): Item(
            name(index),
            {
                "title": world.title(random, index),
                **{key: value(random, index) for key, value in world.more.items()},
            },
        )
        for index in range(world.items)
    }
    return items, list(_examples(world, random))


def _examples(world: World, random: Random) -> Iterator[Example]:
    splits: Sequence[tuple[Split, int]] = (
        ("train", world.train), ("valid", world.valid), ("test", world.test)
    )  # fmt: skip
    for split, number in splits:
        for user in range(number):
            history = [world.history(random, world) for _ in range(8)]
            right = _outside(lambda: world.right(random, world), set(history))
            pool = {right}
            while len(pool) < world.candidates:
                pool.add(_outside(lambda: world.wrong(random, world), {*history, *pool}))
            yield Example(
                example_id=f"{split}{user}",
                user_id=f"{split}{user}",
                split=split,
                history=[name(item) for item in history],
                candidates=[name(i) for i in world.arrange(random, sorted(pool), right)],
                positives=[name(right)],
            )


def _outside(draw: Callable[[], int], banned: set[int]) -> int:
    while (item := draw()) in banned:
        pass
    return item
