"""Write big collections in the true formats of MIND and of Amazon's reviews of 2023.

    python -m benchmarks.big_inputs mind FOLDER [--share 1.0] [--seed 0]
    python -m benchmarks.big_inputs amazon FOLDER [--share 1.0] [--seed 0]

``mind`` has the size of MIND-large's part train: 2,200,000 impressions of 700,000 users,
100,000 news; histories (19 clicks in the median) and shown lists (24 articles) are as long as
there.  ``amazon`` has the size of Sports_and_Outdoors: 20,000,000 reviews by 10,300,000 users
(half of whom wrote one) of 1,600,000 items, in no order.  ``--share`` makes everything smaller
alike.  Texts are made of invented words; the same seed gives the same bytes.
"""

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_CHUNK = 100_000
_DAY = 86_400
_START = 1_572_566_400
"""1 November 2019."""
_SYLLABLES = [
    *("ba", "ce", "di", "fo", "gu", "ha", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu"),
    *("wa", "xe", "ly", "zo", "ar", "en", "is", "ol", "um"),
]
_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))


def words(random: np.random.Generator, count: int = 4_000) -> list[str]:
    """Invent words of two to four syllables."""
    lengths = random.integers(2, 5, size=count)
    return ["".join(random.choice(_SYLLABLES, size=length)) for length in lengths]


def sentences(
    random: np.random.Generator, vocabulary: list[str], count: int, mean: float
) -> list[str]:
    """Write texts of about ``mean`` words; frequent words are frequent."""
    lengths = 1 + random.poisson(mean, size=count)
    chosen = (len(vocabulary) * random.random(int(lengths.sum())) ** 2).astype(int).tolist()
    ends = lengths.cumsum().tolist()
    starts = [0, *ends[:-1]]
    return [
        " ".join(vocabulary[index] for index in chosen[start:end]).capitalize()
        for start, end in zip(starts, ends, strict=True)
    ]


def codes(random: np.random.Generator, count: int, length: int, prefix: str) -> list[str]:
    """Draw ``count`` distinct ids of letters and digits; the number itself stands at the end."""
    drawn = _LETTERS[random.integers(len(_LETTERS), size=(count, length))]
    texts = ["".join(row) for row in drawn.tolist()]
    return [f"{prefix}{text}{_base(number, 5)}" for number, text in enumerate(texts)]


def _base(number: int, width: int) -> str:
    """Write a number in base 32."""
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 32)
        digits.append(str(_LETTERS[rest]))
    return "".join(reversed(digits))


def popular(random: np.random.Generator, items: int, size: int) -> Ints:
    """Draw items of which few are popular: the share of the first x is x ** (1 / 3)."""
    return (items * random.random(size) ** 3).astype(np.int64)


# --- MIND -----------------------------------------------------------------------------------


def write_mind(folder: Path, share: float, seed: int) -> None:
    """Write ``MINDlarge_train/news.tsv`` and ``behaviors.tsv``."""
    random = np.random.default_rng(seed)
    part = folder / "MINDlarge_train"
    part.mkdir(parents=True, exist_ok=True)
    news = int(100_000 * share) or 1
    names = [f"N{number}" for number in random.permutation(news).tolist()]
    with (part / "news.tsv").open("w", encoding="utf-8") as stream:
        stream.writelines(_news(random, names))
    with (part / "behaviors.tsv").open("w", encoding="utf-8") as stream:
        stream.writelines(_behaviors(random, names, int(2_200_000 * share), int(700_000 * share)))


def _news(random: np.random.Generator, names: list[str]) -> Iterator[str]:
    """Yield the lines of news.tsv: entities and addresses are there, as in the original."""
    vocabulary = words(random)
    categories = vocabulary[:17]
    titles = sentences(random, vocabulary, len(names), 10)
    abstracts = sentences(random, vocabulary, len(names), 33)
    group = random.integers(17, size=len(names)).tolist()
    sub = random.integers(16, size=len(names)).tolist()
    for number, name in enumerate(names):
        category = categories[group[number]]
        entity = [{"Label": titles[number][:12], "Type": "P", "WikidataId": f"Q{number}"}]
        yield (
            f"{name}\t{category}\t{category}{vocabulary[sub[number]]}\t{titles[number]}\t"
            f"{abstracts[number]}\thttps://assets.msn.com/labs/mind/{name}.html\t"
            f"{json.dumps(entity)}\t[]\n"
        )


def _behaviors(
    random: np.random.Generator, names: list[str], impressions: int, users: int
) -> Iterator[str]:
    """Yield the lines of behaviors.tsv, in no order of users or time."""
    lengths = np.minimum(random.lognormal(np.log(19), 1.0, size=users).astype(np.int64), 800)
    ends = lengths.cumsum()
    clicked = popular(random, len(names), int(ends[-1]))
    who = np.concatenate(
        [random.permutation(users), random.integers(users, size=max(0, impressions - users))]
    )[:impressions]
    random.shuffle(who)
    times = np.sort(_START + random.integers(7 * _DAY, size=impressions))
    random.shuffle(times)
    for start in range(0, impressions, _CHUNK):
        chunk = who[start : start + _CHUNK]
        shown = np.minimum(
            2 + random.lognormal(np.log(22), 0.9, size=len(chunk)).astype(np.int64), 299
        )
        articles = popular(random, len(names), int(shown.sum())).tolist()
        right = (random.random(len(chunk)) * shown).astype(np.int64).tolist()
        at = 0
        for place, user in enumerate(chunk.tolist()):
            size = int(shown[place])
            row = list(dict.fromkeys(articles[at : at + size]))
            at += size
            hit = right[place] % len(row)
            old = clicked[ends[user] - lengths[user] : ends[user]].tolist()
            moment = datetime.fromtimestamp(int(times[start + place]), UTC)
            clock = f"{moment.month}/{moment.day}/{moment.year} "
            clock += f"{moment.hour % 12 or 12}:{moment:%M:%S %p}"
            listed = " ".join(f"{names[i]}-{int(n == hit)}" for n, i in enumerate(row))
            yield (
                f"{start + place + 1}\tU{user}\t{clock}\t"
                f"{' '.join([names[i] for i in old])}\t{listed}\n"
            )


