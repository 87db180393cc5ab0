"""A1111's API, /sdapi/v1: what there is, and options."""

import os
from typing import Annotated, Any

from fastapi import APIRouter, Body

from fromnoise.checkpoints.library import list_models
from fromnoise.diffusion.samplers import SAMPLERS
from fromnoise.diffusion.spacing import SPACINGS
from fromnoise.serve.dialects.a1111 import shapes
from fromnoise.serve.dialects.a1111.options import load_options, save_options, show_options
from fromnoise.serve.dialects.identity import Admin, Drawer
from fromnoise.serve.server import Server


def list_names(kind: str) -> list[str]:
    """The names of the files of a kind, without endings, as prompts and units have them."""
    names = [model.name for model in list_models() if model.kind == kind]
    return [name.rsplit("/", 1)[-1].rsplit(".", 1)[0] for name in names]


def add_options(router: APIRouter, server: Server) -> None:
    """The routes of options."""

    @router.get("/options")
    def get_options(client: Drawer) -> dict[str, Any]:
        """The client's options: those that it posted, and the usual ones."""
        return show_options(server, client)

    @router.post("/options")
    def set_options(values: Annotated[dict[str, Any], Body()], client: Drawer) -> None:
        """Keeps options. sd_model_checkpoint chooses the model of the client's requests."""
        save_options(server, client, values)

    @router.get("/cmd-flags")
    def get_flags(client: Drawer) -> dict[str, Any]:
        """How A1111 would have been started, as far as clients ask."""
        return {
            "api": True,
            "nowebui": True,
            "listen": not server.settings.is_local,
            "share": False,
        }


def add_lists(router: APIRouter, server: Server) -> None:
    """The routes that list things."""

    @router.get("/samplers")
    def get_samplers(client: Drawer) -> list[shapes.SamplerOut]:
        """The samplers."""
        return [
            shapes.SamplerOut(
                name=entry.label,
                aliases=[entry.name, *entry.aliases],
                options={} if entry.spacing == "uniform" else {"scheduler": entry.spacing},
            )
            for entry in SAMPLERS.values()
        ]

    @router.get("/schedulers")
    def get_schedulers(client: Drawer) -> list[shapes.SchedulerOut]:
        """The spacings of noise levels."""
        listed = [
            shapes.SchedulerOut(
                name="uniform" if entry.name == "linspace" else entry.name,
                label=entry.label,
                aliases=[entry.name, *entry.aliases],
                default_rho=7.0 if entry.name == "karras" else None,
                need_inner_model=entry.timesteps,
            )
            for entry in SPACINGS.values()
        ]
        return [shapes.SchedulerOut(name="automatic", label="Automatic"), *listed]

    @router.get("/upscalers")
    def get_upscalers(client: Drawer) -> list[shapes.UpscalerOut]:
        """The upscalers of pictures."""
        from fromnoise.pipeline.enlarging.upscale import UPSCALERS  # which loads torch

        formulas = [method.label for method in UPSCALERS.values() if not method.latent]
        networks = [model.name for model in list_models() if model.kind == "upscaler"]
        listed = [shapes.UpscalerOut(name=name, scale=4) for name in (*formulas, *networks)]
        return [shapes.UpscalerOut(name="None", scale=4), *listed]

    @router.get("/latent-upscale-modes")
    def get_latent_upscale_modes(client: Drawer) -> list[shapes.NameOut]:
        """The upscalers of latents, for the second pass."""
        from fromnoise.pipeline.enlarging.upscale import UPSCALERS

        return [shapes.NameOut(name=m.label) for m in UPSCALERS.values() if m.latent]

    @router.get("/sd-models")
    def get_models(client: Drawer) -> list[shapes.CheckpointOut]:
        """The models."""
        names = [model.name for model in server.worker.models()]
        return [shapes.CheckpointOut(title=n, model_name=n, filename=n) for n in names]

    @router.get("/loras")
    def get_loras(client: Drawer) -> list[shapes.LoraOut]:
        """The LoRAs."""
        return [
            shapes.LoraOut(name=name, alias=name, path=name, metadata={})
            for name in list_names("lora")
        ]

    @router.get("/embeddings")
    def get_embeddings(client: Drawer) -> shapes.EmbeddingsOut:
        """The textual inversions. Their shapes are not read before they are used."""
        names = ("step", "sd_checkpoint", "sd_checkpoint_name", "shape", "vectors")
        unknown: dict[str, Any] = dict.fromkeys(names)
        return shapes.EmbeddingsOut(
            loaded=dict.fromkeys(list_names("embedding"), unknown), skipped={}
        )

    @router.get("/sd-vae")
    def get_vaes(client: Drawer) -> list[shapes.FileOut]:
        """The autoencoders that may take the place of a model's own, by the option sd_vae."""
        names = [model.name for model in list_models() if model.kind == "vae"]
        return [shapes.FileOut(model_name=name, filename=name) for name in names]

    @router.get("/sd-modules")
    def get_modules(client: Drawer) -> list[shapes.FileOut]:
        """None: each model has its own parts."""
        return []

    @router.get("/hypernetworks")
    def get_hypernetworks(client: Drawer) -> list[shapes.NameOut]:
        """None."""
        return []

    @router.get("/face-restorers")
    def get_face_restorers(client: Drawer) -> list[shapes.NameOut]:
        """None."""
        return []

    @router.get("/realesrgan-models")
    def get_realesrgan_models(client: Drawer) -> list[shapes.NameOut]:
        """None of their own: see the upscalers."""
        return []

    @router.get("/prompt-styles")
    def get_styles(client: Drawer) -> list[shapes.StyleOut]:
        """None."""
        return []

    @router.get("/extensions")
    def get_extensions(client: Drawer) -> list[shapes.NameOut]:
        """None."""
        return []

    @router.get("/scripts")
    def get_scripts(client: Drawer) -> shapes.ScriptsOut:
        """ControlNet, which is built in."""
        return shapes.ScriptsOut(txt2img=["controlnet"], img2img=["controlnet"])

    @router.get("/script-info")
    def get_script_info(client: Drawer) -> list[shapes.ScriptOut]:
        """ControlNet, which is built in."""
        return [
            shapes.ScriptOut(name="controlnet", is_alwayson=True, is_img2img=image, args=[])
            for image in (False, True)
        ]


