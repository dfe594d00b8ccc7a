"""An adapter folded into full weights, which any server can load."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import torch

from trec_cli.core.manifest import Provenance, file_hash, up_to_date
from trec_cli.core.outputs import locked, write_bytes
from trec_cli.models.load import load_adapted, load_config
from trec_cli.models.source import ModelSource
from trec_cli.prompts.recommend import SETTINGS_FILE
from trec_cli.train.work import replace_folder

ORIGIN_FILE = "merged.json"
"""In the merged folder: what it was made from."""


def merged_folder(adapter: Path) -> Path:
    """Name the folder of the merged model: ``model-hier-merged`` beside ``model-hier``."""
    return adapter.with_name(f"{adapter.name}-merged")


def merge_adapter(source: ModelSource, adapter: Path, *, overwrite: bool = False) -> bool:
    """Fold ``adapter`` into the base model and save both with the tokenizer.

    The base model is loaded unquantized on the CPU, whatever it was trained with; the sum
    is made in float32 and saved in the base model's own dtype. ``prompt.json`` is put in
    too: ``trec score --model`` needs the same prompt. ``merged.json`` says from which adapter;
    it also tells two merges apart where all that differs lies in the middle of large weights.

    Returns:
        False where the merged folder was there already, made from this adapter.

    Raises:
        SettingsChanged: it was made from another adapter, and not ``overwrite``.
    """
    out = merged_folder(adapter)
    with locked(out):
        provenance = Provenance("train --merge", {"base_model": source.name}, [adapter])
        if up_to_date(out, provenance.settings, overwrite=overwrite):
            return False
        llm = load_adapted(replace(source, device="cpu", dtype="float32"), adapter)
        fresh = out.with_name(f".{out.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        llm.model.to(load_config(source).dtype or torch.float32).save_pretrained(str(fresh))
        llm.tokenizer.save_pretrained(str(fresh))
        shutil.copyfile(adapter / SETTINGS_FILE, fresh / SETTINGS_FILE)
        origin = {"base_model": source.name, "adapter_sha256": file_hash(adapter)}
        write_bytes(fresh / ORIGIN_FILE, [msgspec.json.encode(origin)])
        with provenance.publish(out):
            replace_folder(fresh, out)
    return True
