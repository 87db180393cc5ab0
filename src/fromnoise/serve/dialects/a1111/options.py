"""A client's options, as A1111's settings: kept as they were posted, and read where they mean
something here."""

import json
from typing import Any

from sqlalchemy import delete, insert, select

from fromnoise.diffusion import samplers, spacing
from fromnoise.errors import BadInput, NotFound, escape
from fromnoise.serve.database.opening import reading
from fromnoise.serve.database.tables import options
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server

MOST = 256 << 10  # bytes of all options of a client
# what clients read; values are those that hold where a client sets no other
USUAL: dict[str, Any] = {
    "samples_format": "png",
    "jpeg_quality": 80,
    "sd_vae": "Automatic",
    "CLIP_stop_at_last_layers": 1,
    "randn_source": "CPU",
    "eta_noise_seed_delta": 0,
    "sgm_noise_multiplier": True,
    "always_discard_next_to_last_sigma": False,
    "show_progress_every_n_steps": 1,
    "live_previews_enable": True,
    "return_grid": False,
    "save_images_add_number": True,
    "control_net_unit_count": 16,
    "upscaler_for_img2img": None,
}
FORMATS = {"png": ".png", "jpg": ".jpg", "jpeg": ".jpg", "webp": ".webp"}
RNGS = {"gpu": "nv", "nv": "nv", "cpu": "cpu"}
NONE = ("", "none", "automatic")
UNIPC = {
    "uni_pc_variant": "variant",
    "uni_pc_order": "order",
    "uni_pc_lower_order_final": "lower_order_final",
}
SPACED = {
    "sigma_min": "sigma_min",
    "sigma_max": "sigma_max",
    "rho": "rho",
    "beta_dist_alpha": "alpha",
    "beta_dist_beta": "beta",
}
READ = {
    "CLIP_stop_at_last_layers",
    "eta_noise_seed_delta",
    "randn_source",
    "sgm_noise_multiplier",
    "always_discard_next_to_last_sigma",
    "s_min_uncond",
    "eta_ancestral",
    "eta_ddim",
    "sd_vae",
    "samples_format",
    "jpeg_quality",
    "sd_model_checkpoint",
    *UNIPC,
    *SPACED,
}


def find_checkpoint(server: Server, name: Any) -> str:
    """The model that a client means: a name of the list, with or without a hash behind it or an
    ending. Raises NotFound; a path is no name."""
    models = [model.name for model in server.worker.models()]
    wanted = str(name).split(" [")[0].strip()
    for form in (str(name), wanted, *(f"{wanted}{end}" for end in (".safetensors", ".ckpt"))):
        if form in models:
            return form
    raise NotFound(f"there is no model {escape(str(name)[:200])!r}", "see /sdapi/v1/sd-models")


def load_options(server: Server, client: Client) -> dict[str, Any]:
    """What a client posted."""
    query = select(options.c["values"]).where(options.c.client == client.name)
    with reading(server.database) as connection:
        text = connection.scalar(query)
    return json.loads(text) if text else {}


def show_options(server: Server, client: Client) -> dict[str, Any]:
    """All options of a client, those that it never set too."""
    kept = load_options(server, client)
    model = kept.get("sd_model_checkpoint") or server.settings.model_name
    more = {"sd_model_checkpoint": model, "sd_checkpoint_hash": ""}
    return USUAL | kept | more


def save_options(server: Server, client: Client, values: dict[str, Any]) -> None:
    """Adds options to those of a client; unknown ones are kept as they are. Raises NotFound for a
    model, and BadInput for values that could not be drawn with, and for too many."""
    posted = dict(values)
    posted.pop("sd_checkpoint_hash", None)
    if posted.get("sd_model_checkpoint") in (None, ""):
        posted.pop("sd_model_checkpoint", None)
    else:
        posted["sd_model_checkpoint"] = find_checkpoint(server, posted["sd_model_checkpoint"])
    kept = load_options(server, client) | posted
    text = json.dumps(kept)
    if len(text) > MOST:
        raise BadInput(f"the options take {len(text):,} bytes", f"post {MOST:,} at most")
    from fromnoise.pipeline.request import GenerationRequest

    GenerationRequest.of(**read_options(kept, None, None))
    find_format(kept)
    with server.database.begin() as connection:
        connection.execute(delete(options).where(options.c.client == client.name))
        connection.execute(insert(options).values(client=client.name, values=text))


def find_format(values: dict[str, Any]) -> str:
    """The ending of the files that a client wants. Raises BadInput."""
    name = str(values.get("samples_format") or "png").lower()
    if name not in FORMATS:
        raise BadInput(f"pictures cannot be sent as {escape(name[:50])!r}", "take png, jpg or webp")
    return FORMATS[name]


def read_options(
    values: dict[str, Any], sampler: samplers.Entry | None, levels: "spacing.Entry | None"
) -> dict[str, Any]:
    """The fields of a request that options stand for. Raises BadInput."""
    found: dict[str, Any] = {}
    if (skip := values.get("CLIP_stop_at_last_layers")) not in (None, 0, 1):
        found["clip_skip"] = skip
    if delta := values.get("eta_noise_seed_delta"):
        found["eta_noise_seed_delta"] = delta
    if source := values.get("randn_source"):
        if str(source).lower() not in RNGS:
            raise BadInput(f"randn_source {escape(str(source)[:50])!r} is unknown", "CPU or NV")
        found["rng"] = RNGS[str(source).lower()]
    if values.get("sgm_noise_multiplier") is False:
        found["noise_scaling"] = "sigma_max"
    if values.get("always_discard_next_to_last_sigma"):
        found["discard_penultimate"] = True
    if least := values.get("s_min_uncond"):
        found["skip_uncond_below"] = least
    if sampler is not None and "eta" in sampler.options:
        name = "eta_ddim" if sampler.name == "ddim" else "eta_ancestral"
        if values.get(name) is not None:
            found["eta"] = values[name]
    for field, names, entry in (
        ("sampler_options", UNIPC, sampler),
        ("spacing_options", SPACED, levels),
    ):
        takes = entry.options if entry else ()
        own = {o: values[n] for n, o in names.items() if o in takes and values.get(n)}
        if own:
            found[field] = own
    return found
