"""The shapes of what A1111's API takes and gives. Any field may be null, and unknown ones come."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fromnoise.serve.refusals import Refusal

Seed = int | None
Number = float | None
Sides = int | None


class ErrorOut(BaseModel):
    """What is wrong, as A1111 says it: `detail`; `errors` has the remedy too."""

    error: str
    detail: str
    body: str
    errors: str


class Drawing(BaseModel):
    """What both kinds of drawing take. Where a field is left out, the model's own value holds."""

    model_config = ConfigDict(extra="allow")

    prompt: str | None = Field("", max_length=20_000)
    negative_prompt: str | None = Field("", max_length=20_000)
    styles: list[str] | None = Field(None, max_length=100)
    seed: Seed = Field(-1, ge=-1, lt=2**64, description="-1: at random.")
    subseed: Seed = Field(-1, ge=-1, lt=2**64)
    subseed_strength: Number = Field(0, ge=0, le=1)
    seed_resize_from_h: int | None = None
    seed_resize_from_w: int | None = None
    sampler_name: str | None = Field(None, max_length=200)
    sampler_index: str | int | None = Field(None, description="An older name of sampler_name.")
    scheduler: str | None = Field(None, max_length=200)
    batch_size: int | None = Field(1, ge=1, le=1000)
    n_iter: int | None = Field(1, ge=1, le=1000)
    steps: int | None = Field(None, ge=1, le=1000)
    cfg_scale: Number = Field(None, ge=0, le=100)
    width: Sides = Field(None, ge=8, le=8192)
    height: Sides = Field(None, ge=8, le=8192)
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = None
    do_not_save_grid: bool | None = None
    eta: Number = Field(None, ge=0, le=10)
    denoising_strength: Number = Field(None, ge=0, le=1)
    s_min_uncond: Number = Field(None, ge=0, le=1000)
    s_churn: Number = Field(None, ge=0, le=1000)
    s_tmax: Number = Field(None, ge=0)
    s_tmin: Number = Field(None, ge=0)
    s_noise: Number = Field(None, ge=0, le=10)
    clip_skip: int | None = Field(None, ge=1, le=64, description="SD.Next's name.")
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = None
    refiner_checkpoint: str | None = None
    refiner_switch_at: Number = None
    disable_extra_networks: bool | None = None
    comments: dict[str, Any] | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    send_images: bool | None = True
    save_images: bool | None = Field(False, description="All pictures are kept in any case.")
    alwayson_scripts: dict[str, Any] | None = Field(None, description="ControlNet's units.")
    force_task_id: str | None = None
    infotext: str | None = Field(
        None, max_length=200_000, description="Settings that hold where no field says another one."
    )


class TextToImage(Drawing):
    """A picture from words, perhaps in two passes."""

    enable_hr: bool | None = False
    firstphase_width: int | None = Field(0, ge=0, le=8192)
    firstphase_height: int | None = Field(0, ge=0, le=8192)
    hr_scale: Number = Field(None, ge=1, le=8)
    hr_upscaler: str | None = Field(None, max_length=200)
    hr_second_pass_steps: int | None = Field(0, ge=0, le=1000)
    hr_resize_x: int | None = Field(0, ge=0, le=8192)
    hr_resize_y: int | None = Field(0, ge=0, le=8192)
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = Field(None, max_length=200)
    hr_scheduler: str | None = Field(None, max_length=200)
    hr_cfg: Number = Field(None, ge=0, le=100, description="Forge's name.")
    hr_prompt: str | None = Field("", max_length=20_000)
    hr_negative_prompt: str | None = Field("", max_length=20_000)


class ImageToImage(Drawing):
    """A picture from a picture, perhaps in a mask alone."""

    init_images: list[str] | None = Field(None, max_length=16, description="Files in base64.")
    mask: str | None = Field(None, description="A file in base64; white is drawn.")
    resize_mode: int | None = Field(0, ge=0, le=3)
    image_cfg_scale: Number = Field(None, ge=0, le=100)
    mask_blur: Number = Field(None, ge=0, le=256)
    mask_blur_x: Number = Field(None, ge=0, le=256)
    mask_blur_y: Number = Field(None, ge=0, le=256)
    mask_round: bool | None = None
    inpainting_fill: int | None = Field(0, ge=0, le=3)
    inpaint_full_res: bool | int | None = True
    inpaint_full_res_padding: int | None = Field(0, ge=0, le=4096)
    inpainting_mask_invert: int | None = Field(0, ge=0, le=1)
    initial_noise_multiplier: Number = None
    include_init_images: bool | None = False


