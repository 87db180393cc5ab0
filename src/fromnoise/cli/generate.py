"""`fromnoise generate`: words → files, with a progress bar and a small live preview."""

import atexit
import gc
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer

from fromnoise.pipeline.request import GenerationRequest

if TYPE_CHECKING:  # torch comes in only when the request is known to be sound
    from fromnoise.latent_diffusion import LatentDiffusion
    from fromnoise.pipeline.generate import Step
    from fromnoise.runtime.prepare import Prepared


Command = Callable[..., None]
# how the command line calls a field, where it is not the field's name with hyphens
NAMES = {"negative_prompt": "--negative", "eta_noise_seed_delta": "--ensd", "apg": "--apg",
         "discard_penultimate": "--discard-penultimate/--keep-penultimate"}  # fmt: skip
SPELLED = ("prompt", "width", "height", "sampler_options", "spacing_options", "masks")  # in another way:
MORE = {"sampler_option": (list[str] | None, "More of the sampler: order=2, solver=heun."),
        "spacing_option": (list[str] | None, "Of the spacing: rho=5, sigma_min=0.1."),
        "mask_file": (list[str] | None, "Where an IMASK(left) of the prompt holds, white in a picture: left=left.png."),
        "size": (str | None, "Pixels: 128, or 192x128 (width x height).")}  # fmt: skip


@dataclass
class Run:
    """The options that every command that draws has beside its request, and what they are for."""

    model: Annotated[str | None, typer.Option(help="A folder or a hub id; the bundled model if left out.")] = None
    guide: Annotated[str | None, typer.Option(help="A weaker model of the same kind to guide by.")] = None
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")] = "cpu"
    dtype: Annotated[str, typer.Option(help="Precision of the network: fp32, bf16 or fp16.")] = "fp32"
    batch: Annotated[int, typer.Option(min=1, help="Pictures at once: faster, last bits may differ; 1: exact.")] = 1
    out: Annotated[Path | None, typer.Option(help="A .png, .jpg or .webp; or a folder (., if left out).")] = None
    format: Annotated[str | None, typer.Option(help="Of files without a name: png (if left out), jpeg or webp.")] = None
    quality: Annotated[str | None, typer.Option(help="Of JPEG and WebP: 1 to 100, or lossless for WebP.")] = None
    json: Annotated[bool, typer.Option("--json", help="Print what was drawn as JSON, for scripts.")] = False

    def __post_init__(self) -> None:
        self.started, self.notes = time.perf_counter(), dict[str, None]()  # each note once
        self.suffix, self.level, self.check = ".png", None, None
        if self.out or self.format or self.quality:
            from fromnoise.pipeline.exif import chosen

            self.suffix, self.level, self.check = chosen(self.out, self.format, self.quality)

    def load(
        self, image_tower: bool = False, encoder: bool = True
    ) -> tuple["LatentDiffusion", "Prepared", "Prepared | None"]:
        """(the model, its network and the guide's as they run)."""
        # torch makes hundreds of thousands of objects that stay. Looking through them for rubbish takes 0.15 s while
        # it is imported and 0.3 s more at the end of the process, when all of them would be taken apart one by one
        gc.disable()
        from fromnoise.checkpoints.hub import load_parts
        from fromnoise.runtime.prepare import prepare_model

        gc.freeze()
        gc.enable()
        atexit.register(gc.freeze)
        parts, weaker = load_parts(self.model, image_tower, encoder), None
        unet = prepare_model(parts, self.device, self.dtype, self.batch)
        if self.guide is not None:
            from fromnoise.runtime.guide import prepare_guide

            weaker = prepare_guide(parts, load_parts(self.guide, False), self.device, self.dtype, self.batch)
        self.facts: dict[str, Any] = {"model": parts.source, "plan": unet.plan}
        self.latent_rgb = parts.defaults.get("latent_rgb")
        return parts, unet, weaker

    @contextmanager
    def watching(self) -> Iterator[Callable[["Step"], None]]:
        """What shows the steps of a run: a progress bar and a preview on a terminal, nothing anywhere else."""
        quiet, shown = self.json or not sys.stderr.isatty(), nullcontext(lambda step: None)
        if not quiet:
            from fromnoise.cli.preview import Preview

            shown = Preview(self.latent_rgb)

        def watch(step: "Step") -> None:
            self.notes.update(dict.fromkeys(step.notes))
            show(step)

        with shown as show:
            yield watch

    def deliver(self, pictures: list[Any], request: GenerationRequest) -> None:
        """Writes the files and says where they are."""
        from fromnoise.pipeline import images

        self.tell([images.save(picture, destination(self.out, request, i, self.suffix), self.level)
                   for i, picture in enumerate(pictures)], request)  # fmt: skip

    def tell(self, paths: list[Path], request: GenerationRequest) -> None:
        """Says where files are."""
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)
        if self.json:
            from fromnoise.cli.report import report

            return print(report(self, paths, request))
        print(*paths, sep="\n")


