"""Signs of our messages in the few characters of an old terminal."""

import codecs

HANDLER = "fromnoise-plain"
SIGNS = {
    "→": "->",
    "–": "-",
    "−": "-",
    "…": "...",
    "×": "x",
    "σ": "sigma",
    "≤": "<=",
    "≥": ">=",
    "√": "sqrt ",
    "²": "^2",
    "½": "1/2",
    "’": "'",
    "“": '"',
    "”": '"',
}


def replace_signs(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spells the signs that the encoding lacks: "→" as "->", any other as its number, \\u65e5."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    spelled = "".join(
        SIGNS.get(sign, sign.encode("ascii", "backslashreplace").decode()) for sign in text
    )
    return spelled, error.end


codecs.register_error(HANDLER, replace_signs)
