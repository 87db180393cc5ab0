"""Which family of models a file belongs to: told from the names and shapes of its tensors, its
metadata, and a configuration beside it. No torch, so that a header is enough."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import sqrt

from fromnoise.checkpoints.foreign import recognise
from fromnoise.checkpoints.keymap import (
    UNET,
    VAE,
    Group,
    KeyMap,
    TextTower,
    rule_text,
    rule_unet,
    rule_vae,
)
from fromnoise.checkpoints.measures import Shapes, measure_text, measure_unet, measure_vae
from fromnoise.errors import BadCheckpoint, escape
from fromnoise.models.config import UNetConfig, VAEConfig


@dataclass(frozen=True)
class Base:
    """What all models of one base share, beside their shapes."""

    name: str
    side: int  # of the latents in training
    scale: float  # of the VAE: latents = z · scale


BASES = {
    "sd1": Base("Stable Diffusion 1", 64, 0.18215),
    "sd2": Base("Stable Diffusion 2", 64, 0.18215),
    "xl": Base("Stable Diffusion XL", 128, 0.13025),
    "refiner": Base("Stable Diffusion XL refiner", 128, 0.13025),
}
# the text encoders of a single file: the part, what the keys begin with, the base that has it
TOWERS = (
    ("text_encoder", "cond_stage_model.transformer.", "sd1"),
    ("text_encoder", "cond_stage_model.model.", "sd2"),
    ("text_encoder", "conditioner.embedders.0.transformer.", "xl"),
    ("text_encoder_2", "conditioner.embedders.1.model.", "xl"),
    ("text_encoder_2", "conditioner.embedders.0.model.", "refiner"),
)
TOKENS = tuple(f"{p}token_embedding.weight" for p in ("text_model.embeddings.", "embeddings.", ""))
# width of the text that a U-Net reads → its base, where no text encoder says it
CONTEXTS = {768: "sd1", 1024: "sd2", 2048: "xl", 1280: "refiner"}
CONCATS = {9: "inpainting", 8: "instruct", 5: "depth"}  # in_channels of a network that answers 4
PENULTIMATE = 23  # Stable Diffusion 2 was trained on the layer before the last of 24
# norm1.bias of this block spreads more in a network that predicts v than in one that predicts eps:
# ComfyUI tells Stable Diffusion 2 apart by it (supported_models.py, class SD20)
V_NORM, V_SPREAD = "output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09
PREDICTIONS = {
    "v": "v",
    "v_prediction": "v",
    "v-prediction": "v",
    "eps": "eps",
    "epsilon": "eps",
    "x0": "x0",
    "sample": "x0",
    "flow_prediction": "flow",
}
FLOW = "FlowMatchEulerDiscreteScheduler"  # a class that says the prediction by its name
SCHEDULER = "fromnoise.scheduler/scheduler_config.json"  # in the metadata of files of ours
# tensors that no network needs → what they are
UNUSED = {
    r"model_ema\.": "averaged weights (EMA)",
    r"first_stage_model\.(?:loss|model_ema)\.": "the autoencoder's training loss",
    r"depth_model\.": "MiDaS, which makes depth maps",
    r"(?:log_one_minus_|sqrt_(?:one_minus_|recip_|recipm1_)?)?(?:alphas_cumprod(?:_prev)?|betas)$|"
    r"posterior_\w+$|logvar$|lvlb_weights$|scale_factor$|denoiser\.": "tables of the noise",
    r"v_pred$|ztsnr$|edm_": "marks of the prediction",
    r"(?:cond_stage_model|conditioner)\..*(?:logit_scale|attn_mask|position_ids)$": "no weights",
    rf"cond_stage_model\.model\.(?:text_projection$|transformer\.resblocks\.{PENULTIMATE}\.)": (
        "the last layer of a text encoder that is read at the layer before"
    ),
    r"cond_stage_model\..*text_projection": "a projection that the model does not use",
    r"fromnoise\.": "texts of the model's folder",
}
WORDS_UNUSED = tuple(UNUSED.values())
# all of them at once: the number of the group that fits is the place of its words
ANY_UNUSED = re.compile("|".join(f"({pattern})" for pattern in UNUSED))
MODEL = (UNET, VAE, "cond_stage_model.", "conditioner.")  # keys that a drawing depends on


@dataclass(frozen=True)
class Family:
    """What a file is, and how that is known."""

    name: str
    # "model"; "unet", "vae", "tiny vae", "text encoder": one part alone; "lora", "embedding",
    # "controlnet", "upscaler", "ip-adapter", …: no model; "other": of another architecture
    kind: str
    reason: str  # the names and shapes that tell it
    base: str = ""  # of BASES
    original: bool = True  # the layout of the keys: the original one, or that of diffusers
    unet: UNetConfig | None = None
    unet_prefix: str = UNET
    vae: VAEConfig | None = None
    vae_prefix: str = VAE
    texts: tuple[TextTower, ...] = ()
    concat: str = ""  # what is concatenated to x: "", "inpainting", "instruct" or "depth"
    prediction: str = ""  # "eps", "v", "x0", "flow", or "" where nothing tells
    prediction_reason: str = ""
    guessed: bool = False  # whether the prediction needs a warning
    zero_snr: bool = False  # whether the last noise level holds no picture at all
    problems: tuple[str, ...] = ()  # what keeps it from drawing, and tensors nobody knows
    unused: tuple[str, ...] = ()  # what the file holds beside the parts
    unknown: tuple[str, ...] = ()  # keys that neither a part nor that explains

    def make_keymap(self) -> KeyMap:
        """The key rules of the file's parts."""
        groups: list[Group] = []
        if self.unet and self.original:
            groups += rule_unet(self.unet, self.unet_prefix)
        if self.vae and self.original:
            groups += rule_vae(self.vae, self.vae_prefix)
        for tower in self.texts:
            groups += rule_text(tower)
        return KeyMap(groups)


