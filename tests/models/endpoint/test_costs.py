"""What is reserved and spent under a cost limit."""

from hypothesis import given
from hypothesis import strategies as st

from trec_cli.models.endpoint.costs import Budget
from trec_cli.models.endpoint.settings import EndpointSettings


def budget(limit: float | None = None) -> Budget:
    return Budget(EndpointSettings("http://h/v1", "m", price_in=1, price_out=1, max_cost=limit))


def test_nothing_is_reserved_once_nothing_is_in_flight() -> None:
    # 0.1 + 0.2 - 0.1 - 0.2 is 2.8e-17: whoever waits for 0 would wait for ever.
    kept = budget(0.3)
    kept.reserve(0.1)
    kept.reserve(0.2)
    kept.settle(0.1, 0.05)
    kept.settle(0.2, 0.2)
    assert (kept.reserved, kept.spent) == (0, 0.25)
    assert not kept.fits(0.1)


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms())
def test_in_any_order_the_rest_is_nothing(costs: list[float], random: object) -> None:
    kept = budget()
    for cost in costs:
        kept.reserve(cost)
    for cost in sorted(costs, key=lambda _: random.random()):  # type: ignore[attr-defined]
        kept.settle(cost, cost)
    assert kept.reserved == 0
