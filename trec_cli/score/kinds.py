"""Which scorers there are, which options each reads, and how its job is made.

A scorer's modules are imported when it is chosen: names and options alone need no torch.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trec_cli.core.errors import UsageError
from trec_cli.core.options import Declared, check_choice, declared
from trec_cli.core.progress import Progress
from trec_cli.score.options import ScoreOptions

if TYPE_CHECKING:
    from trec_cli.models.vectors import CatalogueVectors
    from trec_cli.score.job import Job

LLM = "llm"
EMBEDDING = "embedding"
BLEND = "blend"
SEQUENCE = "sequence"
LIFT = "lift"
STACK = "stack"
RECBOLE = "recbole:"
"""Stands before the name of a model of RecBole."""
SIGNAL = "signal:"
"""Stands before the name of one signal of the blend."""
COUNTING = ("popularity", "random", "recency", "bm25", "cooccurrence")
"""Those that need no model at all."""

_COMMON = {"mode", "scorer", "name", "top", "asked", "out"}

Make = Callable[[ScoreOptions, frozenset[str], Progress], "Job"]
"""Makes the job of a scorer of the options and the names of those that the user gave."""


@dataclass(frozen=True)
class Kind:
    """A kind of scorer.

    Attributes:
        reads: names of the groups of options, and of single options, that it reads.
        make: reads everything but weights and makes the job.
    """

    reads: frozenset[str]
    make: Make

    def takes(self, option: Declared) -> bool:
        """Check whether an option matters to these scorers."""
        return not {*option.path, option.parameter}.isdisjoint(_COMMON | self.reads)


def _local(options: ScoreOptions, given: frozenset[str], progress: Progress) -> "Job":
    from trec_cli.score.llm import make_llm_job
    from trec_cli.score.prompting import Prompting

    return make_llm_job(Prompting.of(options, given), options.max_tokens, progress)


def _served(options: ScoreOptions, given: frozenset[str], progress: Progress) -> "Job":
    from trec_cli.score.endpoint import make_endpoint_job
    from trec_cli.score.prompting import Prompting

    prompting = Prompting.of(options, given)
    return make_endpoint_job(prompting, options.served, options.max_tokens, progress)


def _embedding(options: ScoreOptions, _given: frozenset[str], progress: Progress) -> "Job":
    from trec_cli.models.embedder import EmbedderSource
    from trec_cli.score.embedding import make_embedding_job

    source = EmbedderSource.only(options.embedding.embedder, options.source)
    store = options.embedding.store_file(options.asked.run)
    return make_embedding_job(
        options.asked,
        source,
        store,
        attributes=options.prompt.attributes,
        max_tokens=options.max_tokens,
        tune=options.tune,
        progress=progress,
    )


def _recbole(options: ScoreOptions, _given: frozenset[str], progress: Progress) -> "Job":
    from trec_cli.score.recbole import make_recbole_job

    return make_recbole_job(
        options.asked, options.scorer, options.recbole, progress, tune=options.tune
    )


def _vectors(options: ScoreOptions) -> "CatalogueVectors":
    from trec_cli.models.embedder import EmbedderSource
    from trec_cli.models.vectors import CatalogueVectors

    return CatalogueVectors(
        EmbedderSource.each(options.embedding.embedder, options.source),
        options.embedding.store_file(options.asked.run),
        options.prompt.attributes,
        options.max_tokens,
    )


def _blend(options: ScoreOptions, given: frozenset[str], progress: Progress) -> "Job":
    """Make the blend; texts are embedded only where an embedder was named."""
    from trec_cli.score.blend import make_blend_job

    vectors = _vectors(options) if "embedder" in given else None
    return make_blend_job(
        options.asked, progress, vectors=vectors, sequence_models=options.sequence_models
    )


def _signal(options: ScoreOptions, _given: frozenset[str], _progress: Progress) -> "Job":
    from trec_cli.score.signal import make_signal_job

    return make_signal_job(options.asked, options.scorer)


def _sequence(options: ScoreOptions, _given: frozenset[str], progress: Progress) -> "Job":
    from trec_cli.score.sequence import make_sequence_job

    return make_sequence_job(options.asked, options.sequence, _vectors(options), progress)


def _lift(options: ScoreOptions, _given: frozenset[str], _progress: Progress) -> "Job":
    from trec_cli.score.derived import make_lift_job

    return make_lift_job(options.asked, options.lift, options.mode)


def _stack(options: ScoreOptions, _given: frozenset[str], _progress: Progress) -> "Job":
    from trec_cli.score.derived import make_stack_job

    return make_stack_job(options.asked, options.stack)


def _counting(options: ScoreOptions, _given: frozenset[str], _progress: Progress) -> "Job":
    from trec_cli.score.baselines import make_baseline_job

    return make_baseline_job(options.asked, options.scorer, tune=options.tune)


_READ = frozenset({"llm", "source", "prompt", "max_tokens", "plan"})
_LOCAL = Kind(_READ | {"store"}, _local)
_RAY = Kind(_READ | {"ray"}, _local)  # its actors may share no disk
_SERVED = Kind(
    frozenset({"llm", "served", "model", "revision", "trust_remote_code", "prompt"}), _served
)
_ENGINES: dict[str, Kind] = {"local": _LOCAL, "openai": _SERVED, "ray": _RAY}
_RECBOLE = Kind(frozenset({"recbole", "tune"}), _recbole)
_SIGNAL = Kind(frozenset(), _signal)
_FAMILIES = {RECBOLE: _RECBOLE, SIGNAL: _SIGNAL}
"""Kinds of which any member can be named, by what stands before its name."""
KINDS: dict[str, Kind] = {
    LLM: _LOCAL,
    EMBEDDING: Kind(
        frozenset({"embedding", "source", "attributes", "max_tokens", "tune"}), _embedding
    ),
    **dict.fromkeys(COUNTING, Kind(frozenset({"tune"}), _counting)),
    BLEND: Kind(
        frozenset({"sequence_models", "embedding", "source", "attributes", "max_tokens"}), _blend
    ),
    SEQUENCE: Kind(
        frozenset({"sequence", "embedding", "source", "attributes", "max_tokens"}), _sequence
    ),
    LIFT: Kind(frozenset({"lift"}), _lift),
    STACK: Kind(frozenset({"stack"}), _stack),
}
"""Every scorer by the name that ``--scorer`` takes, but for those of :data:`_FAMILIES`."""


def check_scorer(name: str) -> None:
    """Refuse a scorer that does not exist.

    Raises:
        UsageError: with the names of those that do.
    """
    if _family(name) is None:
        check_choice("--scorer", name, [*KINDS, f"{RECBOLE}MODEL", f"{SIGNAL}NAME"])


def _family(name: str) -> Kind | None:
    """Return the kind of a scorer that is one of many; None for all others."""
    whole = {begin: kind for begin, kind in _FAMILIES.items() if name != begin}
    return next((kind for begin, kind in whole.items() if name.startswith(begin)), None)


def _kind(name: str) -> Kind:
    """Return the kind of a scorer that exists, on a local engine."""
    return _family(name) or KINDS[name]


def kind_of(options: ScoreOptions) -> Kind:
    """Return the kind of the scorer that was chosen.

    Raises:
        UsageError: there is none of the name.
    """
    check_scorer(options.scorer)
    if options.scorer == LLM:
        return _ENGINES[options.llm.engine]
    return _kind(options.scorer)


def foreign(scorer: str, names: Iterable[str]) -> list[str]:
    """List those of some options, named as in a study, that a scorer reads on no engine."""
    check_scorer(scorer)
    kinds = [*_ENGINES.values()] if scorer == LLM else [_kind(scorer)]
    read = {
        option.parameter: any(kind.takes(option) for kind in kinds)
        for option in declared(ScoreOptions)
    }
    return [name for name in names if not read.get(name.replace("-", "_"), True)]


def refuse_foreign(options: ScoreOptions, typed: frozenset[str]) -> None:
    """Refuse options on the command line that the chosen scorer does not read.

    A config file may hold the options of several scorers.

    Raises:
        UsageError: naming each option and whose it is.
    """
    kind = kind_of(options)
    told = [
        f"{_flag(option, options)} is for {_readers(option, options)}"
        for option in declared(ScoreOptions)
        if option.parameter in typed and not kind.takes(option)
    ]
    if told:
        raise UsageError("; ".join(told))


def _flag(option: Declared, options: ScoreOptions) -> str:
    """Return an option as the user typed it: ``--no-tune`` where that is what was said."""
    yes, _, no = option.flag.partition("/")
    return no if no and not getattr(options, option.name, True) else yes


def _readers(option: Declared, options: ScoreOptions) -> str:
    """Name the scorers, or the engine, that an option is for, and the one that it is not for."""
    if options.scorer == LLM and any(kind.takes(option) for kind in _ENGINES.values()):
        right = next(name for name, kind in _ENGINES.items() if kind.takes(option))
        return f"--engine {right}, not for {options.llm.engine}"
    names = list(dict.fromkeys(_names(option)))
    listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"--scorer {listed}, not for {options.scorer}"


def _names(option: Declared) -> Iterator[str]:
    if _SERVED.takes(option) or _RAY.takes(option):
        yield LLM
    yield from (name for name, kind in KINDS.items() if kind.takes(option))
    if _RECBOLE.takes(option):
        yield f"{RECBOLE}MODEL"
