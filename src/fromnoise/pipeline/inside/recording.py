"""A trace in a bounded memory: the numbers of every call, and as many of its tensors as may be."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fromnoise.diffusion.parameterization import compute_coefficients
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.generate import Step
from fromnoise.pipeline.inside.trace import Call, Trace, Word
from fromnoise.pipeline.request import GenerationRequest

TENSORS = ("x", "cond", "uncond", "guided")  # of a call; eps follows from x and x0
CURVE = 128  # points of the model's own schedule
Angles = dict[str, float | None]


class Recorded(Protocol):
    """What a panel reads: facts that JSON can hold, and tensors by name, None where one is not
    kept. A call's are named "3.x", its maps "3.map.0" by the number of the layer."""

    facts: dict[str, Any]

    def read(self, name: str) -> np.ndarray | None: ...


@dataclass(frozen=True, eq=False)
class Recording:
    """A finished record of one picture's run."""

    facts: dict[str, Any]
    tensors: dict[str, np.ndarray]
    picture: Image.Image

    def read(self, name: str) -> np.ndarray | None:
        return self.tensors.get(name)


class Recorder:
    """Records the run of a request for one picture: give `observe` and `watch` to what draws it.

    most: bytes of tensors. Where a run has more, every second step's are let go of, then every
    second one of the rest, and so on; numbers are kept of every call."""

    def __init__(self, model: LatentDiffusion, request: GenerationRequest, most: int):
        self.model, self.request, self.most = model, request, most
        self.trace = Trace(model, request)
        self.every, self.bytes = 1, 0
        self.rows: list[dict[str, Any]] = []
        self.tensors: dict[int, dict[str, Tensor]] = {}
        self.words: dict[tuple[str, int], int] = {}  # a text and which of its kind → its number
        self.layers: dict[str, int] = {}
        self.direction: Tensor | None = None  # of guidance, at the call before

    def observe(self, *told: Any, **more: Any) -> None:
        """See Trace.observe."""
        self.trace.observe(*told, **more)
        calls = self.trace.calls[0]
        self._add(calls[-1])
        # its place in the step is what the trace still needs of it
        nothing = torch.empty(0)
        calls[-1] = replace(calls[-1], x=nothing, cond=nothing, uncond=None, maps={}, words=())

    def watch(self, step: Step) -> None:
        """Adds what the sampler was given: of a step, its last answer."""
        own = [row for row in self.rows if row["step"] == step.index]
        for row in own[-1:]:
            guided = step.x0[0]
            row["rms"]["guided"] = measure_rms(guided)
            if row["call"] in self.tensors:
                self._keep(row["call"], {"guided": guided.clone()})
                self._thin()

    def finish(self, picture: Image.Image) -> Recording:
        """The record, with the picture that the run has drawn."""
        model, kept = self.model, {}
        for call, tensors in self.tensors.items():
            kept |= {f"{call}.{name}": value.numpy() for name, value in tensors.items()}
        sigmas = model.schedule.sigmas
        places = torch.linspace(0, len(sigmas) - 1, min(CURVE, len(sigmas))).round().long()
        curve = [[int(t), float(sigmas[t])] for t in places if sigmas[t].isfinite()]
        own = self.request.model_copy(update={"width": None, "height": None}).resolve(model)
        names = "sampler", "spacing", "steps", "cfg", "cfg_sigma_min", "cfg_sigma_max", "seed"
        notes = []
        if self.every > 1:
            notes.append(
                f"the trace is bounded: pictures and maps of one step in {self.every} are kept, "
                "numbers of all"
            )
        facts = {
            "prompt": self.request.prompt,
            "negative_prompt": self.request.negative_prompt,
            "settings": {name: read_number(getattr(own, name)) for name in names},
            "infotext": picture.info.get("parameters", ""),
            "size": list(picture.size),
            "tiling": self.request.tiling,
            "prediction": model.prediction,
            "latents": model.unet.config.out_channels,
            "words": [{"text": text, "of": of} for text, of in self.words],
            "layers": list(self.layers),
            "schedule": curve,
            "calls": [row | {"kept": row["call"] in self.tensors} for row in self.rows],
            "notes": notes,
        }
        return Recording(facts, kept, picture)

    def _add(self, call: Call) -> None:
        number = len(self.rows)
        words = self._number_words(call.words)
        maps = {
            f"map.{self.layers.setdefault(layer, len(self.layers))}": sum_tokens(call.words, one)
            for layer, one in call.maps.items()
        }
        shares = torch.stack([one.flatten(1).mean(1) for one in maps.values()]).mean(0)
        direction = None if call.uncond is None else call.cond - call.uncond
        self.rows.append(
            {
                "call": number,
                "step": call.step,
                "stage": call.stage,
                "part": call.part,
                "sigma": call.sigma,
                "t": float(self.model.schedule.find_time(call.sigma)),
                # what the network reads is x times this
                "scale": float(compute_coefficients(self.model.prediction, call.sigma)[2]),
                "rms": measure_norms(call),
                "angles": measure_angles(call, self.direction),
                "words": words,
                "shares": [float(share) for share in shares],
            }
        )
        self.direction = direction
        if call.step % self.every == 0:
            tensors = {"x": call.x, "cond": call.cond, "uncond": call.uncond}
            given = {name: value for name, value in tensors.items() if value is not None}
            self._keep(number, given | maps)
            self._thin()

    def _number_words(self, words: tuple[Word, ...]) -> list[int]:
        """The number of each word among those of the whole run."""
        met: Counter[str] = Counter()
        found = []
        for word in words:
            found.append(self.words.setdefault((word.text, met[word.text]), len(self.words)))
            met[word.text] += 1
        return found

    def _keep(self, call: int, tensors: dict[str, Tensor]) -> None:
        self.tensors.setdefault(call, {}).update(tensors)
        self.bytes += sum(value.nbytes for value in tensors.values())

    def _thin(self) -> None:
        while (
            self.bytes > self.most and len({self.rows[call]["step"] for call in self.tensors}) > 1
        ):
            self.every *= 2
            for call in [*self.tensors]:
                if self.rows[call]["step"] % self.every:
                    self.bytes -= sum(value.nbytes for value in self.tensors.pop(call).values())


