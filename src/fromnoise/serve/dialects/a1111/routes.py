"""The A1111 dialect, /sdapi/v1: what clients of AUTOMATIC1111's web UI send works here."""

from fastapi import APIRouter

from fromnoise.serve.dialects.a1111 import shapes
from fromnoise.serve.dialects.a1111.drawing import add_drawing, add_pictures
from fromnoise.serve.dialects.a1111.listing import add_lists, add_memory, add_options
from fromnoise.serve.dialects.a1111.orders import Orders
from fromnoise.serve.dialects.identity import describe_refusals
from fromnoise.serve.server import Server

render = shapes.render
ERRORS = describe_refusals(shapes.ErrorOut)


def make_router(server: Server) -> APIRouter:
    """The routes of the A1111 dialect."""
    router = APIRouter(prefix="/sdapi/v1", responses=ERRORS, tags=["A1111"])
    orders = Orders(server)
    add_drawing(router, server, orders)
    add_pictures(router, server, orders)
    add_options(router, server)
    add_lists(router, server)
    add_memory(router, server)
    return router


__all__ = ["make_router", "render"]
