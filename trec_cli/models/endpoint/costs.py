"""What requests cost, and the limit on it."""

from dataclasses import dataclass

from trec_cli.models.endpoint.settings import EndpointSettings


@dataclass
class CostTally:
    """What a run has asked of a server.

    Attributes:
        requests: sent, with every attempt that trec itself made; the client's own are in
            ``retries``.
        answered: with something usable.
        retries: attempts that the client made after failures.
        prompt_tokens, new_tokens: read and written, as the server counts; where it does
            not, as trec counts and at most.
        cost: of all requests.  One without an answer counts as if it had been answered
            at full length, because a provider may charge for it; one that was refused is
            free.
    """

    requests: int = 0
    answered: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    new_tokens: int = 0
    cost: float = 0.0


class Budget:
    """Keeps what is spent and what requests in flight may cost under a limit.

    Attributes:
        spent: by requests that have ended, in the currency of the prices.
        reserved: what those in flight may cost at most; exactly 0 where there are none.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        """Take prices and limit; nothing is spent yet."""
        self._settings = settings
        self.spent = 0.0
        self.reserved = 0.0
        self._in_flight = 0

    def fits(self, most: float) -> bool:
        """Return whether a request that costs at most ``most`` may be sent."""
        limit = self._settings.max_cost
        return limit is None or self.spent + self.reserved + most <= limit

    def reserve(self, most: float) -> None:
        """Count a request as sent."""
        self.reserved += most
        self._in_flight += 1

    def settle(self, most: float, cost: float) -> None:
        """Replace what was reserved by what it has cost."""
        self._in_flight -= 1
        # The rounding of many additions would leave a rest, for which others wait for ever.
        self.reserved = self.reserved - most if self._in_flight else 0.0
        self.spent += cost