def options(command: Command, schema: type[GenerationRequest] = GenerationRequest, kind: type[Run] = Run) -> Command:
    """Gives a command, in place of its `request` and `run`, an option for every field of `schema`, of its name, type,
    default and description, but for those it names itself; and those of `kind`."""
    own = [p for p in inspect.signature(command).parameters.values() if p.name not in ("request", "run")]
    shared, first, made = inspect.signature(kind).parameters, own[0], []
    for field, about in schema.model_fields.items():
        if field not in (*SPELLED, *(p.name for p in own)):
            type_ = str if get_origin(about.annotation) is Literal else about.annotation
            shown = typer.Option(*filter(None, [NAMES.get(field)]), help=about.description)
            made.append(first.replace(name=field, default=about.default, annotation=Annotated[type_, shown]))
    made += [first.replace(name=k, default=None, annotation=Annotated[type_, typer.Option(help=h)])
             for k, (type_, h) in MORE.items()]  # fmt: skip
    made = sorted([*own, *made, *shared.values()], key=lambda p: p.default is not p.empty)  # what must be given first

    def called(**values: Any) -> None:
        run = kind(**{name: values.pop(name) for name in shared})
        given = {name: value for name in MORE if (value := values.pop(name))}
        fields = {name: value for name, value in values.items() if name in schema.model_fields and value is not None}
        if given:
            from fromnoise.cli.options import spelled

            fields |= spelled(**given)
        request = schema.of(**fields)
        if run.check:
            run.check(request)
        command(**{p.name: values[p.name] for p in own}, request=request, run=run)

    called.__doc__, called.__name__ = command.__doc__, command.__name__
    called.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in made}
    return called


@options
def generate(
    prompt: Annotated[str | None, typer.Argument(help='What to draw, as in "a neon cat in space".')] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file, a prompt or JSON a line; - for input.")] = None,
    trace: Annotated[Path | None, typer.Option(help="A folder for what happens inside: docs/inside.md.")] = None,
    *,
    request: GenerationRequest,
    run: Run,
) -> None:
    """Draw pictures from words."""
    if prompts is not None or prompt is None:
        from fromnoise.cli.batch import batch

        return batch(prompt, prompts, request, run, trace)
    if trace is not None:
        from fromnoise.cli.trace import traced

        return traced(trace, request, run)
    parts, unet, guide = run.load(encoder=False)
    from fromnoise.pipeline.generate import generate as draw

    request = request.resolved(parts)
    with run.watching() as watch:
        pictures = draw(parts, unet, request, watch=watch, guide=guide)
    run.deliver(pictures, request)


def destination(out: Path | None, request: GenerationRequest, index: int, suffix: str = ".png") -> Path:
    """Where picture `index` goes: `out` itself if it is a file and there is one picture, else a name with the seed."""
    seed = (request.seed or 0) + index
    if out is not None and out.suffix:
        return out if request.count == 1 else out.with_name(f"{out.stem}-{seed}{out.suffix}")
    words = re.sub(r"\W+", "-", request.prompt.lower()).strip("-")[:60] or "picture"
    return (out or Path()) / f"{words}-{seed}{suffix}"
