"""A1111's API, /sdapi/v1: pictures, and how far they are."""

import json
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from fromnoise.errors import NotFound
from fromnoise.pipeline.provenance.infotext import parse
from fromnoise.serve.dialects.a1111 import shapes
from fromnoise.serve.dialects.a1111.asking import make_wish
from fromnoise.serve.dialects.a1111.orders import Order, Orders
from fromnoise.serve.dialects.a1111.telling import (
    encode,
    refuse_failed,
    show_parameters,
    write_info,
)
from fromnoise.serve.dialects.a1111.uploading import decode, open_pictures
from fromnoise.serve.dialects.identity import Drawer
from fromnoise.serve.queue.jobs import Job
from fromnoise.serve.safety.tokens import Client
from fromnoise.serve.server import Server
from fromnoise.serve.store.uploads import unpack


def add_drawing(router: APIRouter, server: Server, orders: Orders) -> None:
    """The routes that draw."""

    async def draw(client: Client, name: str, asked: shapes.Drawing) -> shapes.DrawingOut:
        wishes = []

        def submit(order: Order) -> None:
            with open_pictures(server, client) as pictures:
                wish = make_wish(asked, pictures)
                wishes.append(wish)
                values = wish.list_jobs()
                order.total = len(values)
                orders.submit(client, order, wish.kind, values, wish.model)

        order, jobs = await orders.carry_out(client, name, asked.n_iter or 1, submit)
        return await run_in_threadpool(tell, asked, wishes[0], order, jobs)

    def tell(asked: shapes.Drawing, wish: Any, order: Order, jobs: list[Job]) -> shapes.DrawingOut:
        if failed := next((j for j in jobs if j.state not in ("done", "cancelled")), None):
            raise refuse_failed(failed)
        pictures = [picture for job in jobs for picture in server.pictures_of(job)]
        sent = asked.send_images is not False
        return shapes.DrawingOut(
            images=[encode(server, p, wish.suffix) for p in pictures] if sent else [],
            parameters=show_parameters(asked),
            info=write_info(asked, wish, jobs, pictures, order.interrupted),
        )

    @router.post("/txt2img")
    async def txt2img(asked: shapes.TextToImage, client: Drawer) -> shapes.DrawingOut:
        """Draws pictures from words. The pictures are kept in the gallery too."""
        return await draw(client, "txt2img", asked)

    @router.post("/img2img")
    async def img2img(asked: shapes.ImageToImage, client: Drawer) -> shapes.DrawingOut:
        """Draws pictures from a picture, or what is white in a mask."""
        return await draw(client, "img2img", asked)

    @router.get("/progress")
    def progress(
        client: Drawer, skip_current_image: Annotated[bool, Query()] = False
    ) -> shapes.ProgressOut:
        """How far the client's own requests are."""
        return orders.tell(client, skip_current_image)

    @router.post("/interrupt")
    def interrupt(client: Drawer) -> shapes.Nothing:
        """Ends the client's own requests before their next step. What is finished comes back."""
        orders.interrupt(client)
        return shapes.Nothing()

    @router.post("/skip")
    def skip(client: Drawer) -> shapes.Nothing:
        """Ends the batch that is drawn now; the next one of n_iter is drawn."""
        orders.skip(client)
        return shapes.Nothing()