def sum_tokens(words: tuple[Word, ...], maps: Tensor) -> Tensor:
    """Maps of tokens (N, h, w) → maps of words (W, h, w): the sums over each word's tokens."""
    return torch.stack([maps[list(word.at)].sum(0) for word in words])


def measure_rms(values: Tensor) -> float:
    """The root of the mean square: unit noise has 1."""
    return float(values.square().mean().sqrt())


def measure_norms(call: Call) -> dict[str, float]:
    """The root mean squares of what a call read and answered. `guidance` is x0 with the prompt
    minus x0 without it."""
    found = {"x": call.x, "cond": call.cond, "eps": call.eps()}
    if call.uncond is not None:
        found |= {"uncond": call.uncond, "eps_uncond": call.eps(uncond=True)}
        found |= {"guidance": call.cond - call.uncond}
    return {name: measure_rms(value) for name, value in found.items() if value is not None}


def measure_angles(call: Call, earlier: Tensor | None) -> Angles:
    """Angles in degrees, None where there are none: between x0 with the prompt and without it;
    between guidance and x0; between guidance and that of the call before."""
    if call.uncond is None:
        return {"with_without": None, "guidance_x0": None, "guidance_earlier": None}
    direction = call.cond - call.uncond
    same = earlier is not None and earlier.shape == direction.shape
    return {
        "with_without": measure_angle(call.cond, call.uncond),
        "guidance_x0": measure_angle(direction, call.cond),
        "guidance_earlier": measure_angle(direction, earlier) if same else None,
    }


def measure_angle(a: Tensor, b: Tensor | None) -> float | None:
    """The angle between two tensors as vectors, in degrees; None where one is 0."""
    if b is None:
        return None
    size = float(a.double().norm() * b.double().norm())
    if size == 0:
        return None
    cosine = float((a.double() * b.double()).sum()) / size
    return float(np.degrees(np.arccos(min(max(cosine, -1.0), 1.0))))


def read_number(value: Any) -> Any:
    """A setting as JSON holds it: infinity as a word."""
    return "inf" if value == float("inf") else value


def record(
    draw: Callable[..., list[Image.Image]],
    model: LatentDiffusion,
    request: GenerationRequest,
    most: int,
    watch: Callable[[Step], None],
) -> Recording:
    """The record of what `draw(watch, observer)` draws. The request is for one picture."""
    recorder = Recorder(model, request, most)

    def watch_both(step: Step) -> None:
        recorder.watch(step)
        watch(step)

    return recorder.finish(draw(watch_both, recorder.observe)[0])
