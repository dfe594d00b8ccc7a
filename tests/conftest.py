"""Shared fixtures: tiny models, sample data, the real data where it is present."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# On a machine with other work a test is slow by chance, and no test is about time.
settings.register_profile("trec", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trec")

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("TREC_REAL_DATA", ROOT.parent / "shared" / "data"))
REAL_EMBEDDER = ROOT / "models" / "all-MiniLM-L6-v2"
REAL_MODEL = ROOT / "models" / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Give ``tiny_model(family)``: a model folder, built once a session."""
    from samples.tiny_model import write_model

    made: dict[tuple[str, bool], Path] = {}

    def build(family: str = "llama", *, chat: bool = True) -> Path:
        key = (family, chat)
        if key not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{'chat' if chat else 'plain'}")
            made[key] = write_model(folder, family, chat=chat)
        return made[key]

    return build


@pytest.fixture(scope="session")
def tiny_embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a tiny sentence-embedding model."""
    from samples.tiny_model import write_embedder

    return write_embedder(tmp_path_factory.mktemp("embedder"))


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Give ``real_data("mind")``: a folder of real data, or skip with the reason."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"no real data at {folder} (set TREC_REAL_DATA)")
        return folder

    return find


@pytest.fixture
def real_model() -> Path:
    """Give the folder of the real small model, or skip with the reason."""
    if not REAL_MODEL.is_dir():
        pytest.skip(f"no model at {REAL_MODEL} (run `make model`)")
    return REAL_MODEL


@pytest.fixture
def real_embedder() -> Path:
    """Give the folder of the real embedding model, or skip with the reason."""
    if not REAL_EMBEDDER.is_dir():
        pytest.skip(f"no model at {REAL_EMBEDDER} (run `make embedder`)")
    return REAL_EMBEDDER
