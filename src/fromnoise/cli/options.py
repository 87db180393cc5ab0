"""The options of a command that draws, derived from its request's schema."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_origin

import typer

from fromnoise.cli.run import Run
from fromnoise.pipeline.request import GenerationRequest

Command = Callable[..., None]
# how the command line calls a field, where it is not the field's name with hyphens
NAMES = {
    "negative_prompt": "--negative",
    "eta_noise_seed_delta": "--ensd",
    "apg": "--apg",
    "discard_penultimate": "--discard-penultimate/--keep-penultimate",
}
SPELLED = (
    "prompt",
    "width",
    "height",
    "sampler_options",
    "spacing_options",
    "masks",
)  # in another way:
MORE = {
    "sampler_option": (list[str] | None, "More of the sampler: order=2, solver=heun."),
    "spacing_option": (list[str] | None, "Of the spacing: rho=5, sigma_min=0.1."),
    "mask_file": (
        list[str] | None,
        "Where an IMASK(left) of the prompt holds, white in a picture: left=left.png.",
    ),
    "size": (str | None, "Pixels: 128, or 192x128 (width x height)."),
}


def add_options(
    command: Command, schema: type[GenerationRequest] = GenerationRequest, kind: type[Run] = Run
) -> Command:
    """Gives a command, in place of its `request` and `run`, an option for every field of `schema`,
    of its name, type, default and description, but for those it names itself; and those of
    `kind`."""
    own = [
        p
        for p in inspect.signature(command).parameters.values()
        if p.name not in ("request", "run")
    ]
    shared, first, made = inspect.signature(kind).parameters, own[0], []
    for field, about in schema.model_fields.items():
        if field not in (*SPELLED, *(p.name for p in own)):
            type_ = str if get_origin(about.annotation) is Literal else about.annotation
            shown = typer.Option(*filter(None, [NAMES.get(field)]), help=about.description)
            made.append(
                first.replace(name=field, default=about.default, annotation=Annotated[type_, shown])
            )
    made += [
        first.replace(name=k, default=None, annotation=Annotated[type_, typer.Option(help=h)])
        for k, (type_, h) in MORE.items()
    ]
    made = sorted(
        [*own, *made, *shared.values()], key=lambda p: p.default is not p.empty
    )  # what must be given first

    def called(**values: Any) -> None:
        run = kind(**{name: values.pop(name) for name in shared})
        given = {name: value for name in MORE if (value := values.pop(name))}
        fields = {
            name: value
            for name, value in values.items()
            if name in schema.model_fields and value is not None
        }
        if given:
            from fromnoise.cli.values import parse_options

            fields |= parse_options(**given)
        request = schema.of(**fields)
        run.check_output(request)
        command(**{p.name: values[p.name] for p in own}, request=request, run=run)

    called.__doc__, called.__name__ = command.__doc__, command.__name__
    called.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in made}
    return called