def add_pictures(router: APIRouter, server: Server, orders: Orders) -> None:
    """The routes that work on finished pictures."""

    async def enlarge(
        client: Client, asked: shapes.ExtrasIn, files: list[str]
    ) -> tuple[list[str], str]:
        notes = [
            f"{name} is ignored: there is no such thing here"
            for name in ("gfpgan_visibility", "codeformer_visibility")
            if getattr(asked, name)
        ]
        if asked.extras_upscaler_2_visibility and (asked.upscaler_2 or "None") != "None":
            notes.append("upscaler_2 is ignored: one upscaler enlarges")

        def submit(order: Order) -> None:
            with open_pictures(server, client) as pictures:
                values = []
                for i, file in enumerate(files):
                    upload = pictures.add(file, f"picture {i}")
                    values.append({"image": upload.id, **read_extras(asked, upload)})
                orders.submit(client, order, "upscale", values, None)

        _, jobs = await orders.carry_out(client, "extras", len(files), submit)

        def tell() -> tuple[list[str], str]:
            if failed := next((j for j in jobs if j.state not in ("done", "cancelled")), None):
                raise refuse_failed(failed)
            pictures = [picture for job in jobs for picture in server.pictures_of(job)]
            lines = [*notes, *(picture.infotext for picture in pictures)]
            html = "".join(f"<p>{escape(line)}</p>" for line in lines)
            return [encode(server, picture) for picture in pictures], html

        return await run_in_threadpool(tell)

    @router.post("/extra-single-image")
    async def extra_single_image(asked: shapes.ExtraIn, client: Drawer) -> shapes.ExtraOut:
        """Enlarges a picture. An upscaler "None" leaves its size."""
        images, html = await enlarge(client, asked, [asked.image])
        return shapes.ExtraOut(image=images[0] if images else "", html_info=html)

    @router.post("/extra-batch-images")
    async def extra_batch_images(
        asked: shapes.ExtraBatchIn, client: Drawer
    ) -> shapes.ExtraBatchOut:
        """Enlarges pictures."""
        images, html = await enlarge(client, asked, [file.data for file in asked.imageList])
        return shapes.ExtraBatchOut(images=images, html_info=html)

    @router.post("/png-info")
    def png_info(asked: shapes.PictureIn, client: Drawer) -> shapes.PngInfoOut:
        """The settings that a picture's file has in A1111's format."""
        text = unpack(decode(asked.image, "image"), server.settings.limits)[1]["infotext"]
        if not text:
            return shapes.PngInfoOut(info="", items={}, parameters={})
        info = parse(text)
        found = {"Prompt": info.prompt, "Negative prompt": info.negative_prompt, **info.fields}
        wide, _, high = info.fields.get("Size", "").partition("x")
        found |= {"Size-1": wide, "Size-2": high} if high else {}
        return shapes.PngInfoOut(info=text, items={}, parameters=found)

    @router.post("/interrogate")
    async def interrogate(asked: shapes.InterrogateIn, client: Drawer) -> shapes.CaptionOut:
        """A picture in words, as the model's CLIP sees it."""
        if (asked.model or "clip").lower() != "clip":
            raise NotFound("Model not found", "the model is clip")

        def submit(order: Order) -> None:
            with open_pictures(server, client) as pictures:
                values = {"image": pictures.add(asked.image, "image").id, "top": 1}
                orders.submit(client, order, "describe", [values], find_model(client))

        _, jobs = await orders.carry_out(client, "interrogate", 1, submit)
        if jobs[0].state != "done":
            raise refuse_failed(jobs[0])
        answer = json.loads(jobs[0].answer or "{}")
        return shapes.CaptionOut(caption=answer["captions"][0]["caption"])

    def find_model(client: Client) -> str | None:
        from fromnoise.serve.dialects.a1111.options import load_options

        return load_options(server, client).get("sd_model_checkpoint")


def read_extras(asked: shapes.ExtrasIn, upload: Any) -> dict[str, Any]:
    """How an upload is enlarged, in the house's words."""
    if asked.upscaler_1.lower() == "none":
        return {"upscaler": "lanczos", "scale": 1.0}  # as it is
    found: dict[str, Any] = {"upscaler": asked.upscaler_1}
    wide, high = asked.upscaling_resize_w, asked.upscaling_resize_h
    if asked.resize_mode == 0:
        return found | {"scale": asked.upscaling_resize}
    if asked.upscaling_crop:
        return found | {"width": wide, "height": high, "resize": "crop"}
    return found | {"scale": max(wide / upload.width, high / upload.height)}
