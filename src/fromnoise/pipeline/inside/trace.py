"""Records a run while it goes on: the network's answer at each call, and the places that each word
made it look at."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import decoders
from torch import Tensor
from torch.nn import functional as F

from fromnoise.diffusion.samplers.base import Query
from fromnoise.errors import BadInput, UnknownName
from fromnoise.latent_diffusion import LatentDiffusion
from fromnoise.pipeline.conditioning.blocks import Texts, split_blocks
from fromnoise.pipeline.generate import Step
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tokenizer import Tokenizer
from fromnoise.prompt.tree import Chunk

# the marks that the text encoder puts around the words; the padding counts as end
START, END = "<start>", "<end>"


@dataclass(frozen=True)
class Word:
    """A word as the network reads it, and the places of its tokens in the context."""

    text: str
    at: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of the network for one picture. `x`, `cond` and `uncond` are latents (C, h, w) in
    fp32 on the CPU."""

    step: int
    stage: int  # the number of the call in its step, for samplers that ask more than once
    part: int  # the number of the prompt's part, where AND joins several
    sigma: float
    x: Tensor  # the noisy latents that the network read: x0 + sigma·n
    cond: Tensor  # its answer x0 with the prompt, before any guidance
    # its answer with the negative prompt, or the guide's answer; None where guidance does not act
    uncond: Tensor | None
    words: tuple[Word, ...]
    # layer → (N, h', w'): the attention of each token, the mean of the heads; sums to 1 over N
    maps: dict[str, Tensor]

    def eps(self, uncond: bool = False) -> Tensor | None:
        """The noise that the answer implies, (x − x0) / sigma, with the prompt or without it;
        (C, h, w)."""
        x0 = self.uncond if uncond else self.cond
        return None if x0 is None else (self.x - x0) / self.sigma


@dataclass
class Trace:
    """The record of a run: give `observe` and `watch` to `pipeline.generate.generate`. Recording
    changes no bit of the picture."""

    model: LatentDiffusion
    request: GenerationRequest  # resolved
    calls: list[list[Call]] = field(default_factory=list)  # one list for each picture, in order
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.calls = [[] for _ in range(self.request.count)]
        self._blend = (
            self.request.dialect == "compel" and parse_prompt(self.request.prompt, "compel").blend
        )
        self._known: dict[object, tuple[tuple[Word, ...], int]] = {}

    def watch(self, step: Step) -> None:
        self.steps.append(step)

    def observe(
        self,
        shown: list[str] | Texts,
        query: Query,
        images: tuple[int, ...],
        x0: Tensor,
        uncond: Tensor | None,
        maps: dict[str, Tensor],
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """Records a call; `pipeline.denoiser` calls this. shown: plain prompts (one for all, or one
        for each picture), or parsed ones. tokenizer: what read them, if not the model's own."""
        for row, image in enumerate(images):
            text = shown[image if len(shown) > 1 else 0] if isinstance(shown, list) else shown
            if text not in self._known:
                self._known[text] = split_words(
                    tokenizer or self.model.tokenizer, text, self.request.dialect, self._blend
                )
            words, length = self._known[text]
            height, width = x0.shape[-2:]
            small = {}
            for layer, of_all in maps.items():
                mean = of_all[row].float().mean(0).cpu()  # (h'·w', N)
                if self.request.dialect == "compel":  # the empty prompt behind it counts as padding
                    mean = torch.cat(
                        [mean[:, : length - 1], mean[:, length - 1 :].sum(1, keepdim=True)], 1
                    )
                else:  # a context that was repeated to another's length is still one context
                    mean = mean.unflatten(1, (-1, length)).sum(1)
                mean = mean.T  # (N, h'·w')
                small[layer] = mean.unflatten(
                    1, _find_layer_size(height, width, mean.shape[1])
                ).clone()
            earlier = self.calls[image]
            before = [c for c in earlier if (c.step, c.stage) == (query.step, query.stage)]
            x = query.x[image if query.image is None else 0]
            earlier.append(
                Call(
                    query.step,
                    query.stage,
                    len(before),
                    query.sigma,
                    x.clone(),
                    x0[row].clone(),
                    None if uncond is None else uncond[row].clone(),
                    words,
                    small,
                )
            )

    def words(self, image: int = 0) -> list[str]:
        """All words that the network read for a picture, in order, each once."""
        return list(dict.fromkeys(word.text for call in self.calls[image] for word in call.words))

    def map(
        self,
        word: str | Word,
        image: int = 0,
        steps: Sequence[int] | None = None,
        layers: Sequence[str] | None = None,
    ) -> Tensor:
        """The map of a word, (h, w) as the latents: the attention that its tokens got. word: one of
        `Call.words`, or a text, which means all words of that text.

        The map is the sum over the word's tokens and the mean over the calls that read it and over
        the layers; steps and layers: only these. Every layer's map is resized to (h, w) (Hertz et
        al. 2022 "Prompt-to-prompt", §3; Tang et al. 2023 "DAAM", eq. 5 to 8).

        Raises UnknownName for a word or a layer, and BadInput for steps without a call."""
        size = tuple(self.calls[image][0].x.shape[-2:])
        found = []
        for call in self.calls[image]:
            if steps is not None and call.step not in steps:
                continue
            for layer in layers or call.maps:
                if layer not in call.maps:
                    raise UnknownName("layer", layer, call.maps)
                places = [at for w in call.words if word in (w, w.text) for at in w.at]
                if places:
                    one = call.maps[layer][places].sum(0)
                    found.append(
                        F.interpolate(one[None, None], size, mode="bilinear", align_corners=False)[
                            0, 0
                        ]
                    )
        text = word if isinstance(word, str) else word.text
        if not found and text not in self.words(image):
            raise UnknownName("word", text, self.words(image))
        if not found:
            raise BadInput(
                f"no call of steps {steps} was shown the word {text!r}",
                "leave out the steps for all",
            )
        return torch.stack(found).mean(0)


def split_words(
    tokenizer: Tokenizer, text: str | Texts, dialect: str = "a1111", blend: bool = False
) -> tuple[tuple[Word, ...], int]:
    """(the words of a prompt with the places of their tokens, the number of all places). Where
    compel's `.blend` adds the states of several texts, the words are those of the first."""
    texts = [[Chunk(text)]] if isinstance(text, str) else [chunks for chunks, _ in text]
    found: list[Word] = []
    ends: list[int] = []
    of = [
        block
        for chunks in (texts[:1] if blend else texts)
        for block in split_blocks(tokenizer, chunks, dialect)
    ]
    length = tokenizer.max_length
    spell = decoders.ByteLevel()
    for start, block in zip(range(0, len(of) * length, length), of, strict=True):
        spelled, places = "", []
        for at, (token, _) in enumerate(block, start + 1):
            piece = tokenizer.spell(token)
            spelled, places = spelled + piece.removesuffix("</w>"), [*places, at]
            if piece.endswith("</w>") or at == start + len(block):
                found.append(Word(spell.decode([spelled]), tuple(places)))
                spelled, places = "", []
        ends += range(start + 1 + len(block), start + length)
    starts = tuple(range(0, len(of) * length, length))
    return (Word(START, starts), *found, Word(END, tuple(ends))), len(of) * length


def _find_layer_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """The (height, width) of a layer that sees `pixels` places of latents of these sides: each
    level of the U-Net halves the sides, rounded up."""
    while height * width > pixels:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    if height * width != pixels:
        raise BadInput(
            f"no level of the network has {pixels} pixels", "trace a U-Net that halves its sides"
        )
    return height, width
