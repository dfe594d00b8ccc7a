"""Writing block summaries: ours against what else writes them.

    python -m benchmarks.summaries --data DATA --model MODEL [--vllm PYTHON]

The prompts are the product's own block prompts of real users, greedy, float32 (ours in
int8, too), at most 64 new tokens, no rule on repetition (vLLM's rule counts the prompt's
words too).  Peers: one prompt at a time with ``generate`` of transformers, as research code
does it; ``generate`` on padded batches of 32, sorted by length; vLLM with all requests at
once and prefix caching, in an environment of its own.  The unit is new tokens a second,
reading included.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.common import Peer, compare, in_turns, parser, peer, prepared
from trec_cli.core.blocks import split_blocks
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.models.load import LanguageModel, load_model, model_identity, speed_up
from trec_cli.models.source import Decoding, ModelSource
from trec_cli.summarize.prompts import Prompt
from trec_cli.summarize.settings import SummarizeOptions, SummarySettings
from trec_cli.summarize.setup import LocalEngine, Setup

NEW_TOKENS = 64
BATCH = 32
ONE_BY_ONE = 8
"""The slow peer answers a part of the prompts only, spread over all lengths."""

Texts = list[list[int]]
Way = Callable[[], Texts]


def block_prompts(collection: str, options: Any, wanted: int) -> tuple[list[Prompt], Any]:
    """Build the block prompts of test users; give them and their writer."""
    run = prepared(collection, options.data)
    items = read_items(run / "items.jsonl")
    source = ModelSource(options.model, dtype="float32")
    setup = Setup(
        SummarizeOptions(
            summary=SummarySettings(summary_tokens=NEW_TOKENS),
            decoding=Decoding(no_repeat_ngram=0),
            source=source,
            max_tokens=8192,
        )
    )
    writer = setup.writer(items)
    prompts: list[Prompt] = []
    for example in read_examples(run / "examples.jsonl", items):
        if example.split == "test":
            for start, end in split_blocks(len(example.history), 5):
                prompts.append(writer.block(example.history[start:end]))
    return prompts[:wanted], writer


def ours(engine: LocalEngine, prompts: Sequence[Prompt]) -> Texts:
    """Write as ``trec summarize`` does."""
    texts: dict[int, list[int]] = {}
    for batch in engine.batches(prompts):
        answers = engine.decoder.decode([prompts[place].ids for place in batch])
        texts.update((place, answer.ids) for place, answer in zip(batch, answers, strict=True))
    return [texts[place] for place in range(len(prompts))]


@torch.inference_mode()
def generate(llm: LanguageModel, batch: int, prompts: Sequence[Prompt]) -> Texts:
    """Write with ``generate`` of transformers, in left-padded batches sorted by length."""
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place].ids))
    texts: Texts = [[] for _ in prompts]
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        rows = [prompts[place].ids for place in places]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        out = llm.model.generate(
            ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=llm.tokenizer.pad_token_id or 0,
        )
        for place, row in zip(places, out[:, width:].tolist(), strict=True):
            texts[place] = row
    return [until_stop(text, llm) for text in texts]


def until_stop(text: list[int], llm: LanguageModel) -> list[int]:
    """Cut a text at its stop token."""
    stop = llm.tokenizer.eos_token_id
    return text[: text.index(stop)] if stop in text else text


def vllm(engine: Peer, llm: LanguageModel, prompts: Sequence[Prompt]) -> Texts:
    """Write with vLLM, all requests at once."""
    asked = {"prompts": [list(p.ids) for p in prompts], "new_tokens": NEW_TOKENS}
    return [until_stop(text, llm) for text in engine.ask(asked)["texts"]]


def same(texts: Texts, others: Texts) -> float:
    """Return the share of texts that are the same, token by token."""
    return sum(a == b for a, b in zip(texts, others, strict=True)) / len(texts)


def local(model: str, dtype: str, writer: Any) -> LocalEngine:
    """Load the product's own engine in a precision."""
    llm = load_model(ModelSource(model, dtype=dtype))
    speed_up(llm, head=True)
    return LocalEngine(
        lambda: llm,
        writer.frame,
        Decoding(NEW_TOKENS, 1.0, no_repeat_ngram=0),
        identity=model_identity(ModelSource(model)),
        max_tokens=16384,
    )


def measure(collection: str, options: Any, llm: LanguageModel, engine: Peer | None) -> None:
    """Compare all ways on one collection."""
    prompts, writer = block_prompts(collection, options, options.prompts)
    few = prompts[:: max(1, len(prompts) // ONE_BY_ONE)][:ONE_BY_ONE]
    ways: dict[str, Way] = {
        "ours": functools.partial(ours, local(options.model, "float32", writer), prompts),
        "int8": functools.partial(ours, local(options.model, "int8", writer), prompts),
        "one by one": functools.partial(generate, llm, 1, few),
        "padded batch": functools.partial(generate, llm, BATCH, prompts),
    }
    if engine:
        ways["vLLM"] = functools.partial(vllm, engine, llm, prompts)
    if engine:
        vllm(engine, llm, prompts[:1])  # loads and warms up before anything is timed
    texts: dict[str, Texts] = {}
    timed = {name: functools.partial(_kept, name, way, texts) for name, way in ways.items()}
    seconds = in_turns(timed, options.rounds, warm_up=False)
    lengths = {name: sum(len(text) + 1 for text in made) for name, made in texts.items()}
    rates = {name: [lengths[name] / s for s in took] for name, took in seconds.items()}
    for stem, (side, name, what, target) in COMPARED.items():
        if name not in ways:
            continue
        mine = dict(zip([p.ids for p in prompts], texts[side], strict=True))
        asked = few if name == "one by one" else prompts
        compare(
            f"{stem}_{collection}",
            {**rates, "ours": rates[side]},
            peer=name,
            unit="new tokens/s",
            what=f"block summaries, {collection}: {what}",
            target=target,
            more_is_better=True,
            more={
                "prompts": len(asked),
                "prompt_tokens": round(sum(len(p.ids) for p in asked) / len(asked), 1),
                "new_tokens_a_text": round(lengths[name] / len(asked), 1),
                "same_text_as_ours": round(same(texts[name], [mine[p.ids] for p in asked]), 3),
            },
        )


def _kept(name: str, way: Way, texts: dict[str, Texts], _: int) -> None:
    texts[name] = way()


COMPARED: dict[str, tuple[str, str, str, float | None]] = {
    "summaries_one_by_one": ("ours", "one by one", "generate of transformers, one at a time", 8),
    "summaries_padded": ("ours", "padded batch", "generate of transformers, batches of 32", None),
    "summaries_vllm": ("ours", "vLLM", "vLLM, all requests at once, prefix caching", 1.5),
    "summaries_int8_vllm": ("int8", "vLLM", "ours with --dtype int8; vLLM in float32", 2),
}
"""By name of the result: which of ours, which peer, what the peer is, and the aim."""


def main() -> None:
    """Compare on MIND and on Industrial."""
    options = parser(__doc__ or "")
    options.add_argument("--vllm", help="Python of an environment with vLLM")
    options.add_argument("--prompts", type=int, default=64)
    options.add_argument("--collection", action="append")
    given = options.parse_args()
    llm = load_model(ModelSource(given.model, dtype="float32"))
    collections = given.collection or ["mind", "industrial"]
    if not given.vllm:
        for collection in collections:
            measure(collection, given, llm, None)
        return
    with peer(given.vllm, "vllm_engine.py", given.model) as engine:
        for collection in collections:
            measure(collection, given, llm, engine)


if __name__ == "__main__":
    main()
