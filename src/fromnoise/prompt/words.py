"""Words of a prompt, and which of them a model never learnt from."""

import re
from collections.abc import Iterable


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without numbers and punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


def note_unknown_words(known: Iterable[str], texts: Iterable[str]) -> list[str]:
    """A note that names the words of the texts that are not among the known ones, or none."""
    known = set(known)
    words = dict.fromkeys(split_words(" ".join(texts)))
    unknown = [repr(word) for word in words if word not in known]
    if not unknown:
        return []
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return [f"no caption that this model learnt from has {', '.join(unknown[:8])}{more}"]
