"""List the licences of all installed packages that trec needs; fail where one is not allowed.

    python scripts/licences.py            a line per package: name, version, licence
    python scripts/licences.py --check    print only what is not allowed; exit code 1 if any

Looked at is what ``pip install trec-cli`` brings, with everything that this needs in turn, as
far as it is installed here.  Nothing is asked of the network.  A licence is known by its
SPDX expression, else by the classifiers, else by the words of the field ``License``.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from email.message import Message
from importlib import metadata
from typing import cast

PROJECT = "trec-cli"
ALLOWED = (
    *("apache", "mit", "bsd", "isc", "psf", "python software foundation", "python-2.0"),
    *("mpl", "mozilla public", "zlib", "unlicense", "hpnd", "0bsd", "cc0", "boost", "bsl-1.0"),
    *("llvm-exception", "public domain", "openblas", "universal permissive"),
)
"""Words of licences under which a package may be used and passed on beside Apache-2.0 code."""
FORBIDDEN = ("agpl", "gpl", "sspl", "proprietary", "commercial", "affero", "general public")
_PROPRIETARY_DRIVERS = "nvidia-"
"""CUDA's libraries, which torch brings on GPUs: proprietary, free to pass on."""
_SHOWN = 80


def needed(project: str) -> dict[str, metadata.Distribution]:
    """Return the packages that a project needs, by name, with all that these need."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [project]
    while waiting:
        name = _plain(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform, or an extra
            continue
        waiting += [_named(line) for line in found[name].requires or () if "extra ==" not in line]
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _named(requirement: str) -> str:
    """Return the name at the beginning of a requirement: ``numpy>=1.26; …``."""
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else requirement


def licence(distribution: metadata.Distribution) -> str:
    """Return what a package says of its licence; empty where it says nothing."""
    fields = cast(Message, distribution.metadata)
    if expression := fields.get("License-Expression"):
        return str(expression)
    named = [c.split("::")[-1].strip() for c in fields.get_all("Classifier") or () if _is_one(c)]
    if named:
        return "; ".join(named)
    first = str(fields.get("License") or "").strip().splitlines()
    return first[0].strip() if first else ""


def _is_one(classifier: str) -> bool:
    return classifier.startswith("License ::") and classifier != "License :: OSI Approved"


def objection(name: str, stated: str) -> str:
    """Return why a package may not be used; empty where it may."""
    words = stated.lower()
    if name.startswith(_PROPRIETARY_DRIVERS):
        return ""
    if not words:
        return "names no licence"
    lesser = words.replace("lgpl", "").replace("lesser general public", "")
    if any(word in lesser for word in FORBIDDEN) and " or " not in words:
        return f"has the licence {stated[:_SHOWN]}"
    if "lgpl" in words or "lesser general public" in words:
        return ""  # used as a library of its own, unchanged
    if any(re.search(rf"\b{re.escape(word)}\b", words) for word in ALLOWED):
        return ""
    return f"has the licence {stated[:_SHOWN]}, which nobody has looked at"


def rows(project: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, version, licence and objection of every package, by name."""
    for name, distribution in sorted(needed(project).items()):
        stated = licence(distribution)
        yield name, distribution.version, stated, objection(name, stated)


def main() -> int:
    """Return 1 where a package may not be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="print only what is not allowed")
    only_bad = parser.parse_args().check
    found = list(rows(PROJECT))
    for name, version, stated, _ in found:
        if not only_bad:
            print(f"{name} {version}: {stated[:_SHOWN]}")
    bad = [(name, problem) for name, _, _, problem in found if problem]
    for name, problem in bad:
        print(f"{name} {problem}", file=sys.stderr)
    if not found:
        print(f"{PROJECT} is not installed", file=sys.stderr)
    return int(bool(bad) or not found)


if __name__ == "__main__":
    sys.exit(main())
