"""Which model, and where it runs: settings that the commands read without importing torch."""

from dataclasses import KW_ONLY, dataclass, replace
from typing import Annotated, Any

from trec_cli.core.options import Option
from trec_cli.models.hub import is_away

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model where none is named."""

DEFAULT_EMBEDDER = "sentence-transformers/all-MiniLM-L6-v2"
"""The embedder where none is named."""

LLM = "llm"
"""What ``--embedder`` says for the language model itself."""

PANEL = "Model"
WRITING = "How the model writes"

MaxTokens = Annotated[
    int, Option("Tokens in one forward pass; bounds memory.", panel=PANEL, minimum=1)
]
"""Its default differs from command to command."""

EmbedderName = Annotated[
    str,
    Option(
        "What makes vectors of items: a sentence-embedding model or a language model (a Hugging "
        "Face name or a folder, safetensors only), or llm for that of --model. The blend, "
        "sequence models and trec recommend take several, with commas between.",
        panel=PANEL,
        envvar="TREC_EMBEDDER",
    ),
]


@dataclass(frozen=True)
class ModelSource:
    """Which model, from where, and how it may be loaded.

    Attributes:
        name: a Hugging Face name or a folder.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that comes with the model may run.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
    """

    name: Annotated[
        str,
        Option(
            "Causal LM: a Hugging Face name or a folder (safetensors only).",
            panel=PANEL,
            names=("--model",),
            envvar="TREC_MODEL",
        ),
    ] = DEFAULT_MODEL
    _: KW_ONLY
    revision: Annotated[str | None, Option("Branch, tag or commit of the model.", panel=PANEL)] = (
        None
    )
    trust_remote_code: Annotated[
        bool,
        Option(
            "Run Python code that comes with the model.",
            panel=PANEL,
            names=("--trust-remote-code",),
        ),
    ] = False
    device: Annotated[str, Option("auto, cpu, cuda, cuda:1, mps.", panel=PANEL)] = "auto"
    dtype: Annotated[
        str, Option("auto, float32, bfloat16, float16; int8 (CPU, not train).", panel=PANEL)
    ] = "auto"

    @property
    def unrounded(self) -> "ModelSource":
        """The same in float32 where it is ``int8``: for vectors, which are made only once."""
        return replace(self, dtype="float32") if self.dtype == "int8" else self

    @property
    def hub_arguments(self) -> dict[str, Any]:
        """What every ``from_pretrained`` gets."""
        return {
            "revision": self.revision,
            "trust_remote_code": self.trust_remote_code,
            "local_files_only": is_away(self.name),
        }


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen: greedily, so that the same prompt gives the same text.

    Attributes:
        max_new_tokens: the longest answer, in tokens.
        repetition_penalty: divides the odds of tokens already in the answer (the prompt's
            words may be used freely); 1 is off.
        no_repeat_ngram: no sequence of so many tokens comes twice in an answer; 0 is off.
        one_line: an answer ends with its first line.
    """

    max_new_tokens: int = 64
    repetition_penalty: Annotated[
        float,
        Option("Against tokens already in the summary; 1 is off.", panel=WRITING, minimum=0.01),
    ] = 1.0
    no_repeat_ngram: Annotated[
        int,
        Option(
            "No sequence of so many tokens twice in a summary; 0 is off.",
            panel=WRITING,
            minimum=0,
        ),
    ] = 3
    one_line: bool = False
