"""The options of a command that draws, derived from its request's schema."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from fromnoise.cli.run import Run
from fromnoise.pipeline.request import GenerationRequest

Command = Callable[..., None]
# how the command line calls a field, where it is not the field's name with hyphens
NAMES = {"negative_prompt": "--negative", "eta_noise_seed_delta": "--ensd", "apg": "--apg"}
NAMES["discard_penultimate"] = "--discard-penultimate/--keep-penultimate"
# fields that MORE has in another form
SPELLED = {"prompt", "width", "height", "masks", "addons"}  # and those in the plural of MORE
MORE = {
    "sampler_option": (list[str] | None, "More of the sampler: order=2, solver=heun."),
    "spacing_option": (list[str] | None, "Of the spacing: rho=5, sigma_min=0.1."),
    "size_condition": (list[str] | None, "What SDXL is told: original_width=512, crop_top=9, …"),
    "lora": (list[str] | None, "NAME:WEIGHT:TEXT WEIGHT@START-END, or a file; repeatable."),
    "mask_file": (list[str] | None, "Where IMASK(left) holds, white in a picture: left=left.png."),
    "embedding": (list[str] | None, "A textual inversion of the prompt: a file, or a name."),
    "ip_adapter": (list[str] | None, "An IP-Adapter: a file or a name, [:weight][@start-end]."),
    "ip_image": (list[str] | None, "A picture that it looks at; several: name=file."),
    "image_encoder": (str | None, "CLIP's image tower for it: a folder, a file or a name."),
    "size": (str | None, "Pixels: 128, or 192x128 (width x height)."),
}
CONTROL = {"": "A ControlNet: NAME:WEIGHT@START-END, or a file.", "_image": "Its picture."}
CONTROL |= {"_mode": "balanced|prompt|control|guess", "_resize": "stretch|crop|fill"}
CONTROL |= {"_kind": "Of a Union: canny, …", "_preprocess": "canny:100:200, depth, invert, …"}
MORE |= {f"control{end}": (list[str] | None, text) for end, text in CONTROL.items()}


def add_options(
    command: Command, schema: type[GenerationRequest] = GenerationRequest, kind: type[Run] = Run
) -> Command:
    """Gives a command, in place of `request` and `run`, options for their fields, less its own."""
    own = inspect.signature(command).parameters.values()
    own = [parameter for parameter in own if parameter.name not in ("request", "run")]
    of_run, one, parameters = inspect.signature(kind).parameters, own[0], [*own]
    for name, field in schema.model_fields.items():
        if name[:-1] not in MORE and name not in (*SPELLED, *(p.name for p in own)):
            type_, choices = field.annotation, None
            if get_origin(type_) is Literal:
                type_, choices = str, "|".join(get_args(type_))
            words = [NAMES[name]] if name in NAMES else []
            option = typer.Option(*words, help=field.description, metavar=choices)
            annotation = Annotated[type_, option]
            parameters.append(one.replace(name=name, default=field.default, annotation=annotation))
    for name, (type_, text) in MORE.items():
        annotation = Annotated[type_, typer.Option(help=text)]
        parameters.append(one.replace(name=name, default=None, annotation=annotation))
    parameters += of_run.values()
    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)

    def run_command(**values: Any) -> None:
        run = kind(**{name: values.pop(name) for name in of_run})
        more = {name: value for name in MORE if (value := values.pop(name))}
        fields = {k: v for k, v in values.items() if v is not None and k in schema.model_fields}
        if more:
            from fromnoise.cli.values import parse_options

            fields |= parse_options(**more)
        request = schema.of(**fields)
        run.check_output(request)
        command(**{p.name: values[p.name] for p in own}, request=request, run=run)

    run_command.__doc__, run_command.__name__ = command.__doc__, command.__name__
    run_command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run_command.__annotations__ = {p.name: p.annotation for p in parameters}
    return run_command
