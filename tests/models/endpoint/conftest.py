"""A server that fails as it is told to, and no waiting between attempts."""

from collections.abc import Iterator

import anyio
import pytest

from tests.models.endpoint.faulty_server import KEY, FaultyServer
from trec_cli.models.endpoint import server as server_module


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """Give a running server; its key is in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with FaultyServer().running() as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the pauses between attempts, which are skipped."""
    seconds: list[float] = []

    async def skip(delay: float) -> None:
        seconds.append(delay)

    monkeypatch.setattr(anyio, "sleep", skip)
    monkeypatch.setattr(server_module, "_PAUSE", 0.0)
    return seconds
