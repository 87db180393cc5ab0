"""`fromnoise serve`: the image server; `fromnoise serve token …`: who may use it."""

from pathlib import Path
from typing import Annotated

import typer

DATA = "~/.local/share/fromnoise/server"
Texts = list[str] | None


def serve(
    what: Annotated[
        Texts,
        typer.Argument(help="Nothing: serve. token add NAME, token list, token remove NAME."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8188,
    data: Annotated[Path, typer.Option(help="Folder for pictures and the queue.")] = Path(DATA),
    database: Annotated[
        str, typer.Option(envvar="FROMNOISE_DATABASE", help="postgresql://…; else SQLite.")
    ] = "",
    model: Annotated[
        str, typer.Option(help="What draws where a request names none.")
    ] = "fromnoise",
    preload: Annotated[Texts, typer.Option(help="Further model to load at the start.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Precision: fp32, bf16 or fp16.")] = "fp32",
    model_memory: Annotated[float, typer.Option(min=0, help="GB of models kept loaded.")] = 8.0,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Jobs drawn at once.")] = 8,
    depth: Annotated[int, typer.Option(min=1, help="Jobs that may wait; then 429.")] = 200,
    name: Annotated[Texts, typer.Option(help="Host name that requests may use.")] = None,
    origin: Annotated[Texts, typer.Option(help="Web page's origin that may ask.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Serve the studio's page too.")] = False,
    content_filter: Annotated[str, typer.Option(help="module:function; docs/server.md.")] = "",
    expand: Annotated[
        str, typer.Option(help="Prompts of /v1: off, rules, or a language model's http://….")
    ] = "off",
    expand_model: Annotated[str, typer.Option(help="Its name there, else the first one.")] = "",
    expand_key: Annotated[
        str, typer.Option(envvar="FROMNOISE_EXPAND_KEY", help="The key that it wants.")
    ] = "",
    public_url: Annotated[str, typer.Option(help="Its address behind a proxy, for links.")] = "",
    lease: Annotated[
        float, typer.Option(min=1, help="Seconds until a dead server's jobs move.")
    ] = 30,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that jobs get at the end.")] = 30,
    cluster: Annotated[bool, typer.Option(help="Serve on Ray, with PostgreSQL.")] = False,
    replicas: Annotated[str, typer.Option(help="Of a cluster: 2, or 1-8 by need.")] = "",
    log: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    scope: Annotated[Texts, typer.Option(help="Of a token: draw, gallery, admin.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Of a token: requests.")] = None,
) -> None:
    """Serve pictures over HTTP, on this machine alone unless --host says otherwise."""
    try:
        from fromnoise.serve import command
    except ImportError as error:
        from fromnoise.errors import NotFound

        raise NotFound(
            f"the server needs packages that are not installed ({error.name})",
            "install them: pip install 'fromnoise[serve]'",
        ) from error
    if what:
        for line in command.change_tokens(what, data, database, scope, per_minute):
            print(line)
        return
    settings = command.make_settings(
        depth=depth,
        folder=data.expanduser(),
        database=database,
        host=host,
        port=port,
        names=tuple(name or ()),
        origins=tuple(origin or ()),
        model=model,
        preload=tuple(preload or ()),
        device=device,
        dtype=dtype,
        model_bytes=int(model_memory * 1e9),
        slots=slots,
        page=page,
        content_filter=content_filter,
        expand=expand,
        expand_model=expand_model,
        expand_key=expand_key,
        public_url=public_url,
        lease_seconds=lease,
        drain_seconds=drain,
    )
    command.serve(settings, lambda text: print(text, flush=True), log, cluster, replicas)
