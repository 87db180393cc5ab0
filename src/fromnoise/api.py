"""The Python interface: `load(…)` → Engine, which draws."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from fromnoise.checkpoints.hub import load_parts
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline import generate as drawing
from fromnoise.pipeline.images import decode_latents
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.runtime.guide import prepare_guide
from fromnoise.runtime.prepare import prepare_model

if TYPE_CHECKING:
    from fromnoise.data.source import Source
    from fromnoise.pipeline.inside.trace import Trace
    from fromnoise.pipeline.seeing.clip import ClipEmbedder, Description


class Engine:
    """A model that is ready to draw. `model` holds its parts, `unet` the network as it runs,
    `guide` a weaker model's network, which takes the negative prompt's place in guidance;
    `model.refiner` draws the end of each run."""

    def __init__(
        self,
        model: LatentDiffusion,
        device: str = "cpu",
        dtype: str = "fp32",
        guide: LatentDiffusion | None = None,
        batch: int = 1,
        refiner: LatentDiffusion | None = None,
        refiner_switch: float = 0.8,
    ):
        self.model = model
        self.unet = prepare_model(model, device, dtype, batch)
        if refiner is not None:
            from fromnoise.runtime.refiner import prepare_refiner

            more = device, dtype, batch
            second = prepare_refiner(model, refiner, refiner_switch, *more)
            self.model = replace(model, refiner=second)
        self.guide = None if guide is None else prepare_guide(model, guide, device, dtype, batch)

    def generate(
        self,
        prompt: str,
        *,
        latents: Tensor | None = None,
        watch: Callable[[drawing.Step], None] | None = None,
        **settings,
    ) -> Image.Image | list[Image.Image]:
        """Draws: one Pillow picture, or a list of them when count > 1. `settings` are fields of
        GenerationRequest.

        latents: unit noise to start from, (C, h, w) or (count, C, h, w). watch: is called
        with every step.
        Raises BadInput or UnknownName for a setting that cannot be used.
        """
        request = GenerationRequest.of(prompt=prompt, **settings)
        pictures = drawing.generate(self.model, self.unet, request, latents, watch, self.guide)
        return pictures if request.count > 1 else pictures[0]

    def edit(
        self,
        image: Image.Image | str | Path,
        prompt: str,
        mask: Image.Image | str | Path | None = None,
        *,
        watch: Callable[[drawing.Step], None] | None = None,
        **settings,
    ) -> Image.Image | list[Image.Image]:
        """Redraws a picture (a Pillow picture or a file), or what is white in `mask`: one picture,
        or a list of them when count > 1. `settings` are fields of EditRequest: strength, mask_blur,
        content and those of generate.

        Raises BadInput, UnknownName or NotFound, before the first step.
        """
        from fromnoise.pipeline.editing.edit import edit
        from fromnoise.pipeline.editing.request import EditRequest

        request = EditRequest.of(prompt=prompt, **settings)
        drawn = edit(self.model, self.unet, request, image, mask, watch, self.guide)
        return drawn if request.count > 1 else drawn[0]

    def film(
        self,
        prompts: Sequence[str],
        *,
        watch: Callable[[drawing.Step], None] | None = None,
        **settings,
    ) -> list[Image.Image]:
        """The frames of a film from prompt to prompt. `settings` are fields of FilmRequest:
        key_seeds, frames, loop, easing, blend and those of generate. Raises BadInput or UnknownName
        for one that cannot be used."""
        from fromnoise.pipeline.sequences.film import draw_frame
        from fromnoise.pipeline.sequences.request import FilmRequest

        request = FilmRequest.of(prompts=tuple(prompts), **settings).resolve(self.model)
        return [
            draw_frame(self.model, self.unet, request, i, watch, self.guide)
            for i in range(request.frames)
        ]

    def hires(
        self, prompt: str, *, watch: Callable[[drawing.Step], None] | None = None, **settings
    ) -> Image.Image | list[Image.Image]:
        """Draws in two passes, the second one larger: one picture, or a list of them when count >
        1. `settings` are fields of HiresRequest: hires_scale, hires_upscaler (a name, or an ESRGAN
        file), hires_strength, … and those of generate. Raises BadInput, UnknownName, NotFound or
        BadCheckpoint, before the first step."""
        from fromnoise.checkpoints.formats.upscaler import load as load_upscaler
        from fromnoise.pipeline.enlarging.hires import hires
        from fromnoise.pipeline.enlarging.request import HiresRequest
        from fromnoise.pipeline.enlarging.upscale import find_upscaler

        request = HiresRequest.of(prompt=prompt, **settings)
        file = request.hires_upscaler
        network = None if file is None or find_upscaler(file) else load_upscaler(file)
        drawn = hires(self.model, self.unet, request, network, watch, self.guide)
        return drawn if request.count > 1 else drawn[0]

    def trace(
        self, prompt: str, *, watch: Callable[[drawing.Step], None] | None = None, **settings
    ) -> "tuple[Image.Image | list[Image.Image], Trace]":
        """(the pictures of `generate`, to the bit; a record of all that the network answered).
        Raises as `generate`."""
        from fromnoise.pipeline.inside.trace import Trace

        request = GenerationRequest.of(prompt=prompt, **settings).resolve(self.model)
        trace = Trace(self.model, request)

        def both(step: drawing.Step) -> None:
            trace.watch(step)
            if watch is not None:
                watch(step)

        pictures = drawing.generate(
            self.model, self.unet, request, None, both, self.guide, trace.observe
        )
        return (pictures if request.count > 1 else pictures[0]), trace

    def steps(
        self, prompt: str, *, latents: Tensor | None = None, **settings
    ) -> Iterator[drawing.Step]:
        """The same run, step by step: `for step in engine.steps("a cat"):
        engine.pictures(step.x0)`."""
        request = GenerationRequest.of(prompt=prompt, **settings)
        return drawing.run_steps(self.model, self.unet, request, latents, self.guide)

    def blend(
        self,
        first: Image.Image | str | Path,
        second: Image.Image | str | Path,
        prompt: str = "",
        phrases: "str | Source | Sequence[str]" = "stickers",
        *,
        watch: Callable[[drawing.Step], None] | None = None,
        **settings,
    ) -> Image.Image | list[Image.Image]:
        """Draws what two pictures share: one picture, or a list of them when count > 1. Without a
        prompt both are described first, in the words of `phrases`. `settings` are fields of
        BlendRequest: weight, strength, clip_scale and those of generate.

        Raises BadInput, UnknownName or NotFound, before the first step.
        """
        from fromnoise.data.sources import open_source
        from fromnoise.pipeline.seeing.blend import BlendRequest, blend

        request = BlendRequest.of(prompt=prompt, **settings)
        words = open_source(phrases) if isinstance(phrases, str) else phrases
        drawn = blend(self.model, self.unet, request, first, second, words, watch, self.guide)
        return drawn if request.count > 1 else drawn[0]

    def describe(
        self,
        image: Image.Image | str | Path,
        phrases: "str | Source | Sequence[str]" = "stickers",
        top: int = 5,
    ) -> "list[Description]":
        """The captions that fit a picture best, as the model's CLIP sees it. phrases: a data
        source, its name, or a list of phrases. Raises NotFound, UnknownName, and BadInput for a
        model without CLIP's image tower."""
        from fromnoise.data.sources import open_source
        from fromnoise.pipeline.pictures import read_rgb

        source = open_source(phrases) if isinstance(phrases, str) else phrases
        return self.seeing.describe(read_rgb(image), source, top)

    def similarity(self, a: Image.Image | Path | str, b: Image.Image | Path | str) -> float:
        """The cosine of two embeddings in CLIP's space; a string is words, a Path or a Pillow
        picture is a picture. Raises as `describe`."""
        return float(self.seeing.cosines([a], [b]))

    @cached_property
    def seeing(self) -> "ClipEmbedder":
        """The model's CLIP. Raises BadInput for a model without its image tower."""
        from fromnoise.pipeline.seeing.clip import ClipEmbedder

        return ClipEmbedder(self.model)

    def pictures(self, latents: Tensor, tiling: str = "none") -> list[Image.Image]:
        """Latents (B, C, h, w) → pictures; tiling: as they were drawn."""
        return decode_latents(self.model.vae, latents, tiling)


