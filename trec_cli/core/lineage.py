"""Following manifests back: what an output was made from, and what has changed since.

Four things can be wrong with an output:

* it has *changed* since it was made: its hash is not the one in its manifest;
* an input is *missing*;
* an input is *newer*: it is there with another hash than the one recorded;
* its inputs do not *match*: one of them was itself made from another version of another, or
  an adapter was trained on other weights than those it was scored with.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError
from trec_cli.core.files import check_folder
from trec_cli.core.jsonl import is_stream
from trec_cli.core.manifest import MANIFEST_SUFFIX, file_hash, manifest_path, read_manifest
from trec_cli.core.runs import RunFolder

Kind = Literal["changed", "missing", "newer input", "mixed inputs"]
_SHOWN = 12
_STREAM = "stream"


@dataclass(frozen=True)
class Problem:
    """One thing that does not hold: which kind, what it is in words, and what to do."""

    kind: Kind
    text: str
    fix: str


@dataclass(frozen=True)
class Link:
    """One file of the chain.

    Attributes:
        path: where it is.
        made_by: the command that made it, for example ``score``; None for a raw input, or
            a file of unknown origin.
        notes: what could not be looked into.
        problems: what does not hold; empty where all does.
    """

    path: Path
    made_by: str | None
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    @property
    def state(self) -> str:
        """Describe the state in a few words."""
        if self.problems:
            return ", ".join(dict.fromkeys(problem.kind for problem in self.problems))
        if self.made_by is None:
            return "no manifest"
        return "holds" + (f" ({', '.join(self.notes)})" if self.notes else "")


def other_versions(manifest: Mapping[str, Any], present: Mapping[str, str]) -> list[str]:
    """Name the files that an output was made from in another version than the present one.

    Which files are the same says :func:`_same_files`; what only one side knows says nothing.

    Args:
        manifest: of the output.
        present: hash of every file at hand, by path.

    Returns:
        File names; where several files at hand have the same name, their paths.
    """
    recorded: Mapping[str, str] = manifest.get("inputs", {})
    times = Counter(Path(path).name for path in present)
    changed = [
        Path(here)
        for here, there in _same_files(recorded, present).items()
        if _STREAM not in (present[here], recorded[there]) and present[here] != recorded[there]
    ]
    return [path.name if times[path.name] == 1 else str(path) for path in changed]


def stale(
    output: Path, inputs: Iterable[Path], hashes: Mapping[str, str] | None = None
) -> list[str]:
    """Name those of some files that an output was made from in another version.

    Nothing is said of streams, nor where the output has no manifest.  ``hashes`` are those
    that are known already (:func:`~trec_cli.core.jsonl.hashed_while_read`).
    """
    if is_stream(output) or (manifest := read_manifest(output)) is None:
        return []
    known = hashes or {}
    there = [path for path in inputs if not is_stream(path) and path.exists()]
    present = {str(path): known.get(str(path)) or file_hash(path) for path in there}
    return other_versions(manifest, present)


def _same_files(recorded: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return the recorded path of each present file that is also among the recorded ones.

    Folders may have been moved, so the same file is one of the same name.  Where there are
    several, the longest common end of the paths decides, then equal content; each has one
    partner at most.
    """
    namesakes = [(p, r) for p in present for r in recorded if Path(p).name == Path(r).name]
    namesakes.sort(key=lambda pair: (-_common_end(*pair), present[pair[0]] != recorded[pair[1]]))
    pairs: dict[str, str] = {}
    for here, there in namesakes:
        if here not in pairs and there not in pairs.values():
            pairs[here] = there
    return {here: pairs[here] for here in present if here in pairs}


def _common_end(one: str, other: str) -> int:
    """Count the last parts that two paths have in common."""
    both = zip(reversed(Path(one).parts), reversed(Path(other).parts), strict=False)
    return sum(1 for _ in takewhile(lambda parts: parts[0] == parts[1], both))


def follow(run: Path) -> list[Link]:
    """Follow all manifests in a RUN folder back to the raw inputs.

    Returns:
        Every file of the chain once, inputs before what was made from them.
    """
    walk = _Walk()
    for output in _outputs(run):
        walk.visit(output)
    return list(walk.links.values())


def check(run: Path, links: Sequence[Link]) -> None:
    """Complain of everything that does not hold.

    Raises:
        InputError: with what is wrong and what to do, or because there is nothing to follow.
    """
    check_folder(run, "name the folder that it is in")
    if not any(link.made_by for link in links):
        fix = "name the folder that trec has written into"
        raise InputError.of(run, "holds no manifest to follow", fix)
    faults = [
        Fault(str(link.path), None, problem.text, problem.fix)
        for link in links
        for problem in link.problems
    ]
    if faults:
        raise InputError(faults[:MAX_FAULTS])


def _outputs(run: Path) -> Iterator[Path]:
    """Yield every output that a manifest in RUN speaks of, and scores without a manifest."""
    for path in sorted(run.glob(f"[!.]*{MANIFEST_SUFFIX}")):
        yield path.with_name(path.name.removesuffix(MANIFEST_SUFFIX))
    yield from RunFolder(run).all_scores()


