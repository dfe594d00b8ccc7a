"""The tokenizer that stands in for a server's own: it counts, and for ids it must be the same."""

import hashlib
from typing import Any

import msgspec

from trec_cli.core.errors import ModelError
from trec_cli.models.load import load_tokenizer
from trec_cli.models.source import ModelSource


def load_near_tokenizer(source: ModelSource) -> Any:
    """Load the tokenizer of a served model.

    Raises:
        ModelError: it is not there; names the option.
    """
    try:
        return load_tokenizer(source)
    except ModelError as error:
        raise ModelError(
            f"{error}\nA server's model needs a tokenizer here to count tokens: name one with "
            "--tokenizer NAME_OR_FOLDER (for the chat endpoint any similar one will do)"
        ) from None


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash vocabulary and chat template, wherever the tokenizer was loaded from."""
    content = [sorted(tokenizer.get_vocab().items()), getattr(tokenizer, "chat_template", None)]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]
