"""Write the sample collection: invented items, and users whose tastes change over time.

    python samples/make_collection.py samples

Two flavours, both from the words in ``words.toml`` and a seed: ``shop/`` (products, JSONL)
and ``news/`` (articles, in the format of the MIND collection).

A user has a lasting interest and a passing one; the passing one moves to a neighbouring
domain now and then.  Steps stay within a subcategory for a while, favour popular items
(Zipf) and sometimes go anywhere.  So the last items, the whole history, popularity and
what others took together all say something about the next item, and none says all.
"""

import argparse
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from trec_cli.core.jsonl import encode_all
from trec_cli.core.outputs import write_bytes
from trec_cli.core.records import UserSequence
from trec_cli.core.seeds import generator

SEED = 1
USERS = 200
SHORTEST, LONGEST = 8, 30
STAY, SAME_GROUP, MOVE_ON, WANDER = 0.75, 0.6, 0.12, 0.1
SHOWN = (6, 16)
START = datetime(2019, 10, 14, 6, tzinfo=UTC).timestamp()
DAY = 86_400.0

Choice = TypeVar("Choice")


class Draws:
    """Draws made of ``Generator.random`` alone, whose stream NumPy keeps between versions."""

    def __init__(self, *keys: str | int) -> None:
        """Take what the stream of draws depends on, beside the seed."""
        self._generator = generator(SEED, *keys)

    def between(self, low: float, high: float) -> float:
        """Draw uniformly from [low, high)."""
        return low + (high - low) * float(self._generator.random())

    def chance(self, probability: float) -> bool:
        """Be true with a probability."""
        return self.between(0, 1) < probability

    def pick(self, options: Sequence[Choice], weights: Sequence[float] | None = None) -> Choice:
        """Pick one option, by weight if given."""
        bounds = list(accumulate(weights or [1.0] * len(options)))
        place = int(np.searchsorted(bounds, self.between(0, bounds[-1]), side="right"))
        return options[min(place, len(options) - 1)]

    def shuffled(self, options: Sequence[Choice]) -> list[Choice]:
        """Return the options in a random order."""
        keys = [self.between(0, 1) for _ in options]
        return [options[place] for place in sorted(range(len(options)), key=keys.__getitem__)]


@dataclass(frozen=True)
class Thing:
    """What an item is about, before it has words: a noun, its group and its domain."""

    domain: str
    group: str
    noun: str


@dataclass(frozen=True)
class Words:
    """The word lists: those for all domains, and each domain's own, in a fixed order."""

    general: dict[str, list[str]]
    domains: dict[str, dict[str, Any]]

    def things(self) -> list[Thing]:
        """List every noun of every group of every domain."""
        return [
            Thing(name, group, noun)
            for name, domain in self.domains.items()
            for group, nouns in domain["groups"].items()
            for noun in nouns
        ]

    def say(self, draws: Draws, kind: str, thing: Thing) -> str:
        """Pick a sentence of a kind and fill its slots."""
        own = self.domains[thing.domain]
        text = draws.pick(self.general[kind]).format(
            noun=thing.noun,
            use=draws.pick(own["uses"]),
            people=draws.pick(own["people"]),
            place=draws.pick(self.general["places"]),
        )
        return text[0].upper() + text[1:]


def read_words() -> Words:
    """Read ``words.toml``, which lies beside this file."""
    content = tomllib.loads(Path(__file__).with_name("words.toml").read_text(encoding="utf-8"))
    general = {name: value for name, value in content.items() if isinstance(value, list)}
    return Words(general, {n: value for n, value in content.items() if isinstance(value, dict)})


class Crowd:
    """Users who walk through the things."""

    def __init__(self, things: Sequence[Thing], flavour: str) -> None:
        """Draw how popular each thing is.

        Args:
            things: the catalogue.
            flavour: keeps the draws of the two flavours apart.
        """
        self._flavour = flavour
        self._things = things
        self._domains = list(dict.fromkeys(thing.domain for thing in things))
        ranking = Draws(flavour, "popularity").shuffled(things)
        self._popularity = {thing: (rank + 2) ** -0.8 for rank, thing in enumerate(ranking)}

    def draws(self, user: int, purpose: str) -> Draws:
        """Return the draws of a user for a purpose."""
        return Draws(self._flavour, purpose, user)

    def popular(self, draws: Draws, pool: Sequence[Thing]) -> Thing:
        """Pick a thing, popular ones more often."""
        return draws.pick(pool, [self._popularity[thing] for thing in pool])

    def walk(self, user: int) -> list[Thing]:
        """Return what a user takes, oldest first, nothing twice."""
        draws = self.draws(user, "walk")
        lasting = draws.pick(self._domains)
        passing = self._neighbour(draws, lasting)
        domain, group = lasting, ""
        taken: list[Thing] = []
        for _ in range(int(draws.between(SHORTEST, LONGEST + 1))):
            if draws.chance(MOVE_ON):
                passing = self._neighbour(draws, passing)
            if not draws.chance(STAY):
                domain = draws.pick([lasting, passing])
            group = group if draws.chance(SAME_GROUP) else ""
            thing = self.popular(draws, self._pool(draws, domain, group, taken))
            group = thing.group if thing.domain == domain else ""
            taken.append(thing)
        return taken

    def _neighbour(self, draws: Draws, domain: str) -> str:
        place = self._domains.index(domain)
        return self._domains[(place + draws.pick([-2, -1, 1, 2])) % len(self._domains)]

    def _pool(self, draws: Draws, domain: str, group: str, taken: Sequence[Thing]) -> list[Thing]:
        """List what may come next: the group, else the domain, now and then anything."""
        fresh = self.others(taken)
        if draws.chance(WANDER):
            return fresh
        near = [thing for thing in fresh if thing.domain == domain]
        return [thing for thing in near if thing.group == group] or near or fresh

    def others(self, taken: Sequence[Thing]) -> list[Thing]:
        """List the things that are not among ``taken``."""
        excluded = set(taken)
        return [thing for thing in self._things if thing not in excluded]


