"""Whether the model hub can be reached, found out before anything is looked for there.

The libraries ask an absent hub six times with growing pauses, 40 seconds for each file, before
they look among the files that were fetched before.
"""

import socket
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies


def is_away(name: str) -> bool:
    """Check whether a model can only be found among files that are here.

    A folder needs no hub; behind a proxy only the proxy knows the hub's address.
    """
    if Path(name).is_dir() or getproxies().keys() & {"https", "all"}:
        return False
    from huggingface_hub import constants

    return not _resolves(constants.ENDPOINT)


@cache
def _resolves(endpoint: str) -> bool:
    """Check that the network knows the address of a server; asked once a process."""
    try:
        return bool(socket.getaddrinfo(urlsplit(endpoint).hostname, None))
    except OSError:
        return False
