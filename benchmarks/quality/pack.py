"""Pack models, tokens and data for a machine that reaches nothing: a folder of small files.

    python -m benchmarks.quality.pack DATA models GGUF FOLDER

Models shrink without a loss that matters: the embedding rows of tokens that no text of the
catalogue has stay behind; MiniLM travels as float16; SmolLM2, which came quantised, as the
bytes of its Q4_1 blocks (:mod:`benchmarks.quality.q4`), checked here to give the very
weights of the folder's safetensors.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from transformers import AutoTokenizer

from benchmarks.optional import needed
from benchmarks.quality import published
from benchmarks.quality.q4 import dequantised, llama_name, permuted_back

MAX_TOKENS = {"title": 64, "full": 128}
PARTS = 3
Arrays = dict[str, NDArray[Any]]


def texts(data: published.Published) -> dict[str, list[str]]:
    """Write every item's text, without and with its description."""
    title = [f"{i.get('title') or ''}; {i.get('brand') or ''}" for i in data.items]
    full = [
        " ".join(f"{text}; {item.get('description') or ''}".split())
        for text, item in zip(title, data.items, strict=True)
    ]
    return {"title": title, "full": full}


def tokens(model: Path, every: dict[str, list[str]]) -> tuple[Arrays, NDArray[np.int64]]:
    """Tokenise, and number the tokens that occur anew; returns arrays and the old numbers."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = {
        name: tokenizer(found, truncation=True, max_length=MAX_TOKENS[name]).input_ids
        for name, found in every.items()
    }
    used = np.unique(np.concatenate([np.concatenate(found) for found in rows.values()]))
    arrays: Arrays = {}
    for name, found in rows.items():
        arrays[f"{name}_ids"] = np.searchsorted(used, np.concatenate(found)).astype(np.int32)
        arrays[f"{name}_lengths"] = np.array([len(row) for row in found], np.int32)
    return arrays, used


def keep(path: Path, arrays: Arrays) -> None:
    """Write arrays, compressed."""
    keywords: dict[str, Any] = dict(arrays)
    np.savez_compressed(path, **keywords)


def pack_minilm(model: Path, used: NDArray[np.int64], target: Path) -> None:
    """Save the sentence-embedding model as float16, with the used rows of its embedding."""
    arrays = load_file(model / "model.safetensors")
    word = "embeddings.word_embeddings.weight"
    arrays[word] = arrays[word][used]
    kept = {n: a.astype(np.float16) for n, a in arrays.items() if a.dtype == np.float32}
    save_file(kept, target / "minilm.safetensors")
    shutil.copy(model / "config.json", target / "minilm.json")


def pack_smollm(model: Path, gguf: Path, used: NDArray[np.int64], target: Path) -> None:
    """Save the language model's blocks in parts of about the same size."""
    gguf_reader: Any = needed("gguf", "gguf").GGUFReader
    want = load_file(model / "model.safetensors")
    config = json.loads((model / "config.json").read_text())
    parts: list[Arrays] = [{} for _ in range(PARTS)]
    sizes = [0] * PARTS
    for tensor in gguf_reader(gguf).tensors:
        name = llama_name(tensor.name)
        if name is None:
            continue
        if "embed_tokens" in name:
            packed = {name: want[name][used].astype(np.float16)}
        elif tensor.tensor_type.name == "Q4_1":
            raw = np.ascontiguousarray(tensor.data)
            found = permuted_back(name, dequantised(raw), config)
            if not np.array_equal(found, want[name]):
                raise SystemExit(f"{name}: blocks and safetensors differ")
            packed = {f"{name}.q4": raw}
        else:
            packed = {name: want[name].astype(np.float32 if want[name].ndim == 1 else np.float16)}
        size = sum(array.nbytes for array in packed.values())
        part = int(np.argmin(sizes))
        parts[part].update(packed)
        sizes[part] += size
    for number, arrays in enumerate(parts):
        save_file(arrays, target / f"smollm_{number}.safetensors")
    shutil.copy(model / "config.json", target / "smollm.json")


def main() -> None:
    """Read the paths from the command line and fill the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("data", "models", "gguf", "folder"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("industrial", "industrial_published"):
        (folder / "data").mkdir(exist_ok=True)
        shutil.copytree(
            options.data / part,
            folder / "data" / part,
            dirs_exist_ok=True,
            copy_function=shutil.copyfile,
            ignore=shutil.ignore_patterns("sequences.jsonl"),
        )
    every = texts(published.load(options.data))
    minilm, smollm = options.models / "all-MiniLM-L6-v2", options.models / "SmolLM2-135M-Instruct"
    arrays, used = tokens(minilm, every)
    keep(folder / "minilm_tokens.npz", arrays)
    pack_minilm(minilm, used, folder)
    arrays, used = tokens(smollm, every)
    keep(folder / "smollm_tokens.npz", arrays)
    pack_smollm(smollm, options.gguf, used, folder)


if __name__ == "__main__":
    main()
