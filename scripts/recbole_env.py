"""Make the environment in which RecBole runs, with versions that were seen to work together.

    python scripts/recbole_env.py .recbole
    export TREC_RECBOLE_PYTHON=$PWD/.recbole/bin/python

Give options of pip behind the folder, for example the index of a build of PyTorch.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

PINS = (
    "recbole==1.2.1",
    "torch==2.13.0",
    "numpy<2",
    "pandas<2.3",
    "scipy<1.14",
    "setuptools<80",
)
"""RecBole 1.2.1 uses names that numpy 2, pandas 3 and scipy 1.14 have taken away."""


def main() -> None:
    """Make the folder and install into it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    options, pip = parser.parse_known_args()
    venv.create(options.folder, with_pip=True)
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = options.folder / scripts / "python"
    subprocess.run([python, "-m", "pip", "install", *pip, *PINS], check=True)
    print(f"set TREC_RECBOLE_PYTHON to {python.absolute()}")


if __name__ == "__main__":
    main()
