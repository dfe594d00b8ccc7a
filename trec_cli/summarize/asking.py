"""Between the modes and the engine: no prompt is answered twice, everything is counted."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trec_cli.progress import Progress, Silent, Task
from trec_cli.summarize.clean import clean, is_echo
from trec_cli.summarize.engine import Engine, Generation
from trec_cli.summarize.prompts import Prompt
from trec_cli.summarize.store import Keys, Store


@dataclass
class Counts:
    """What the calls of a run came to.

    Attributes:
        calls: texts that the engine wrote now.
        hits: texts found in the store.
        shared: requests whose prompt another request of the same round had, too.
        prompt_tokens, new_tokens: read and written by ``calls``.
        engine_seconds: spent in the engine.
        at_limit: of calls and hits, those that the length limit ended.
        empty, echoes: of calls and hits, texts that are empty or a piece of their prompt.
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

    def asdict(self) -> dict[str, float]:
        """Give the counts by name, with the rate."""
        fields = dataclasses.asdict(self)
        fields["engine_seconds"] = round(self.engine_seconds, 3)
        return {**fields, "new_tokens_per_second": self.rate}

    @property
    def rate(self) -> float:
        """New tokens per second of engine time."""
        return round(self.new_tokens / self.engine_seconds, 1) if self.engine_seconds else 0.0


class Asker:
    """Answers rounds of prompts: from the store where it can, by the engine where it must."""

    def __init__(self, engine: Engine, store: Store, progress: Progress | None = None) -> None:
        self._engine, self._store = engine, store
        self._keys = Keys(engine.identity)
        self._progress = progress or Silent()
        self.counts = Counts()

    def ask(self, prompts: Sequence[Prompt], what: str) -> list[str]:
        """Give the cleaned answer to every prompt; equal prompts are asked once.

        Batches are planned from all that was missing when the round was first begun, and
        each is kept as one, so a killed run continues with the same batches.

        Raises:
            ModelError: the engine failed; finished batches are in the store.
        """
        keys = [self._keys.key(prompt.ids) for prompt in prompts]
        unique = dict(zip(keys, prompts, strict=True))
        missing = self._store.begin(list(unique))
        with self._progress.task(what, total=len(unique)) as task:
            task.advance(len(unique) - len(missing))
            made = self._make([(key, unique[key]) for key in missing], task)
        answers = self._store.get(unique)
        self._store.finish(list(unique))
        self.counts.hits += len(unique) - made
        self.counts.shared += len(prompts) - len(unique)
        texts = {key: self._checked(unique[key], answers[key]) for key in unique}
        return [texts[key] for key in keys]

    def _make(self, missing: Sequence[tuple[bytes, Prompt]], task: Task) -> int:
        """Generate batch by batch; give the number of texts made."""
        made = 0
        for batch in self._engine.batches([prompt for _, prompt in missing]):
            rows = [missing[place] for place in batch]
            # Whole batches are skipped after a crash.  Only where another process has
            # written part of one meanwhile is it run in part: work saved counts more there
            # than the last bits of a batch that no undisturbed run would see.
            known = self._store.get(key for key, _ in rows)
            task.advance(len(known))
            rows = [(key, prompt) for key, prompt in rows if key not in known]
            for texts in self._generate(rows):
                self._store.put(texts)
                made += len(texts)
                task.advance(len(texts), f"{self.counts.rate} tokens/s")
        return made

    def _generate(self, rows: Sequence[tuple[bytes, Prompt]]) -> Iterator[dict[bytes, Generation]]:
        """Give what the engine writes as it comes, counted."""
        started = time.perf_counter()
        for texts in self._engine.generate([prompt for _, prompt in rows]) if rows else ():
            self.counts.engine_seconds += time.perf_counter() - started
            self.counts.calls += len(texts)
            self.counts.prompt_tokens += sum(text.prompt_tokens for text in texts.values())
            self.counts.new_tokens += sum(text.new_tokens for text in texts.values())
            yield {rows[place][0]: text for place, text in texts.items()}
            started = time.perf_counter()

    def _checked(self, prompt: Prompt, generation: Generation) -> str:
        text = clean(generation.text)
        self.counts.at_limit += not generation.stopped
        self.counts.empty += not text
        self.counts.echoes += is_echo(text, prompt.message)
        return text
