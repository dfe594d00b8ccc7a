"""An adapter folded into full weights, which any server can load."""

import shutil
from dataclasses import replace
from pathlib import Path

from peft import PeftModel

from trec_cli.llm.load import ModelSource, load_model
from trec_cli.manifest import Provenance, up_to_date
from trec_cli.outputs import locked
from trec_cli.prompts.recommend import SETTINGS_FILE
from trec_cli.training.work import replace_folder


def merged_folder(adapter: Path) -> Path:
    """Name the folder of the merged model: ``model-hier-merged`` beside ``model-hier``."""
    return adapter.with_name(f"{adapter.name}-merged")


def merge_adapter(source: ModelSource, adapter: Path, *, overwrite: bool = False) -> bool:
    """Fold ``adapter`` into the base model and save both with the tokenizer.

    The base model is loaded unquantized, whatever it was trained with. ``prompt.json`` is
    put in too: ``trec score --model`` needs the same prompt.

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
        base = load_model(replace(source, device="cpu"))
        merged = PeftModel.from_pretrained(base.model, str(adapter)).merge_and_unload()
        fresh = out.with_name(f".{out.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        merged.save_pretrained(str(fresh))
        base.tokenizer.save_pretrained(str(fresh))
        shutil.copyfile(adapter / SETTINGS_FILE, fresh / SETTINGS_FILE)
        replace_folder(fresh, out)
        provenance.write(out)
    return True
