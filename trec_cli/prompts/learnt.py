"""``prompt.json``: the prompt that an adapter or a merged model has learnt from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from trec_cli.core.errors import InputError
from trec_cli.core.json_file import read_json
from trec_cli.core.outputs import write_bytes
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings
from trec_cli.prompts.template import Template

SETTINGS_FILE = "prompt.json"

Less = Literal["own", "base"]


def save_settings(folder: Path, builder: PromptBuilder, less: Less = "own") -> None:
    """Write ``prompt.json`` into an adapter folder: settings, the template's text, attention.

    ``less`` is for texts: whose likelihood without a user is subtracted.
    """
    template = builder.template
    content = {
        **builder.settings.recorded(),
        "template": template.text,
        "template_sha256": template_hash(template),
        **({"attention": dict(builder.attention)} if builder.attention else {}),
        **({"less": less} if less != "own" else {}),
        "thinking": builder.thinking,
    }
    body = msgspec.json.format(msgspec.json.encode(content), indent=2)
    write_bytes(folder / SETTINGS_FILE, [body, b"\n"])


@dataclass(frozen=True)
class LearntPrompt:
    """The prompt that an adapter or a merged model has learnt from.

    Attributes:
        settings: of the prompt.
        template: its text.
        attention: temperature, top_k, budget and embedder of the candidates' evidence; None
            where there was none, or nobody has written it down.
        thinking: what was done so that the model answered without thinking first; None where
            nobody has written it down.
        less: of texts, whose likelihood without a user is subtracted: its own, or the base
            model's, which it has learnt against.
    """

    settings: PromptSettings
    template: Template
    attention: Mapping[str, Any] | None = None
    thinking: str | None = None
    less: Less = "own"


def load_settings(folder: Path) -> LearntPrompt:
    """Read back what :func:`save_settings` wrote.

    Raises:
        InputError: the file is missing or says something else.
    """
    path = folder / SETTINGS_FILE
    try:
        content = read_json(path, dict[str, Any])
        template = Template("recommend", str(content.pop("template")))
        attention = msgspec.convert(content.pop("attention", None), dict[str, Any] | None)
        thinking = msgspec.convert(content.pop("thinking", None), str | None)
        less = msgspec.convert(content.pop("less", "own"), Less)
        settings = msgspec.convert(content, PromptSettings)
        return LearntPrompt(settings, template, attention, thinking, less)
    except FileNotFoundError:
        raise InputError.of(path, "no such file", "train the adapter with trec train") from None
    except (msgspec.DecodeError, KeyError) as error:
        raise InputError.of(path, f"holds no prompt settings: {error}", "train again") from None


def template_hash(template: Template) -> str:
    """SHA-256 of a template's text: part of every setting that decides a prompt."""
    return hashlib.sha256(template.text.encode()).hexdigest()