def tell_family(
    shapes: Shapes,
    metadata: Mapping[str, str] | None = None,
    read: Callable[[str], Sequence[float]] | None = None,
    beside: str = "",
) -> Family:
    """The family of a file with tensors of these names and shapes.

    read: a key → the values of that tensor; needed for one norm of a Stable Diffusion 2 alone.
    beside: the text of a .yaml or .json with the file's name. Raises nothing: what is unknown or
    damaged is a family too, and its problems say so."""
    metadata = metadata or {}
    if found := recognise(shapes):
        return Family(found.name, found.kind, found.reason)
    try:
        family = tell_parts(shapes)
    except BadCheckpoint as error:
        reason = "it has the keys of a Stable Diffusion, and not its shapes"
        return Family("unknown", "other", reason, problems=(error.message,))
    if family.unet:
        family = tell_prediction(family, shapes, metadata, read, beside)
    return family


def tell_parts(shapes: Shapes) -> Family:
    """The parts and their sizes. Raises BadCheckpoint for shapes that fit no network."""
    if f"{UNET}input_blocks.0.0.weight" in shapes:
        return tell_model(shapes)
    for prefix in ("", "model.", "unet."):
        for key, original in (("input_blocks.0.0.weight", True), ("conv_in.weight", False)):
            blocks = "input_blocks.1." if original else "down_blocks.0."
            if f"{prefix}{key}" in shapes and any(
                k.startswith(f"{prefix}{blocks}") for k in shapes
            ):
                return tell_unet(shapes, prefix, original)
    for prefix in (VAE, "vae.", ""):
        for key, original in (("up.0.block.0", True), ("up_blocks.0.resnets.0", False)):
            if f"{prefix}decoder.{key}.conv1.weight" in shapes:
                vae = measure_vae(shapes, prefix, original)
                layout = "original" if original else "diffusers"
                reason = f"{prefix}decoder.{key} in the {layout} layout, and no U-Net"
                return Family(
                    "a KL autoencoder", "vae", reason, original=original, vae=vae, vae_prefix=prefix
                )
    for prefix in (*(prefix for _, prefix, _ in TOWERS), ""):
        if any(f"{prefix}{key}" in shapes for key in TOKENS):
            tower = measure_text(shapes, "text_encoder", prefix, projects=True)
            kind = "OpenCLIP" if tower.open_clip else "CLIP"
            c = tower.config
            reason = f"{prefix}… has {c.layers} layers of {c.dim} channels, and there is no U-Net"
            return Family(f"a text encoder of {kind}", "text encoder", reason, texts=(tower,))
    first = escape(min(shapes, default="nothing"), 80)
    return Family("unknown", "other", f"no known network has a tensor {first}")


