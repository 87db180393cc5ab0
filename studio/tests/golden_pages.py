"""What the pages are held against: every place that the mentor can cite."""

from typing import Any

from fromnoise.learn.mentor.corpus import load_spans


def compute_citations() -> list[dict[str, Any]]:
    spans = {(span.path, span.line): span.anchor for span in load_spans()}
    return [
        {"path": path, "line": line, "anchor": anchor} for (path, line), anchor in spans.items()
    ]


SUBJECTS = {"citations": compute_citations}