def add_memory(router: APIRouter, server: Server) -> None:
    """The routes of memory and models."""

    @router.get("/memory")
    def get_memory(client: Drawer) -> shapes.MemoryOut:
        """Memory in use, and the machine's."""
        taken = server.worker.memory()
        cuda = {"allocated": {"current": taken["gpu"]}} if "gpu" in taken else {"error": "none"}
        return shapes.MemoryOut(
            ram=measure_memory() | {"models": taken["models"], "copies": taken.get("copies", 0)},
            cuda=cuda,
        )

    @router.post("/refresh-checkpoints")
    def refresh_checkpoints(client: Drawer) -> None:
        """Does nothing: the list of models is read each time."""

    @router.post("/refresh-loras")
    def refresh_loras(client: Drawer) -> None:
        """Does nothing: the list of LoRAs is read each time."""

    @router.post("/refresh-vae")
    def refresh_vae(client: Drawer) -> None:
        """Does nothing: the list of autoencoders is read each time."""

    @router.post("/unload-checkpoint")
    def unload_checkpoint(client: Admin) -> shapes.Nothing:
        """Lets go of the models that draw nothing now."""
        server.audit.write("unload", client.name)
        for model in server.worker.models():
            if model.loaded:
                server.worker.unload(model.name)
        return shapes.Nothing()

    @router.post("/reload-checkpoint")
    def reload_checkpoint(client: Admin) -> shapes.Nothing:
        """Loads the client's model, so that its next request need not wait."""
        chosen = (
            load_options(server, client).get("sd_model_checkpoint") or server.settings.model_name
        )
        server.audit.write("load", client.name, model=chosen)
        server.worker.load(chosen)
        return shapes.Nothing()


def measure_memory() -> dict[str, Any]:
    """Bytes of this process and of the machine, where the system tells them."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        with open("/proc/self/statm") as file:
            used = page * int(file.read().split()[1])
    except (OSError, ValueError, AttributeError):
        return {"error": "this system does not tell"}
    return {"free": total - used, "used": used, "total": total}
