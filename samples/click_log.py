"""Write a shop's items.csv and clicks.csv: seeded, of any size, with something to learn in it.

    python samples/click_log.py FOLDER --items 20000 --users 50000 --clicks 1000000

Items belong to a category and a brand, and their titles are made of words of both.  A user has
two or three favourite categories, drifts between them, likes some brands, and follows popular
items more than others; some items go together (a next item is often the partner of the last).
Popularity is skewed as in a real log.  Nothing here is real; the log is for trying trec and for
timing it.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

CATEGORIES = [
    ("kitchen", "pan pot knife kettle bowl whisk grater jar oven tray"),
    ("garden", "spade rake hose pot seed soil glove shear trellis lamp"),
    ("office", "pen paper folder stapler lamp chair desk tape ink label"),
    ("audio", "speaker headphone cable microphone amplifier stand mixer case adapter tuner"),
    ("cycling", "tyre pump helmet chain light lock saddle bottle glove pedal"),
    ("climbing", "rope harness carabiner shoe chalk helmet sling axe glove bag"),
    ("baking", "flour tin mixer scale timer spatula mould paper icing sieve"),
    ("fishing", "rod reel line hook float net bait boot knife box"),
    ("painting", "brush canvas easel palette paper varnish pencil ink frame apron"),
    ("camping", "tent stove lamp mat bag bottle rope knife boot chair"),
]
ADJECTIVES = "small large light steel wooden red blue green black folding quiet warm soft sharp"
_START = 1_700_000_000
_DAY = 86_400
_DAYS = 90
_SESSION = 5
"""Clicks of a visitor of the next day."""


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--clicks", type=int, default=1_000_000)
    parser.add_argument("--more", type=int, default=0, help="further clicks, of the next day")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(options.seed)
    shop = Shop(options.items, draws)
    with (options.folder / "items.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("item_id", "title", "brand", "category"))
        writer.writerows(shop.rows())
    with (options.folder / "clicks.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("user_id", "item_id", "timestamp"))
        weights = draws.gamma(0.8, size=options.users)
        everyone = np.arange(options.users)
        for rows in shop.clicks(everyone, weights, options.clicks, _START, _DAYS):
            writer.writerows(rows)
        if options.more:
            active = max(1, min(options.more // _SESSION, options.users))
            visitors = draws.choice(everyone, active, replace=False, p=weights / weights.sum())
            ones = np.ones(active)
            for rows in shop.clicks(visitors, ones, options.more, _START + _DAYS * _DAY, 1):
                writer.writerows(rows)


class Shop:
    """Items with categories, brands, popularity and partners."""

    def __init__(self, count: int, draws: np.random.Generator) -> None:
        """Draw the catalogue."""
        self.category: Ints = draws.integers(len(CATEGORIES), size=count)
        self.brand: Ints = self.category * 12 + draws.integers(12, size=count)
        popularity = 1 / (10 + draws.permutation(count)) ** 0.8
        self.by_category = [np.flatnonzero(self.category == c) for c in range(len(CATEGORIES))]
        self.cumulative = [np.cumsum(popularity[own]) for own in self.by_category]
        self.partner = self._partners(count, draws)
        self._words = draws.integers(0, 10_000, size=(count, 4))

    def _partners(self, count: int, draws: np.random.Generator) -> Ints:
        """Return a partner of the same category for each item."""
        partner = np.arange(count)
        for own in self.by_category:
            partner[own] = np.roll(own[draws.permutation(len(own))], 1)
        return partner

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield the lines of items.csv."""
        adjectives = ADJECTIVES.split()
        for item, (first, second, noun, number) in enumerate(self._words.tolist()):
            name, nouns = CATEGORIES[int(self.category[item])]
            words = (
                adjectives[first % len(adjectives)],
                adjectives[second % len(adjectives)],
                nouns.split()[noun % 10],
            )
            brand = f"{name.capitalize()}{chr(65 + int(self.brand[item]) % 12)}"
            yield f"p{item}", f"{brand} {' '.join(words)} {number % 90 + 10}", brand, name

    def clicks(
        self, users: Ints, weights: NDArray[np.float64], count: int, start: int, days: int
    ) -> Iterator[list[tuple[str, str, int]]]:
        """Yield the lines of clicks.csv, a user at a time; some click far more than others.

        Every user clicks once, where there are so many clicks; the weights share out the rest.
        """
        draws = np.random.default_rng((len(users), count, start))
        once = (np.arange(len(users)) < count).astype(np.int64)
        more = draws.multinomial(max(0, count - len(users)), weights / weights.sum())
        for user, length in zip(users.tolist(), (once + more).tolist(), strict=True):
            own = np.random.default_rng((user, start))
            times = np.sort(own.integers(0, days * _DAY, size=length)) + start
            names = (f"p{item}" for item in self._walk(own, length))
            yield [(f"u{user}", name, int(time)) for name, time in zip(names, times, strict=True)]

    def _walk(self, draws: np.random.Generator, length: int) -> list[int]:
        """Go through the shop: partners of the last item, else popular items of favourites."""
        favourites = draws.choice(len(CATEGORIES), size=3, replace=False)
        now, items = int(favourites[0]), list[int]()
        moves = draws.random((length, 3))
        for move, switch, pick in moves.tolist():
            if switch < 0.2:
                now = int(favourites[int(switch * 15)])
            if items and move < 0.3:
                items.append(int(self.partner[items[-1]]))
                continue
            own, cumulative = self.by_category[now], self.cumulative[now]
            items.append(int(own[np.searchsorted(cumulative, pick * cumulative[-1])]))
        return items


if __name__ == "__main__":
    main()