def tell_model(shapes: Shapes) -> Family:
    """A whole model in the original layout, or what is left of one."""
    unet = measure_unet(shapes, UNET, original=True)
    towers, base = [], ""
    for part, prefix, owner in TOWERS:
        if any(f"{prefix}{key}" in shapes for key in TOKENS):
            tower = measure_text(shapes, part, prefix, projects=owner in ("xl", "refiner"))
            if owner == "sd2":
                layers = min(tower.config.layers, PENULTIMATE)
                tower = tower._replace(config=replace(tower.config, layers=layers))
            towers.append(tower)
            base = owner
    reason = f"its text encoder lies under {towers[0].prefix}" if towers else ""
    if not base:
        base = CONTEXTS.get(unet.context_dim, "")
        reason = f"its U-Net reads text of {unet.context_dim} channels"
    if len(towers) == 2:
        reason = f"it has two text encoders, the second under {towers[1].prefix}"
    problems, vae = [], None
    if f"{VAE}decoder.conv_in.weight" in shapes:
        vae = measure_vae(shapes, VAE, original=True)
    else:
        problems.append("it holds no VAE")
    wanted = 2 if base == "xl" else 1
    if len(towers) < wanted:
        problems.append("it holds no text encoder" if not towers else "a text encoder is missing")
    family = Family("", "model", reason, base, unet=unet, vae=vae, texts=tuple(towers))
    return name_model(finish(family, shapes, problems))


def tell_unet(shapes: Shapes, prefix: str, original: bool) -> Family:
    """A U-Net alone, in either layout."""
    unet = measure_unet(shapes, prefix, original)
    base = CONTEXTS.get(unet.context_dim, "")
    layout = "original" if original else "diffusers"
    reason = f"a U-Net in the {layout} layout that reads text of {unet.context_dim} channels"
    family = Family("", "unet", reason, base, original, unet, prefix)
    return name_model(finish(family, shapes, ["it is a U-Net alone: no VAE, no text encoder"]))


def finish(family: Family, shapes: Shapes, problems: Iterable[str]) -> Family:
    """The family with its base's sizes, and with what is left of the file."""
    if base := BASES.get(family.base):
        upcast = family.base == "sd2"  # its attention overflows in half precision
        unet = family.unet and replace(family.unet, sample_size=base.side, upcast_attention=upcast)
        vae = family.vae and replace(
            family.vae, scaling_factor=base.scale, sample_size=base.side * family.vae.factor
        )
        family = replace(family, unet=unet, vae=vae)
    unused, unknown = [], []
    if family.original:
        known = family.make_keymap().groups
        for key in shapes:
            if key not in known:
                match = ANY_UNUSED.match(key)
                found = WORDS_UNUSED[(match.lastindex or 1) - 1] if match else key
                (unused if match else unknown).append(found)
    problems = list(problems)
    if unknown:
        foreign = sorted(key for key in unknown if key.startswith(MODEL)) or sorted(unknown)
        names = ", ".join(escape(key, 80) for key in foreign[:3])
        more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
        problems.append(f"no part has a place for {names}{more}")
    return replace(
        family,
        problems=tuple(problems),
        unused=tuple(dict.fromkeys(unused)),
        unknown=tuple(unknown),
    )


def name_model(family: Family) -> Family:
    """The family with its name, as people say it."""
    unet = family.unet
    assert unet is not None
    name = BASES[family.base].name if family.base in BASES else "a latent diffusion model"
    concat = CONCATS.get(unet.in_channels, "") if unet.out_channels == 4 else ""
    words = {"inpainting": ", inpainting", "instruct": ", InstructPix2Pix", "depth": ", depth"}
    name += words.get(concat, "")
    problems = family.problems
    if unet.in_channels != unet.out_channels and not concat:
        problems += (f"its U-Net takes {unet.in_channels} channels, which no known kind does",)
    name = f"U-Net of {name}" if family.kind == "unet" else name
    return replace(family, name=name, concat=concat, problems=problems)


