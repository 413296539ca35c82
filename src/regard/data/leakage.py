"""Is a text of one split also in another? Compared by words alone, so that case, markup and punctuation hide
nothing."""

import hashlib
import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

_WORD = re.compile(r"[^\W_]+")
_ASCII_GAPS = str.maketrans({code: " " for code in range(128) if not chr(code).isalnum()})


def normalised(text: str) -> str:
    """The words of `text`, case-folded, one space between: equal for two copies that differ in anything else."""
    plain = html.unescape(text)
    if plain.isascii():  # the same result as below, in half the time
        return " ".join(plain.lower().translate(_ASCII_GAPS).split())
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", plain).casefold()))


def stable_order(seed: int, name: str) -> bytes:
    """A sort key that shuffles names by seed, the same on every machine and in every version of every library."""
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def contained(snippets: Iterable[str], documents: Iterable[str], *, min_words: int) -> dict[str, int]:
    """Snippets of at least `min_words` words that stand word for word inside a document.

    Returns:
        snippet as given → index of the first document that holds it.
    """
    by_head: dict[tuple[str, ...], list[tuple[str, list[str]]]] = defaultdict(list)
    for snippet in snippets:
        words = normalised(snippet).split()
        if len(words) >= min_words:
            by_head[tuple(words[:min_words])].append((snippet, words))
    found: dict[str, int] = {}
    for index, document in enumerate(documents):
        words = normalised(document).split()
        for start, head in enumerate(zip(*(words[k:] for k in range(min_words)), strict=False)):
            for snippet, wanted in by_head.get(head, ()):
                if words[start : start + len(wanted)] == wanted:
                    found.setdefault(snippet, index)
    return found
