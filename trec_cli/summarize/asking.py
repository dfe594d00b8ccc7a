"""Between the modes and the engine: no prompt is answered twice, everything is counted.

A round of prompts goes down a ladder: the engine, then its retries with other decoding for
the texts that were refused, then the deterministic summary.  Every rung has keys of its own
in the store, and what is asked on a rung follows from the texts of the one above it, so a
killed run takes the same way again.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from trec_cli.core.progress import Progress, Silent, Task
from trec_cli.summarize.engine import Engine, Generation, Keys, Store
from trec_cli.summarize.prompts import Answer, Prompt
from trec_cli.summarize.quality import is_copy
from trec_cli.summarize.repair import Checker, Verdict, retried
from trec_cli.summarize.text import clean


@dataclass
class CallCounts:
    """What the calls of a run came to.

    Attributes:
        calls: texts that the engine wrote now.
        hits: texts found in the store.
        shared: requests whose prompt another request of the same round had, too.
        prompt_tokens, new_tokens: read and written by ``calls``.
        engine_seconds: spent in the engine.
        at_limit: of calls and hits, those that the length limit ended.
        empty, echoes: of calls and hits, texts that are empty or a piece of their prompt.
        texts: summaries given to the modes, of blocks, merges and updates.
        flags: how many of ``texts`` have each flag.
    """

    calls: int = 0
    hits: int = 0
    shared: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    engine_seconds: float = 0.0
    at_limit: int = 0
    empty: int = 0
    echoes: int = 0
    texts: int = 0
    flags: Counter[str] = field(default_factory=Counter)

    def asdict(self) -> dict[str, object]:
        """Return the counts by name, with the rate."""
        fields = dataclasses.asdict(self)
        fields["engine_seconds"] = round(self.engine_seconds, 3)
        fields["flags"] = dict(sorted(self.flags.items()))
        return {**fields, "new_tokens_per_second": self.rate}

    @property
    def rate(self) -> float:
        """New tokens per second of engine time."""
        return round(self.new_tokens / self.engine_seconds, 1) if self.engine_seconds else 0.0


class _Rung:
    """An engine and the keys of its texts."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self._keys = engine, Keys(engine.identity)

    def key(self, prompt: Prompt) -> bytes:
        return self._keys.of(self.engine.reads(prompt))


class Asker:
    """Answers rounds of prompts: from the store where it can, by the engine where it must."""

    def __init__(
        self,
        engine: Engine,
        store: Store,
        progress: Progress | None = None,
        *,
        checker: Checker | None = None,
        retries: int = 0,
    ) -> None:
        """Keep who writes, where texts are kept, and who checks them.

        Args:
            checker: judges every text; None keeps all as they are cleaned, without flags.
            retries: how often the engine is asked again for what the checker refuses.
        """
        self._store = store
        self._progress = progress or Silent()
        self._checker = checker
        others = (engine.retry(attempt) for attempt in range(1, retries + 1))
        self._rungs = [_Rung(engine), *(_Rung(other) for other in others if other is not None)]
        self.counts = CallCounts()

    def ask(self, prompts: Sequence[Prompt], what: str) -> list[Answer]:
        """Return the answer to every prompt, checked; equal prompts are asked once.

        Raises:
            ModelError: the engine failed; finished batches are in the store.
        """
        verdicts = self._judge(self._rungs[0], prompts, what)
        for rung in self._rungs[1:]:
            bad = [index for index, verdict in enumerate(verdicts) if verdict.faults]
            if not bad:
                break
            again = self._judge(rung, [prompts[index] for index in bad], f"{what}, again")
            for index, verdict in zip(bad, again, strict=True):
                verdicts[index] = retried(verdict)
        pairs = zip(prompts, verdicts, strict=True)
        answers = [self._settle(prompt, verdict) for prompt, verdict in pairs]
        self.counts.texts += len(answers)
        self.counts.flags.update(flag for answer in answers for flag in answer.flags)
        return answers

    def _judge(self, rung: _Rung, prompts: Sequence[Prompt], what: str) -> list[Verdict]:
        texts = self._round(rung, prompts, what)
        if self._checker is None:
            return [Verdict(Answer(clean(text.text))) for text in texts]
        pairs = zip(prompts, texts, strict=True)
        return [self._checker.check(prompt, text) for prompt, text in pairs]

    def _settle(self, prompt: Prompt, verdict: Verdict) -> Answer:
        """Return the text, or what stands in for one that was refused to the last."""
        if verdict.faults and self._checker is not None:
            return self._checker.replace(prompt, verdict)
        return verdict.answer

    def _round(self, rung: _Rung, prompts: Sequence[Prompt], what: str) -> list[Generation]:
        """Return what the engine of a rung wrote or writes now.

        Batches are planned from all that was missing when the round was first begun, and
        each is kept as one, so a killed run continues with the same batches.
        """
        keys = [rung.key(prompt) for prompt in prompts]
        unique = dict(zip(keys, prompts, strict=True))
        missing = self._store.begin(list(unique))
        with self._progress.task(what, total=len(unique)) as task:
            task.advance(len(unique) - len(missing))
            made = self._make(rung.engine, [(key, unique[key]) for key in missing], task)
        answers = self._store.get(unique)
        self._store.finish(list(unique))
        self.counts.hits += len(unique) - made
        self.counts.shared += len(prompts) - len(unique)
        for key, prompt in unique.items():
            self._count(prompt, answers[key])
        return [answers[key] for key in keys]

    def _make(self, engine: Engine, missing: Sequence[tuple[bytes, Prompt]], task: Task) -> int:
        """Generate batch by batch; give the number of texts made."""
        made = 0
        for batch in engine.batches([prompt for _, prompt in missing]):
            rows = [missing[index] for index in batch]
            # Whole batches are skipped after a crash.  Only where another process has
            # written part of one meanwhile is it run in part: work saved counts more there
            # than the last bits of a batch that no undisturbed run would see.
            known = self._store.get(key for key, _ in rows)
            task.advance(len(known))
            rows = [(key, prompt) for key, prompt in rows if key not in known]
            for texts in self._generate(engine, rows):
                self._store.put(texts)
                made += len(texts)
                task.advance(len(texts), f"{self.counts.rate} tokens/s")
        return made

    def _generate(
        self, engine: Engine, rows: Sequence[tuple[bytes, Prompt]]
    ) -> Iterator[dict[bytes, Generation]]:
        """Return what the engine writes as it comes, counted."""
        started = time.perf_counter()
        for texts in engine.generate([prompt for _, prompt in rows]) if rows else ():
            self.counts.engine_seconds += time.perf_counter() - started
            self.counts.calls += len(texts)
            self.counts.prompt_tokens += sum(text.prompt_tokens for text in texts.values())
            self.counts.new_tokens += sum(text.new_tokens for text in texts.values())
            yield {rows[index][0]: text for index, text in texts.items()}
            started = time.perf_counter()

    def _count(self, prompt: Prompt, generation: Generation) -> None:
        """Count what is doubtful about a text as the model wrote it."""
        text = clean(generation.text)
        self.counts.at_limit += not generation.stopped
        self.counts.empty += not text
        self.counts.echoes += is_copy(text, prompt.message)
