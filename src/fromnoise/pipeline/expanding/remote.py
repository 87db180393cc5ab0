"""A prompt expanded by a language model behind an OpenAI-compatible address (llama.cpp, Ollama,
vLLM), which the operator names at the server's start. No address ever comes from a request."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fromnoise.errors import BadInput, FromnoiseError, escape

SECONDS = 20.0  # for one prompt, all in all
BYTES = 64 << 10  # of an answer
LONGEST = 1_000  # characters of an expanded prompt
SIGNS = re.compile(r"[()\[\]{}\\<>|\x00-\x1f\x7f\ud800-\udfff]+")  # of docs/prompts.md, and none
TASK = """\
You rewrite prompts for a text-to-image model. Keep the subject and all that the prompt says. Add \
style, light, surroundings and details. Answer with the new prompt alone: one line, at most 60 \
words, no quotation marks."""


class ExpanderFailed(FromnoiseError):
    """The language model gave no prompt."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that points elsewhere is an error: only the operator's address is asked."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


@dataclass(frozen=True)
class RemoteExpander:
    """Asks `url`, which ends in /v1 as a rule. model: its name there; "": the first one listed."""

    url: str
    model: str = ""
    key: str = ""
    seconds: float = SECONDS

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("http", "https") and parts.hostname and not parts.query
        except ValueError:
            good = False
        if not good:
            raise BadInput(
                f"cannot expand prompts with {escape(self.url)}",
                "say off, rules, or an address as in http://127.0.0.1:8080/v1",
            )

    def expand(self, prompt: str, words: Collection[str] | None) -> str:
        """The expanded prompt, one line of plain words. words: those that the model for pictures
        knows, where it says so. Raises ExpanderFailed."""
        end = time.monotonic() + self.seconds
        task = TASK if words is None else f"{TASK} Use these words alone: {' '.join(sorted(words))}"
        model = self.model or self._find_model(end)
        messages = [{"role": "system", "content": task}, {"role": "user", "content": prompt}]
        asked = {"model": model, "messages": messages, "max_tokens": 200, "temperature": 0}
        answer = self._ask("chat/completions", asked, end)
        try:
            text = answer["choices"][0]["message"]["content"]
            plain = " ".join(SIGNS.sub(" ", text).split()).strip("\"' ")
        except (KeyError, IndexError, TypeError) as error:
            raise ExpanderFailed("its answer has no text", "") from error
        plain = re.sub(r"\b(AND|BREAK)\b", lambda match: match[0].lower(), plain)[:LONGEST]
        if not plain:
            raise ExpanderFailed("its answer is empty", "")
        return plain

    def _find_model(self, end: float) -> str:
        answer = self._ask("models", None, end)
        try:
            return str(answer["data"][0]["id"])
        except (KeyError, IndexError, TypeError) as error:
            raise ExpanderFailed("it lists no model", "name one with --expand-model") from error

    def _ask(self, path: str, body: Any, end: float) -> Any:
        """The JSON that the address answers before `end`."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self.key}"} if self.key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{path}", data, headers)
        # no proxy of the environment: the prompt goes where the operator said
        opener = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=max(end - time.monotonic(), 0.01)) as response:
                read = bytearray()
                while piece := response.read1(BYTES):
                    read += piece
                    if len(read) > BYTES:
                        raise ExpanderFailed("its answer is too long", "")
                    if time.monotonic() > end:
                        raise TimeoutError
            return json.loads(read)
        except TimeoutError as error:
            text = f"it took longer than {self.seconds:g} seconds"
            raise ExpanderFailed(text, "") from error
        except urllib.error.HTTPError as error:
            raise ExpanderFailed(f"it answered with status {error.code}", "") from error
        except (OSError, ValueError) as error:
            slow = isinstance(getattr(error, "reason", None), TimeoutError)
            text = f"it took longer than {self.seconds:g} seconds" if slow else "it does not answer"
            raise ExpanderFailed(text, "") from error
