"""Answers in other words, by any OpenAI-compatible endpoint, held to the places that were found.

Off unless an address is given. The endpoint is shown the question and the numbered places, and must
end every sentence with the number of the place it rests on. A sentence stays only if that place was
shown and holds its facts: every number, every name and most of its words. What stays is at most
three sentences; where none stays, the mentor's own answer is given, and a note says so.
"""

import json
import re
from dataclasses import replace
from typing import Any

from fromnoise.errors import BadInput, escape
from fromnoise.learn.mentor.answer import SENTENCES, Answer, ask, find_exercise, make, split
from fromnoise.learn.mentor.corpus import Span
from fromnoise.learn.mentor.index import load_index
from fromnoise.learn.mentor.words import WEAK, stem, terms_of

SHOWN = 5  # places that the endpoint is shown
LARGEST_REPLY = 1_000_000  # bytes
REMEDY = "give --endpoint http://…/v1 of a running server, or leave it out"
SECONDS = 30
SHARED = 0.6  # share of a sentence's words that its place must hold
TASK = """You answer a learner's question about diffusion models in one to three short sentences of
plain English. Use only the numbered places below. End every sentence with the number of the place
that says it, as [2]. If the places do not answer the question, reply with the single word NONE."""


def ask_endpoint(
    question: str, url: str, model: str, key: str = "", *, explorable: str = ""
) -> tuple[Answer, str]:
    """(the answer, a note or ""). Questions that the mentor corrects, gives hints to or does not
    know are answered by itself: nothing is sent then.

    url: the base address, as "http://localhost:8080/v1". Raises BadInput where it cannot be asked.
    """
    own = ask(question, explorable=explorable)
    if not may_send(question, own):
        return own, ""
    data = send(write_request(question, model), url, key)
    return word(question, own, read_reply(data, url))


def may_send(question: str, own: Answer) -> bool:
    """Whether an endpoint may word the answer."""
    return not (own.abstained or own.premise or find_exercise(question))


def find_places(question: str) -> list[Span]:
    """The places that the endpoint is shown, in the order of their numbers."""
    return [hit.span for hit in load_index().search(question)[:SHOWN]]


def write_request(question: str, model: str) -> dict[str, Any]:
    """What is sent: the body of a chat completion."""
    places = "\n".join(f"[{i}] {span.text}" for i, span in enumerate(find_places(question), 1))
    messages = [
        {"role": "system", "content": TASK},
        {"role": "user", "content": f"{places}\n\nQuestion: {question}"},
    ]
    return {"model": model, "messages": messages, "temperature": 0, "max_tokens": 300}


def send(body: dict[str, Any], url: str, key: str) -> bytes:
    """What the endpoint answers. Raises BadInput, which names the address."""
    import urllib.error
    import urllib.parse
    import urllib.request

    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise BadInput(f"{escape(url)} is no http address", REMEDY)
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    address = url.rstrip("/") + "/chat/completions"
    try:
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.read(LARGEST_REPLY + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise BadInput(f"cannot ask {escape(url)}: {escape(error)}", REMEDY) from error


def read_reply(data: bytes | str, url: str) -> str:
    """The text of a chat completion. Raises BadInput, which names the address."""
    if len(data) > LARGEST_REPLY:
        raise BadInput(f"{escape(url)} answers with more than {LARGEST_REPLY:,} bytes", REMEDY)
    try:
        text = json.loads(data)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BadInput(f"{escape(url)} gives no chat completion", REMEDY) from error
    return text if isinstance(text, str) else ""


def word(question: str, own: Answer, reply: str) -> tuple[Answer, str]:
    """(what is supported of a reply, else the mentor's own answer; a note or "")."""
    chosen = keep_supported(reply, find_places(question))
    if not chosen:
        return own, "no sentence of the endpoint's answer was supported by the places it cites"
    return replace(make(chosen), premise=""), ""


def keep_supported(reply: str, spans: list[Span]) -> list[tuple[Span, str]]:
    """The sentences of a reply that their places support, without their numbers."""
    chosen = []
    # a number that stands behind the full stop belongs to the sentence before it
    reply = re.sub(r"([.!?])\s*((?:\[\d+\]\s*)*\[\d+\])", r" \2\1 ", reply)
    for sentence in split(reply):
        numbers = {int(n) for n in re.findall(r"\[(\d{1,3})\]", sentence)}
        text = re.sub(r"\s*\[\d+\]", "", sentence).strip()
        for number in sorted(numbers):
            if 1 <= number <= len(spans) and supports(spans[number - 1], text):
                chosen.append((spans[number - 1], escape(text, 400)))
                break
    return chosen[:SENTENCES]


def supports(span: Span, sentence: str) -> bool:
    """Whether a place holds the facts of a sentence: all numbers and names, and SHARED of the
    words. A negation must stand in both or in neither."""
    said = f"{span.title} {span.text}"
    numbers = re.findall(r"\d+(?:[.,]\d+)*", sentence)
    if any(number not in re.findall(r"\d+(?:[.,]\d+)*", said) for number in numbers):
        return False
    names = re.findall(r"(?<!^)(?<![.!?] )\b[A-Z]\w*", sentence)
    if any(name.lower() not in said.lower() for name in names):
        return False
    if denies(sentence) and not denies(said):
        return False
    weak = set(map(stem, WEAK))
    words = [term for term in terms_of(sentence) if term not in weak]
    held = set(terms_of(said))
    return bool(words) and sum(word in held for word in words) >= SHARED * len(words)


def denies(text: str) -> bool:
    words = r"\b(no|not|never|none|nothing|neither|cannot|without)\b|n['’]t\b"
    return re.search(words, text.lower()) is not None