def moments(draws: Draws, count: int) -> list[int]:
    """Draw increasing times in seconds, over about five weeks."""
    first = START + draws.between(0, 14) * DAY
    gaps = [draws.between(0.02, 2 * 21 / count) * DAY for _ in range(count)]
    return [int(first + passed) for passed in accumulate(gaps)]


def name_things(things: Sequence[Thing], flavour: str, letter: str) -> dict[Thing, str]:
    """Assign every thing an id that says nothing: neither domain, popularity nor time."""
    return {t: f"{letter}{n}" for n, t in enumerate(Draws(flavour, "ids").shuffled(things), 1001)}


def shop_item(words: Words, thing: Thing, item_id: str) -> dict[str, Any]:
    """Write a product: some have no brand, some have a line break in the description."""
    draws = Draws("shop", "item", thing.domain, thing.noun)
    own = words.domains[thing.domain]
    brand = None if draws.chance(0.05) else draws.pick(own["brands"])
    title = f"{brand or thing.group} {thing.noun}, {draws.pick(own['details'])}"
    opening, closing = (words.say(draws, kind, thing) for kind in ("openings", "closings"))
    return {
        "item_id": item_id,
        "title": title,
        "category": f"{own['title']} / {thing.group}",
        "brand": brand,
        "description": opening + ("\n" if draws.chance(0.1) else " ") + closing,
    }


def write_shop(words: Words, folder: Path) -> None:
    """Write ``items.jsonl`` and ``sequences.jsonl``."""
    names = name_things(words.things(), "shop", "P")
    crowd = Crowd(words.things(), "shop")
    items = (shop_item(words, thing, item_id) for thing, item_id in names.items())
    write_bytes(folder / "items.jsonl", encode_all(items))
    write_bytes(folder / "sequences.jsonl", encode_all(shop_sequences(crowd, names)))


def shop_sequences(crowd: Crowd, names: dict[Thing, str]) -> Iterator[UserSequence]:
    """Return every user's products with the times of buying."""
    for user in range(USERS):
        taken = [names[thing] for thing in crowd.walk(user)]
        times: list[int | float] = [*moments(crowd.draws(user, "time"), len(taken))]
        yield UserSequence(user_id=f"C{user + 1:03}", items=taken, timestamps=times)


def news_line(words: Words, thing: Thing, news_id: str) -> str:
    """Write an article as a line of ``news.tsv``: eight columns, entities left empty."""
    draws = Draws("news", "item", thing.domain, thing.noun)
    title, lead = (words.say(draws, kind, thing) for kind in ("headlines", "leads"))
    group = "".join(c if c.isalnum() else "-" for c in thing.group.lower()).replace("---", "-")
    return "\t".join([news_id, thing.domain, group, title, lead, "", "[]", "[]"]) + "\n"


def clock(seconds: float) -> str:
    """Write a time as MIND does: ``11/11/2019 9:05:58 AM``."""
    t = datetime.fromtimestamp(seconds, UTC)
    half = "AM" if t.hour < 12 else "PM"
    return f"{t.month}/{t.day}/{t.year} {t.hour % 12 or 12}:{t:%M:%S} {half}"


def impressions(crowd: Crowd, names: dict[Thing, str], user: int) -> Iterator[tuple[int, str]]:
    """Return a user's impressions with their times; as in MIND, all show the same history."""
    taken, draws = crowd.walk(user), crowd.draws(user, "shown")
    asked = draws.pick([1, 2])
    history = " ".join(names[thing] for thing in taken[:-asked])
    times = moments(crowd.draws(user, "time"), len(taken))
    for clicked, seconds in zip(taken[-asked:], times[-asked:], strict=True):
        shown = {clicked: 1}
        for _ in range(int(draws.between(*SHOWN))):
            shown[crowd.popular(draws, crowd.others([*taken, *shown]))] = 0
        row = " ".join(f"{names[thing]}-{shown[thing]}" for thing in draws.shuffled([*shown]))
        yield seconds, f"U{user + 1:03}\t{clock(seconds)}\t{history}\t{row}\n"


def write_news(words: Words, folder: Path) -> None:
    """Write ``news.tsv`` and ``behaviors.tsv``, impressions in the order of time."""
    names = name_things(words.things(), "news", "N")
    crowd = Crowd(words.things(), "news")
    articles = (news_line(words, thing, news_id).encode() for thing, news_id in names.items())
    write_bytes(folder / "news.tsv", articles)
    asked = sorted(row for user in range(USERS) for row in impressions(crowd, names, user))
    lines = (f"{number}\t{line}".encode() for number, (_, line) in enumerate(asked, 1))
    write_bytes(folder / "behaviors.tsv", lines)


def write_collection(folder: Path) -> None:
    """Write both flavours below ``folder``."""
    words = read_words()
    write_shop(words, folder / "shop")
    write_news(words, folder / "news")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    write_collection(parser.parse_args().folder)
