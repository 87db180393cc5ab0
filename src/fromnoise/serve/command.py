"""What `fromnoise serve` does."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fromnoise.errors import BadInput, UnknownName
from fromnoise.serve.database.opening import open_database
from fromnoise.serve.running import run
from fromnoise.serve.safety.tokens import SCOPES, Tokens
from fromnoise.serve.settings import Limits, Settings

ACTIONS = ("token add NAME", "token list", "token remove NAME")
PAGE_RATE = 6_000  # requests a minute of one client: a gallery asks for each of its tiles
LEVELS = ("debug", "info", "warning", "error")
EXAMPLE = """\
The server listens on {address} (Ctrl-C ends it). It draws a picture so, and answers with its link:

  curl -s {address}/v1/images/generations -H 'Content-Type: application/json' \
-d '{{"prompt": "a neon cat in space", "response_format": "url"}}'

or in Python (pip install openai):

  from openai import OpenAI
  client = OpenAI(base_url="{address}/v1", api_key="none")
  print(client.images.generate(prompt="a neon cat in space", response_format="url").data[0].url)

Its own API, with jobs, previews and a gallery: docs/server.md, {address}/openapi.json\
"""
WITH_TOKEN = "\nEach request needs a token: -H 'Authorization: Bearer fn_…', or api_key=\"fn_…\""


def make_settings(depth: int, **values: Any) -> Settings:
    """The settings of these options. depth: jobs that may wait."""
    settings = Settings(**values)
    rate = PAGE_RATE if settings.page else Limits.requests_per_minute
    limits = Limits(depth=depth, depth_per_client=max(depth // 4, 1), requests_per_minute=rate)
    return replace(settings, limits=limits)


def serve(
    settings: Settings,
    show: Callable[[str], Any],
    level: str,
    cluster: bool = False,
    replicas: str = "",
) -> None:
    """Serves until a signal. show: prints a text. cluster: on Ray, with so many replicas. Raises
    BadInput and UnknownName."""
    if level not in LEVELS:
        raise UnknownName("level of the log", level, LEVELS)
    from fromnoise.serve.work.drawing import EngineWorker  # which loads torch

    def tell(address: str) -> None:
        show(EXAMPLE.format(address=address) + ("" if settings.is_local else WITH_TOKEN))

    if cluster:
        from fromnoise.serve.cluster import run_cluster

        run_cluster(settings, EngineWorker, tell, level, replicas)
        return
    if replicas:
        raise BadInput("replicas are part of a cluster", "give --cluster too, or leave them out")
    run(settings, EngineWorker(settings), tell, level)


def make_studio_settings(**values: Any) -> Settings:
    """The settings of a studio: one person's page asks often, and its queue is all theirs."""
    limits = Limits(depth_per_client=Limits.depth, requests_per_minute=60_000)
    return replace(Settings(**values, page=True), limits=limits)


def serve_studio(settings: Settings, show: Callable[[str], Any], level: str, browser: bool) -> None:
    """Serves the studio until a signal. show: prints a text. browser: whether to open it. Raises
    BadInput, NotFound and UnknownName."""
    if level not in LEVELS:
        raise UnknownName("level of the log", level, LEVELS)
    from fromnoise.learn.server import FOLDER
    from fromnoise.serve.page import list_files

    list_files(FOLDER)  # before the model loads
    from fromnoise.serve.work.drawing import EngineWorker  # which loads torch

    def tell(address: str) -> None:
        show(f"The studio is at {address} (Ctrl-C ends it).")
        if browser:
            import threading
            import webbrowser

            # it may wait for the browser's end
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    run(settings, EngineWorker(settings), tell, level)


def change_tokens(
    what: list[str],
    folder: Path,
    database: str,
    scopes: list[str] | None,
    per_minute: int | None,
) -> Iterator[str]:
    """Adds, lists or removes tokens; what to print. Raises BadInput, NotFound and UnknownName."""
    settings = Settings(folder.expanduser(), database)
    logging.getLogger("alembic").setLevel("WARNING")
    engine = open_database(settings.url)
    tokens = Tokens(engine)
    try:
        match what:
            case ["token", "add", name]:
                yield tokens.add(name, scopes or ["draw", "gallery"], per_minute)
                yield "keep it: only its hash is stored, so it is never shown again"
            case ["token", "list"]:
                rows = tokens.list()
                for row in rows:
                    rate = f"{row['per_minute']} a minute" if row["per_minute"] else ""
                    yield f"{row['name']}  {row['scopes']}  {rate}".rstrip()
                if not rows:
                    yield f"no tokens: only this machine can be served. Scopes: {', '.join(SCOPES)}"
            case ["token", "remove", name]:
                tokens.remove(name)
                yield f"{name} is removed"
            case _:
                raise BadInput(
                    f"cannot {' '.join(what)[:100]}", f"say one of: {'; '.join(ACTIONS)}"
                )
    finally:
        engine.dispose()
