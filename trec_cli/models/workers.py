"""The options of ``--engine ray``; imports no Ray."""

from dataclasses import dataclass
from typing import Annotated

from trec_cli.core.options import Option

PANEL = "Cluster (with --engine ray)"


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """How a Ray cluster is used.

    Attributes:
        workers: processes, each with a copy of the model and a shard of the examples.
        ray_address: of a running cluster; None takes the one that Ray finds, or starts one here.
    """

    workers: Annotated[
        int | None,
        Option(
            "Worker processes, each with the model and one shard of the examples.",
            panel=PANEL,
            default_text="one for every GPU, or for every machine without",
            minimum=1,
        ),
    ] = None
    ray_address: Annotated[
        str | None,
        Option(
            "Address of a running cluster.",
            panel=PANEL,
            envvar="RAY_ADDRESS",
            default_text="the one that is running here, or a new one on this machine",
        ),
    ] = None
