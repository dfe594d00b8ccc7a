"""The options of ``trec merge``."""

from dataclasses import dataclass
from pathlib import Path

from trec_cli.cluster.parts import outputs_of
from trec_cli.core.errors import UsageError
from trec_cli.core.files import Out, Run
from trec_cli.core.jsonl import is_stream


@dataclass(frozen=True, kw_only=True)
class MergeOptions:
    """All options of ``trec merge``.

    Attributes:
        run: the folder whose outputs are merged.
        out: one output, wherever it is to be.
    """

    run: Run = None
    out: Out = None

    def outputs(self) -> list[Path]:
        """Return the outputs to merge.

        Raises:
            UsageError: neither RUN nor --out, or a stream.
            InputError: RUN holds no shards.
        """
        if self.out is not None:
            if is_stream(self.out):
                raise UsageError("--out - has no shards; name the file that they are parts of")
            return [self.out]
        if self.run is None:
            raise UsageError("give the RUN folder, or name one output with --out")
        return outputs_of(self.run)