class DrawingOut(BaseModel):
    """Pictures in base64, what was asked for, and `info`, which is a text of JSON."""

    images: list[str]
    parameters: dict[str, Any]
    info: str


class ExtrasIn(BaseModel):
    """How finished pictures become larger."""

    model_config = ConfigDict(extra="allow")

    resize_mode: Literal[0, 1] = 0
    show_extras_results: bool | None = True
    gfpgan_visibility: Number = Field(0, ge=0, le=1)
    codeformer_visibility: Number = Field(0, ge=0, le=1)
    codeformer_weight: Number = Field(0, ge=0, le=1)
    upscaling_resize: float = Field(2, gt=0, le=64)
    upscaling_resize_w: int = Field(512, ge=1, le=8192)
    upscaling_resize_h: int = Field(512, ge=1, le=8192)
    upscaling_crop: bool = True
    upscaler_1: str = Field("None", max_length=255)
    upscaler_2: str | None = Field("None", max_length=255)
    extras_upscaler_2_visibility: Number = Field(0, ge=0, le=1)
    upscale_first: bool | None = False


class ExtraIn(ExtrasIn):
    """One picture in base64."""

    image: str = ""


class NamedFile(BaseModel):
    """A file in base64. Its name is not used."""

    data: str
    name: str | None = None


class ExtraBatchIn(ExtrasIn):
    """Pictures in base64."""

    imageList: list[NamedFile] = Field(max_length=16)  # A1111's name


class ExtraOut(BaseModel):
    """A larger picture in base64."""

    image: str
    html_info: str


class ExtraBatchOut(BaseModel):
    """Larger pictures in base64."""

    images: list[str]
    html_info: str


class PictureIn(BaseModel):
    """A picture file in base64."""

    model_config = ConfigDict(extra="allow")

    image: str = ""


class InterrogateIn(PictureIn):
    """A picture file in base64, and who looks at it."""

    model: str | None = Field("clip", max_length=100)


class PngInfoOut(BaseModel):
    """What a picture says of itself, as a text and taken apart."""

    info: str
    items: dict[str, Any]
    parameters: dict[str, Any]


class CaptionOut(BaseModel):
    """A picture in words."""

    caption: str


class ProgressOut(BaseModel):
    """How far the client's own requests are; 0 and a job_count of 0: nothing is drawn."""

    progress: float
    eta_relative: float
    state: dict[str, Any]
    current_image: str | None = None
    textinfo: str | None = None


class SamplerOut(BaseModel):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerOut(BaseModel):
    """A spacing of noise levels."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float | None = None
    need_inner_model: bool | None = None


class UpscalerOut(BaseModel):
    """An upscaler."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float | None = None


class NameOut(BaseModel):
    """Something with a name."""

    name: str


class CheckpointOut(BaseModel):
    """A model. Where its file lies is not told."""

    model_config = ConfigDict(protected_namespaces=())

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class FileOut(BaseModel):
    """A file. Where it lies is not told."""

    model_config = ConfigDict(protected_namespaces=())

    model_name: str
    filename: str


class LoraOut(BaseModel):
    """A LoRA. Prompts ask for it by <lora:name:weight>."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class EmbeddingsOut(BaseModel):
    """The textual inversions. Prompts ask for one by its name."""

    loaded: dict[str, dict[str, Any]]
    skipped: dict[str, dict[str, Any]]


class MemoryOut(BaseModel):
    """Bytes of memory."""

    ram: dict[str, Any]
    cuda: dict[str, Any]


class ScriptsOut(BaseModel):
    """Names of scripts."""

    txt2img: list[str]
    img2img: list[str]


class ScriptOut(BaseModel):
    """A script that requests may name."""

    name: str
    is_alwayson: bool
    is_img2img: bool
    args: list[dict[str, Any]]


class StyleOut(BaseModel):
    """A style of prompts."""

    name: str
    prompt: str | None = None
    negative_prompt: str | None = None


class Nothing(BaseModel):
    """An empty object."""


def render(refusal: Refusal) -> dict[str, Any]:
    """The body of an error's answer."""
    return {
        "error": refusal.code,
        "detail": refusal.message,
        "body": "",
        "errors": f"{refusal.message}: {refusal.remedy}" if refusal.remedy else refusal.message,
    }
