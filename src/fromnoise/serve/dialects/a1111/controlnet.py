"""The lists of A1111's ControlNet extension, /controlnet, which clients show."""

from typing import Any

from fastapi import APIRouter

from fromnoise.pipeline.addons.preprocessors import PREPROCESSORS
from fromnoise.serve.dialects.a1111 import shapes
from fromnoise.serve.dialects.a1111.listing import list_names
from fromnoise.serve.dialects.a1111.routes import ERRORS
from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.server import Server

render = shapes.render


def make_router(server: Server) -> APIRouter:
    """The routes of the extension."""
    router = APIRouter(prefix="/controlnet", responses=ERRORS, tags=["A1111"])

    @router.get("/version")
    def get_version(client: Drawer) -> dict[str, int]:
        """The version of the extension's API."""
        return {"version": 3}

    @router.get("/model_list")
    def get_models(client: Drawer) -> dict[str, list[str]]:
        """The ControlNets and T2I-Adapters."""
        return {"model_list": [*list_names("controlnet"), *list_names("t2i-adapter")]}

    @router.get("/module_list")
    def get_modules(client: Drawer) -> dict[str, Any]:
        """The preprocessors."""
        labels = [entry.label for entry in PREPROCESSORS.values()]
        details = {label: {"model_free": False, "sliders": []} for label in labels}
        return {"module_list": labels, "module_detail": details}

    @router.get("/settings")
    def get_settings(client: Drawer) -> dict[str, int]:
        """How many units a request may have."""
        return {"control_net_unit_count": 16}

    return router


__all__ = ["make_router", "render"]