# --- Amazon's reviews of 2023 -----------------------------------------------------------------


def write_amazon(folder: Path, share: float, seed: int) -> None:
    """Write ``Sports_and_Outdoors.jsonl`` and ``meta_Sports_and_Outdoors.jsonl``."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    items = codes(random, int(1_600_000 * share) or 1, 4, "B")
    vocabulary = words(random)
    with (folder / "meta_Sports_and_Outdoors.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(_meta(random, items, vocabulary))
    with (folder / "Sports_and_Outdoors.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(
            _reviews(random, items, vocabulary, int(20_000_000 * share), int(10_300_000 * share))
        )


def _meta(random: np.random.Generator, items: list[str], vocabulary: list[str]) -> Iterator[str]:
    """Yield the lines of the metadata, with every field of the original."""
    pool = 20_000
    titles = sentences(random, vocabulary, pool, 14)
    features = sentences(random, vocabulary, pool, 20)
    paragraphs = sentences(random, vocabulary, pool, 50)
    stores = [word.capitalize() for word in vocabulary[:3_000]]
    for start in range(0, len(items), _CHUNK):
        some = items[start : start + _CHUNK]
        drawn = random.integers(pool, size=(len(some), 6)).tolist()
        prices = random.lognormal(3, 1, size=len(some)).round(2).tolist()
        for item, pick, price in zip(some, drawn, prices, strict=True):
            record: dict[str, Any] = {
                "main_category": "Sports & Outdoors",
                "title": f"{titles[pick[0]]} {item[-3:]}",
                "average_rating": 4.3,
                "rating_number": pick[1],
                "features": [features[pick[1]], features[pick[2]]],
                "description": [paragraphs[pick[3]]] if pick[3] % 2 else [],
                "price": price if pick[4] % 3 else None,
                "images": [{"thumb": f"https://m.media-amazon.com/images/I/{item}.jpg"}],
                "videos": [],
                "store": stores[pick[4] % len(stores)],
                "categories": ["Sports & Outdoors", stores[pick[5] % 40], stores[pick[5] % 900]],
                "details": {"Brand": stores[pick[4] % len(stores)], "Item Weight": "1.1 pounds"},
                "parent_asin": item,
                "bought_together": None,
            }
            yield json.dumps(record) + "\n"


def _counts(random: np.random.Generator, users: int, total: int) -> Ints:
    """Draw how many reviews each user wrote: one at least, many for few, ``total`` in all."""
    more = random.pareto(1.3, size=users)
    counts = 1 + np.minimum(more * (total - users) / more.sum(), 500).astype(np.int64)
    missing = max(0, total - int(counts.sum()))
    chosen = random.integers(users, size=missing)
    return np.asarray(counts + np.bincount(chosen, minlength=users), dtype=np.int64)


def _reviews(
    random: np.random.Generator, items: list[str], vocabulary: list[str], total: int, users: int
) -> Iterator[str]:
    """Yield the lines of reviews, in no order."""
    names = codes(random, users, 22, "AE")
    who = np.repeat(np.arange(users), _counts(random, users, total))[:total]
    random.shuffle(who)
    texts = [
        f'"title": {json.dumps(title)}, "text": {json.dumps(text)}, "images": [], "asin": "'
        for title, text in zip(
            sentences(random, vocabulary, 10_000, 3),
            sentences(random, vocabulary, 10_000, 30),
            strict=True,
        )
    ]
    for start in range(0, total, _CHUNK):
        chunk = who[start : start + _CHUNK].tolist()
        chosen = popular(random, len(items), len(chunk)).tolist()
        times = (1_300_000_000_000 + random.integers(380_000_000_000, size=len(chunk))).tolist()
        rows = random.integers(10_000, size=len(chunk)).tolist()
        stars = np.minimum(5, 1 + random.binomial(5, 0.82, size=len(chunk))).tolist()
        for user, item, time, row, star in zip(chunk, chosen, times, rows, stars, strict=True):
            name = items[item]
            yield (
                f'{{"rating": {star}.0, {texts[row]}{name}", "parent_asin": "{name}", '
                f'"user_id": "{names[user]}", "timestamp": {time}, "helpful_vote": {row % 7}, '
                '"verified_purchase": true}\n'
            )


WRITERS = {"mind": write_mind, "amazon": write_amazon}


def main() -> None:
    """Write what was asked for."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("kind", choices=sorted(WRITERS))
    made.add_argument("folder", type=Path)
    made.add_argument("--share", type=float, default=1.0)
    made.add_argument("--seed", type=int, default=0)
    asked = made.parse_args()
    WRITERS[asked.kind](asked.folder, asked.share, asked.seed)


if __name__ == "__main__":
    main()