class _Walk:
    """Visits files depth first; each is hashed and looked at once."""

    def __init__(self) -> None:
        self.links: dict[Path, Link] = {}
        self._begun: set[Path] = set()
        self._hashes: dict[Path, str] = {}

    def visit(self, path: Path) -> None:
        """Look at a file, after all that it was made from."""
        key = path.resolve()
        if key in self._begun:
            return
        self._begun.add(key)
        manifest = read_manifest(path)
        if manifest is None:
            self.links[key] = Link(path, None)
            return
        link = Link(path, str(manifest.get("command", "")))
        self._look_at_itself(link, manifest)
        self._look_at_inputs(link, manifest)
        self.links[key] = link

    def _hash(self, path: Path) -> str:
        key = path.resolve()
        if key not in self._hashes:
            self._hashes[key] = file_hash(path)
        return self._hashes[key]

    def _look_at_itself(self, link: Link, manifest: Mapping[str, Any]) -> None:
        recorded = str(manifest.get("sha256"))
        if not link.path.exists():
            link.problems.append(Problem("missing", "is not there any more", _again(manifest)))
        elif self._hash(link.path) != recorded:
            text = f"has changed since it was made ({_versus(recorded, self._hash(link.path))})"
            link.problems.append(Problem("changed", text, f"restore it, or {_again(manifest)}"))

    def _look_at_inputs(self, link: Link, manifest: Mapping[str, Any]) -> None:
        inputs: Mapping[str, str] = manifest.get("inputs", {})
        owners: dict[str, Path] = {}
        for name, recorded in inputs.items():
            if recorded == _STREAM:
                link.notes.append("an input was standard input")
                continue
            found = self._find(name, manifest, link.path)
            if found is None:
                text, fix = f"was made from {name}, which is not there", _where(manifest)
                link.problems.append(Problem("missing", text, fix))
                continue
            if self._hash(found) != recorded:
                versus = _versus(recorded, self._hash(found))
                text = f"was made from another version of {found} ({versus})"
                link.problems.append(Problem("newer input", text, _again(manifest)))
            owners[name] = _owner(found)
            self.visit(owners[name])
        for owner in dict.fromkeys(owners.values()):
            made_by = _made_by(owner)
            rest = {n: inputs[n] for n in inputs if _made_by(owners.get(n)) != made_by}
            link.problems.extend(_mismatches(owner, manifest, rest, link.problems))

    def _find(self, name: str, manifest: Mapping[str, Any], output: Path) -> Path | None:
        """Find an input: as it was named, else (a moved RUN) by its last parts beside the output.

        The one with the recorded hash is taken, if there is one.  A namesake beside the output
        with the hash of another input is that input, and one that the same command made is an
        output like this one: neither is a changed version of this input.
        """
        inputs: Mapping[str, str] = manifest["inputs"]
        parts = Path(name).parts
        named = (Path(name), output.parent / name)
        beside = (output.parent.joinpath(*parts[start:]) for start in range(1, len(parts)))
        there = [path for path in (*named, *beside) if path.exists()]
        same = [path for path in there if self._hash(path) == inputs[name]]
        known, made_by = set(inputs.values()), manifest.get("command")
        changed = [
            path
            for path in there
            if _made_by(_owner(path)) != made_by
            and (path in named or self._hash(path) not in known)
        ]
        return next(iter([*same, *changed]), None)


def _made_by(path: Path | None) -> str | None:
    """Name the command that made a file; None where no manifest says so."""
    manifest = read_manifest(path) if path else None
    return str(manifest.get("command")) if manifest else None


def _owner(path: Path) -> Path:
    """Return the output that a file belongs to: itself, or the adapter folder it lies in."""
    folder = path.parent
    if not manifest_path(path).is_file() and manifest_path(folder).is_file():
        return folder
    return path


def _mismatches(
    source: Path, manifest: Mapping[str, Any], others: Mapping[str, str], known: list[Problem]
) -> Iterator[Problem]:
    """Yield in what an input and the ``others`` of an output do not belong together.

    The others are given without what the source's own command made: a prepared
    ``items.jsonl`` is no input of itself, though the raw file may have the same name.
    """
    own = read_manifest(source)
    if own is None:
        return
    verb = "trained on" if own.get("command") == "train" else "made from"
    texts = [
        f"{source} was {verb} another version of {name} than this"
        for name in other_versions(own, others)
    ]
    if own.get("command") == "train" and manifest.get("command") == "score":
        learnt, used = weights_of(own), weights_of(manifest)
        if "unknown" not in (learnt, used) and learnt != used:
            texts.append(f"{source} was trained on other weights of the base model than this used")
    for text in texts:
        if all(text != problem.text for problem in known):
            fix = f"make it again: {_command(own)}"
            yield Problem("mixed inputs", text, fix)


def weights_of(manifest: Mapping[str, Any]) -> str:
    """Return what pins the weights of the model that a manifest names; else ``unknown``."""
    model = manifest.get("settings", {}).get("model")
    return str(model.get("revision", "unknown")) if isinstance(model, dict) else "unknown"


def _versus(recorded: str, present: str) -> str:
    return f"{recorded[:_SHOWN]} then, {present[:_SHOWN]} now"


def _command(manifest: Mapping[str, Any]) -> str:
    """Write out the command that made an output, as it must be given to make it again."""
    arguments = [str(argument) for argument in manifest.get("arguments", [])]
    if "--overwrite" not in arguments:
        arguments.append("--overwrite")
    return f"trec {shlex.join(arguments)}"


def _again(manifest: Mapping[str, Any]) -> str:
    return f"make it again: {_command(manifest)}"


def _where(manifest: Mapping[str, Any]) -> str:
    command = manifest.get("command", "the command")
    return f"bring it back, or look from the folder in which trec {command} was run"
