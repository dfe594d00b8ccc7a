"""Data sets of the ``datasets`` library, from the Hub or from a folder, as JSONL files.

They are streamed row by row into the temporary folder, so that memory stays small, their
content is hashed like any other input, and every reader of tables can read them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import InputError, UsageError

PREFIX = "hf:"
_SAVED = ("dataset_dict.json", "state.json")
"""Files of a data set written by ``save_to_disk``."""
_NOT_TEXT = ("Image", "Audio", "Video", "Pdf", "Nifti")
_MOST_CONFIGS = 4
_INSTALL = "data sets need the library datasets: pip install datasets"


def is_dataset(path: Path) -> bool:
    """Check for ``hf:NAME``, or a folder that ``save_to_disk`` of ``datasets`` wrote."""
    if str(path).startswith(PREFIX):
        return True
    return path.is_dir() and bool(_saved_in(path))


def _saved_in(folder: Path) -> list[Path]:
    """Return the saved data sets in a folder: itself, or those right below."""
    found = [folder, *sorted(each for each in folder.iterdir() if each.is_dir())]
    saved = [each for each in found if any((each / name).is_file() for name in _SAVED)]
    return saved[:1] if saved[:1] == [folder] else saved


def spool_dataset(path: Path, folder: Path) -> Iterator[tuple[Path, str]]:
    """Write every split of a data set into ``folder``; yield each file with its name for people.

    ``hf:NAME`` takes all configurations of a data set where there are few;
    ``hf:NAME:ONE,OTHER`` names them.

    Raises:
        InputError: it cannot be loaded.
        UsageError: the library is missing, or there are many configurations.
    """
    try:
        import datasets
    except ImportError:
        raise UsageError(_INSTALL) from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        for part, rows in _parts(path):
            file = folder / f"{part.replace('/', '_')}.jsonl"
            with file.open("wb") as stream:
                encoder = msgspec.json.Encoder(enc_hook=str)
                stream.writelines(encoder.encode(row) + b"\n" for row in rows)
            yield file, f"{path} ({part})"
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        problem = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError.of(
            path, f"cannot be loaded: {problem[0]}", "check the name, and the network for a hub"
        ) from None


def _parts(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name and the rows of every split."""
    import datasets

    name, _, configs = str(path).removeprefix(PREFIX).partition(":")
    folder = Path(name)
    if folder.is_dir() and (saved := _saved_in(folder)):
        for each in saved:
            loaded = datasets.load_from_disk(str(each))
            yield from _splits("" if each == folder else each.name, loaded)
        return
    chosen = configs.split(",") if configs else datasets.get_dataset_config_names(name)
    if len(chosen) > _MOST_CONFIGS and not configs:
        raise UsageError(
            f"{path} has {len(chosen)} configurations: {', '.join(chosen[:20])}…; name those of "
            f"the log and the items: {PREFIX}{name}:ONE,OTHER"
        )
    for config in chosen:
        yield from _splits(config, datasets.load_dataset(name, config, streaming=True))


def _splits(config: str, loaded: Any) -> Iterator[tuple[str, Any]]:
    splits: Mapping[str, Any] = loaded if isinstance(loaded, Mapping) else {"": loaded}
    for split, rows in splits.items():
        features = rows.features or {}
        odd = [name for name, kind in features.items() if type(kind).__name__ in _NOT_TEXT]
        name = ".".join(filter(None, (config, str(split)))) or "data"
        yield name, rows.remove_columns(odd) if odd else rows