def load(
    name: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "fp32",
    guide: str | Path | None = None,
    batch: int = 1,
    refiner: str | Path | None = None,
    refiner_switch: float = 0.8,
    *,
    vae: str | Path | None = None,
    prediction: str | None = None,
    variant: str | None = None,
    parts: Sequence[str] | None = None,
) -> Engine:
    """The bundled model (None), a folder, a single file, or a hub id "owner/name", ready to draw on
    `device` in `dtype`.

    guide: an earlier or smaller model of the same kind, which then guides it in the negative
    prompt's place (autoguidance). batch: pictures a call of the network, faster where it is more
    than 1, see runtime.prepare. refiner: a second model, which draws each run from the share
    `refiner_switch` of it to its end. vae: an autoencoder in place of the model's own. prediction,
    variant, parts: see hub.load_parts, where the last are `others`.

    Raises NotFound, BadCheckpoint, or BadInput and UnknownName for device and dtype; each says the
    remedy."""
    weaker, second = (None if other is None else load_parts(other) for other in (guide, refiner))
    model = load_parts(name, prediction=prediction, variant=variant, others=parts)
    if vae is not None:
        from fromnoise.checkpoints.formats.vae import replace_vae

        replace_vae(model, Path(vae).expanduser())
    return Engine(model, device, dtype, weaker, batch, second, refiner_switch)