def tell_prediction(
    family: Family,
    shapes: Shapes,
    metadata: Mapping[str, str],
    read: Callable[[str], Sequence[float]] | None,
    beside: str,
) -> Family:
    """The family with its prediction: from marker keys, the metadata, a configuration beside the
    file, one norm of a Stable Diffusion 2, or from what all models of its base predict."""
    zero = "ztsnr" in shapes
    prediction, reason, guessed = "", "", False
    if "v_pred" in shapes:
        prediction, reason = "v", "the marker key v_pred"
    elif word := PREDICTIONS.get(metadata.get("modelspec.prediction_type", "").lower()):
        prediction, reason = word, "modelspec.prediction_type in its metadata"
    elif read_setting(metadata.get(SCHEDULER, ""), ("_class_name",)) == FLOW.lower():
        prediction, reason = "flow", "the scheduler in its metadata"
    elif word := read_setting(metadata.get(SCHEDULER, ""), ("prediction_type",)):
        prediction, reason = PREDICTIONS.get(word, ""), "the scheduler in its metadata"
    elif word := read_setting(beside, ("parameterization", "prediction_type")):
        prediction, reason = PREDICTIONS.get(word, ""), "the configuration beside it"
    settings = f"{metadata.get(SCHEDULER, '')}\n{beside}"
    if read_setting(settings, ("ztsnr", "zsnr", "rescale_betas_zero_snr")) == "true":
        zero = True
    if not prediction and family.base == "sd2":
        prediction, reason, guessed = guess_prediction(family, shapes, read)
    elif not prediction and zero:
        prediction, reason = "v", "the marker key ztsnr: without noise-free times eps cannot be"
    elif not prediction:
        base = BASES[family.base].name if family.base else "its kind"
        prediction, reason = "eps", f"what models of {base} predict"
    unet = family.unet
    if prediction == "v" and family.base == "sd2" and unet:
        unet = replace(unet, sample_size=96)  # the one at 768 pixels is the one that predicts v
    vae = family.vae
    if vae and unet:
        vae = replace(vae, sample_size=unet.sample_size * vae.factor)
    return replace(
        family,
        unet=unet,
        vae=vae,
        prediction=prediction,
        prediction_reason=reason,
        guessed=guessed,
        zero_snr=zero,
    )


def guess_prediction(
    family: Family, shapes: Shapes, read: Callable[[str], Sequence[float]] | None
) -> tuple[str, str, bool]:
    """(prediction, reason, whether it is a guess) of a Stable Diffusion 2 that does not say it."""
    if family.concat:
        return "eps", f"{family.concat} models of Stable Diffusion 2 predict eps", False
    key = family.unet_prefix + V_NORM
    if not family.original:
        key = f"{family.unet_prefix}up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias"
    if read is None or not 1 < (shapes.get(key) or (0,))[0] <= 8192:
        return "", "no tensor tells eps from v", True
    values = read(key)
    mean = sum(values) / len(values)
    spread = sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    prediction = "v" if spread > V_SPREAD else "eps"
    sign = "above" if prediction == "v" else "at most"
    return prediction, f"{V_NORM} spreads by {spread:.3f}, {sign} {V_SPREAD}", True


def read_setting(text: str, names: Iterable[str]) -> str:
    """The first of these settings in a configuration in YAML or JSON, one word in lower case. No
    parser: only a word that a colon gives to a name, and that stands in no comment."""
    text = text[: 1 << 18]  # published ones have some kilobytes
    for name in names:
        pattern = rf"(?<![\w.-]){name}[\"']?[ \t]*:[ \t]*[\"']?([\w-]{{1,40}})"
        for found in islice(re.finditer(pattern, text), 100):
            if "#" not in text[text.rfind("\n", 0, found.start()) + 1 : found.start()]:
                return found[1].lower()
    return ""
