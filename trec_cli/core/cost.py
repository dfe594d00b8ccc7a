"""What work with a language model costs on a machine: the one place of the formula.

A token that is read takes two operations for each weight of the linear layers, a token that
is learnt from four with LoRA (the frozen weights need no gradient of their own), six where
activations are computed again (``--gradient-checkpointing``).  A token that is written takes
two as well, but no step is shorter than reading all weights from memory, and the keys and
values of every running text with them.  Attention's own operations are not counted; they
lower the utilisation instead, so measure that with prompts like yours.

    seconds = operations / (peak x utilisation)           reading, learning
    seconds = steps x max(operations, bytes / bandwidth)  writing

(Kaplan et al. 2020, section 2.1, count 2 and 6 operations a weight and token.)
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from trec_cli.core.errors import InputError
from trec_cli.core.options import Option

_SECONDS_AN_HOUR = 3600


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device, as planning sees it.

    Attributes:
        name: for people.
        flops: peak operations a second in the precision that is used (dense).
        utilisation: share of the peak that reading and learning reach.
        bandwidth: bytes a second between memory and processor.
        bandwidth_utilisation: share of it that writing reaches.
        price: of a device for an hour, in any currency; None where nobody has said.
        devices: that hold one copy of the model together.
        weights: of the linear layers of another model than the one named; None for that one.
        cache_bytes: of the keys and values of a token of that other model.
    """

    name: str = "own"
    flops: float
    utilisation: float = 0.4
    bandwidth: float
    bandwidth_utilisation: float = 0.6
    price: float | None = None
    devices: int = 1
    weights: float | None = None
    cache_bytes: float | None = None


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "a100": Profile(name="a100", flops=312e12, bandwidth=2.0e12, price=1.5),
        "h100": Profile(name="h100", flops=989e12, bandwidth=3.35e12, price=3.0),
        "h200": Profile(name="h200", flops=989e12, bandwidth=4.8e12, price=3.5),
        "l4": Profile(name="l4", flops=121e12, bandwidth=0.3e12, price=0.8),
    }
)
"""Peaks in bfloat16 from the makers' data sheets; prices and utilisation are assumptions."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """On what a dry run is planned.

    Attributes:
        profile: name or TOML file of a :class:`Profile`; None plans nothing.
        users: whom the plan is for; None for those at hand.
    """

    profile: Annotated[
        str | None,
        Option(
            "With --dry-run: device hours and money on a100, h100, h200, l4 or a TOML file "
            "(docs/cluster.md).",
            panel="Output and behaviour",
        ),
    ] = None
    users: Annotated[
        int | None,
        Option(
            "With --profile: what so many users like those at hand would cost.",
            panel="Output and behaviour",
            minimum=1,
        ),
    ] = None


@dataclass(frozen=True)
class ModelSize:
    """What of a model decides its cost.

    Attributes:
        weights: in linear layers, without embedding and head.
        head: weights of the LM head, which every written token goes through.
        cache_bytes: of the keys and values of one token.
        weight_bytes: of one weight.
    """

    weights: float
    head: float = 0.0
    cache_bytes: float = 0.0
    weight_bytes: float = 2.0


@dataclass(frozen=True)
class Work:
    """Tokens that go through a model.

    Attributes:
        read: in forward passes.
        learnt: in forward and backward passes.
        recomputed: whether activations are computed again in the backward pass.
        written: one after the other.
        at_once: texts that are written together.
        context: tokens that a running text holds, on average.
    """

    read: float = 0.0
    learnt: float = 0.0
    recomputed: bool = False
    written: float = 0.0
    at_once: float = 1.0
    context: float = 0.0

    def times(self, factor: float) -> "Work":
        """Return the work for so many times the users."""
        return replace(
            self,
            read=self.read * factor,
            learnt=self.learnt * factor,
            written=self.written * factor,
        )


@dataclass(frozen=True)
class Bill:
    """What some work comes to.

    Attributes:
        seconds: of one copy of the model.
        hours: of devices.
        money: in the profile's currency; None without a price.
    """

    seconds: float
    hours: float
    money: float | None

    def __str__(self) -> str:
        """Write hours, and money where there is a price."""
        money = "" if self.money is None else f", {self.money:,.2f} in money"
        return f"{self.hours:,.3g} device hours{money}"


def operations(work: Work, model: ModelSize) -> float:
    """Return the operations of reading and learning."""
    learning = 6 if work.recomputed else 4
    return model.weights * (2 * work.read + learning * work.learnt)


def writing_seconds(work: Work, model: ModelSize, profile: Profile) -> float:
    """Return the seconds of writing: steps, each bound by operations or by memory."""
    if not work.written:
        return 0.0
    weights = model.weights + model.head
    computing = 2 * weights * work.at_once / (profile.flops * profile.utilisation)
    moved = weights * model.weight_bytes + work.at_once * work.context * model.cache_bytes
    moving = moved / (profile.bandwidth * profile.bandwidth_utilisation)
    return work.written / work.at_once * max(computing, moving) / profile.devices


def bill(work: Work, model: ModelSize, profile: Profile) -> Bill:
    """Return what some work with a model costs on a device."""
    speed = profile.flops * profile.utilisation * profile.devices
    seconds = operations(work, model) / speed + writing_seconds(work, model, profile)
    hours = seconds * profile.devices / _SECONDS_AN_HOUR
    return Bill(seconds, hours, None if profile.price is None else hours * profile.price)


def read_profile(name: str) -> Profile:
    """Return a profile by its name, or from a TOML file with the fields of :class:`Profile`.

    Raises:
        InputError: there is neither, or the file says something wrong.
    """
    if name in PROFILES:
        return PROFILES[name]
    path = Path(name)
    if not path.is_file():
        known = ", ".join(PROFILES)
        raise InputError.of(name, "no such profile or file", f"choose {known}, or name a .toml")
    fix = "see docs/cluster.md for the fields"
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return _checked(msgspec.convert({"name": path.stem, **content}, Profile), path)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError.of(path, f"is no profile: {error}", fix) from None
    except OSError as error:
        raise InputError.of(path, f"cannot be read: {error.strerror}") from None


def _checked(profile: Profile, path: Path) -> Profile:
    """Refuse numbers that no machine has.

    Raises:
        InputError: naming the field.
    """
    shares = ("utilisation", "bandwidth_utilisation")
    for name in ("flops", "bandwidth", "devices", *shares):
        value = getattr(profile, name)
        if not 0 < value < float("inf") or (name in shares and value > 1):
            most = " and at most 1" if name in shares else ""
            raise InputError.of(path, f"{name} is {value}", f"give a number above 0{most}")
    for name in ("weights", "cache_bytes"):
        value = getattr(profile, name)
        if value is not None and not 0 < value < float("inf"):
            raise InputError.of(path, f"{name} is {value}", "give a number above 0")
    if profile.price is not None and not 0 <= profile.price < float("inf"):
        raise InputError.of(path, f"price is {profile.price}", "give 0 or more")
    return profile
