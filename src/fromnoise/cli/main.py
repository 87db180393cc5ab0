"""The command line: which commands there are, and how a command starts and ends."""

import signal
import sys
import warnings
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fromnoise import __version__
from fromnoise.cli.terminal import prepare_streams

PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None}  # of typer's texts
# name → (what the help says, the module with a function of that name, imported when it runs)
COMMANDS = {
    "generate": ("Draw pictures from words.", "fromnoise.cli.generate"),
    "edit": ("Redraw a picture, or what a mask marks of it.", "fromnoise.cli.edit"),
    "grid": ("Draw a prompt over axes of settings, on one sheet.", "fromnoise.cli.grid"),
    "film": ("Draw a film from prompt to prompt, from seed to seed.", "fromnoise.cli.film"),
    "hires": ("Draw in two passes, the second one larger.", "fromnoise.cli.hires"),
    "upscale": ("Enlarge a finished picture.", "fromnoise.cli.upscale"),
    "blend": ("Draw what two pictures share.", "fromnoise.cli.blend"),
    "settings": ("Print the settings that a picture was drawn with.", "fromnoise.cli.settings"),
    "replay": ("Draw a picture again from its own settings, and compare.", "fromnoise.cli.replay"),
    "describe": ("Say in words what CLIP sees in a picture.", "fromnoise.cli.describe"),
    "similarity": ("How alike CLIP finds pictures and words.", "fromnoise.cli.similarity"),
    "samplers": ("List the samplers, with what each costs.", "fromnoise.cli.samplers"),
    "models": ("List the models on this machine.", "fromnoise.cli.models"),
    "inspect": ("Say what a model file is, from its header.", "fromnoise.cli.inspect"),
    "completion": ("Print a script for the Tab key in a shell.", "fromnoise.cli.completion"),
    "train": ("Train a model from nothing, as a recipe says.", "fromnoise.cli.train"),
    "convert": ("Write a model in another layout.", "fromnoise.cli.convert"),
    "export": ("Write a model as ONNX files.", "fromnoise.cli.export"),
    "evaluate": ("Measure a model: does it draw what it is told?", "fromnoise.cli.evaluate"),
    "serve": ("Serve pictures over HTTP, from a queue.", "fromnoise.cli.serve"),
    "studio": ("Open the studio: create pictures in a browser.", "fromnoise.cli.studio"),
    "mentor": ("Ask about diffusion and this program.", "fromnoise.cli.mentor"),
    "learn": ("Read the course, do its exercises, take its quiz.", "fromnoise.cli.learn"),
}


def leave_unchecked(params: list[Any]) -> list[Any]:
    """The parameters, switches and paths taken as they are written: typer would check them by
    pydantic, which takes longer to import than a model's header to read."""
    for param in params:
        # of typer's own: where another version has it otherwise, it checks as it always did
        kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        if kind in (bool, Path):
            take = partial(lambda kind, value, **_: None if value is None else kind(value), kind)
            param._runtime_param = SimpleNamespace(coerce=take)
    return params


class QuickCommand(TyperCommand):
    """A command that starts without pydantic where its values need none."""

    def get_params(self, ctx: Any) -> list[Any]:
        return leave_unchecked(super().get_params(ctx))


class LazyCommand(TyperCommand):
    """Stands for a command in the list of commands; becomes the real one when it is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        app = typer.Typer(**PLAIN)
        name = self.name or ""
        app.command(name, cls=QuickCommand)(getattr(import_module(COMMANDS[name][1]), name))
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)


class Commands(TyperGroup):
    """The commands in the order of COMMANDS."""

    def get_params(self, ctx: Any) -> list[Any]:
        return leave_unchecked(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        text = COMMANDS[cmd_name][0]
        return LazyCommand(cmd_name, callback=lambda: None, help=text, rich_markup_mode=None)


app = typer.Typer(cls=Commands, pretty_exceptions_enable=False, no_args_is_help=True, **PLAIN)


def show_version(wanted: bool) -> None:
    if wanted:
        print(f"fromnoise {__version__}")
        raise typer.Exit


@app.callback(help="Text-to-image latent diffusion: draw, train, measure.")
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """The options of no command."""


def main() -> None:
    """Exit codes: 0 done, 2 a value that cannot be used, 130 Ctrl-C, 143 SIGTERM, 1 any other."""
    before = signal.getsignal(signal.SIGTERM)
    with suppress(ValueError):  # in a thread that is not the first
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half files are removed
    with warnings.catch_warnings():
        prepare_streams()
        code = run_app()
    with suppress(ValueError, TypeError):
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(code)


def run_app() -> int:
    """Runs the command and gives the exit code."""
    try:
        try:
            code = app(prog_name="fromnoise", standalone_mode=False)
        except SystemExit as end:
            code = end.code
        if code == 130:  # of typer, for Ctrl-C
            raise KeyboardInterrupt
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (Exception, KeyboardInterrupt) as error:
        from fromnoise.cli.failure import report_failure

        return report_failure(error)
