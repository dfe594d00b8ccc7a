"""Running out of memory, said in a sentence that helps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trec_cli.core.errors import ModelError


@contextmanager
def shortage_explained(what: str, advice: str) -> Iterator[None]:
    """Turn a lack of memory, on any device, into an error that says what to do.

    Args:
        what: was being done, as in ``scoring``.
        advice: a sentence.

    Raises:
        ModelError: there was not enough memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelError(f"not enough memory for {what}. {advice} ({error})") from error
    except RuntimeError as error:
        # The CPU's and Apple's allocators have no class of error of their own.
        if not any(sign in str(error) for sign in ("allocate memory", "out of memory")):
            raise
        raise ModelError(f"not enough memory for {what}. {advice} ({error})") from error
