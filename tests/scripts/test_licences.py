"""What may be used beside Apache-2.0 code, and what may not."""

from email.message import Message
from typing import Any, cast

import pytest

from scripts.licences import licence, needed, objection


class Package:
    """A distribution of which only the metadata count."""

    def __init__(self, **fields: str) -> None:
        self.metadata = Message()
        for name, value in fields.items():
            for one in value.split("\n") if name == "Classifier" else [value]:
                self.metadata[name.replace("_", "-")] = one


@pytest.mark.parametrize(
    "stated",
    ["MIT", "BSD License", "Apache-2.0 OR GPL-2.0", "MPL-2.0 AND MIT", "ISC License (ISCL)"],
)
def test_free_licences_are_allowed(stated: str) -> None:
    assert objection("some", stated) == ""


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("GNU General Public License v3 (GPLv3)", "has the licence GNU"),
        ("AGPL-3.0-only", "has the licence AGPL"),
        ("", "names no licence"),
        ("Limited to Smithsonian use", "nobody has looked at"),
    ],
)
def test_other_licences_are_named(stated: str, words: str) -> None:
    assert words in objection("some", stated)


def test_a_library_under_the_lesser_licence_may_be_used_unchanged() -> None:
    assert objection("some", "GNU Lesser General Public License v3 (LGPLv3)") == ""


def test_the_expression_counts_before_classifiers_and_these_before_the_field() -> None:
    classifiers = "License :: OSI Approved\nLicense :: OSI Approved :: MIT License"
    every = {"License_Expression": "ISC", "Classifier": classifiers, "License": "Text\nof pages"}
    packages = [Package(**dict(list(every.items())[start:])) for start in range(4)]
    found = [licence(cast(Any, package)) for package in packages]
    assert found == ["ISC", "MIT License", "Text", ""]


def test_what_the_project_needs_is_found_with_what_that_needs_and_nothing_else() -> None:
    found = needed("trec-cli")
    assert {"trec-cli", "torch", "transformers", "tqdm"} <= found.keys()
    assert "pytest" not in found
