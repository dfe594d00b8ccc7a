"""Text as terms: the one way in which all of trec splits words."""

import re
import unicodedata

# Scripts written without blanks give one term per character, all others one per word.
_TERM = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


def terms(text: str) -> list[str]:
    """Split text into terms: NFKC, case folded, punctuation dropped."""
    return _TERM.findall(unicodedata.normalize("NFKC", text).casefold())
