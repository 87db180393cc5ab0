"""The native dialect: the gallery, and boards that gather its pictures under a name."""

import json
import time
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse, StreamingResponse

from fromnoise.serve.dialects.identity import Looker, Viewer
from fromnoise.serve.dialects.native import shapes
from fromnoise.serve.dialects.native.shapes import Before, Identifier, Most
from fromnoise.serve.refusals import Refusal
from fromnoise.serve.server import Server
from fromnoise.serve.store.export import write_zip
from fromnoise.serve.store.files import PICTURES

MAKING = 0.25  # seconds for which one request makes thumbnails that are not there yet
EXPORTED = 2_000  # pictures of one zip file
FOREVER = {
    "cache-control": "private, max-age=31536000, immutable"
}  # a hash's content never changes
Search = Annotated[
    str, Query(max_length=500, pattern="^[^\0]*$", description="Words, or settings: steps:20")
]
Several = Annotated[
    str,
    Query(
        pattern=r"^[0-9a-f]{32}(,[0-9a-f]{32}){0,99}$",
        description="Ids of up to 100 pictures, with commas between them.",
    ),
]
Board = Annotated[str | None, Query(pattern=r"^[0-9a-f]{32}$")]


def add_gallery(router: APIRouter, server: Server) -> None:
    """The routes of pictures."""
    undo = server.settings.undo_seconds

    @router.get("/pictures", tags=["gallery"])
    def list_pictures(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        deleted: bool = False,
        before: Before = None,
        limit: Most = 50,
    ) -> shapes.PicturesOut:
        """The newest pictures first."""
        found = server.gallery.find(
            client.owner, search, favourite, board, deleted, before=before, most=limit
        )
        more = found[-1].number if len(found) == limit else None
        return shapes.PicturesOut(
            pictures=[shapes.show_picture(picture, undo) for picture in found], before=more
        )

    @router.get(
        "/gallery",
        tags=["gallery"],
        responses={200: {"model": shapes.GalleryOut}},
        response_class=Response,
    )
    def list_all(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        deleted: bool = False,
    ) -> Response:
        """All pictures of a search in short, the newest first; 20,000 at most. For a page that
        shows them as one long list."""
        found = server.gallery.list_short(
            client.owner, search, favourite, board, deleted, most=shapes.LISTED + 1
        )
        whole = {"pictures": found[: shapes.LISTED], "more": len(found) > shapes.LISTED}
        # without pydantic: ten thousand rows take a tenth of a second with it
        return Response(json.dumps(whole), media_type="application/json")

    @router.get("/pictures/{identifier}", tags=["gallery"])
    def get_picture(identifier: Identifier, client: Looker) -> shapes.PictureOut:
        """A picture's settings."""
        return shapes.show_picture(server.gallery.get(identifier, client.owner, True), undo)

    @router.get(
        "/pictures/{identifier}/file",
        tags=["gallery"],
        response_class=FileResponse,
        responses={200: {"content": {"image/png": {}}}},
    )
    def get_file(identifier: Identifier, client: Looker) -> FileResponse:
        """The picture as a PNG file that carries its settings."""
        picture = server.gallery.get(identifier, client.owner)
        path = server.files.path(PICTURES, picture.hash)
        if not path.is_file():
            raise Refusal(404, "not_found", "the picture's file is gone from the disk", "")
        name = f"{picture.seed}-{picture.hash[:8]}.png"
        return FileResponse(
            path,
            media_type="image/png",
            filename=name,
            headers=FOREVER,
            content_disposition_type="inline",
        )

    @router.get(
        "/pictures/{identifier}/thumbnail",
        tags=["gallery"],
        response_class=FileResponse,
        responses={200: {"content": {"image/webp": {}}}},
    )
    def get_thumbnail(identifier: Identifier, client: Looker) -> FileResponse:
        """The picture in small."""
        picture = server.gallery.get(identifier, client.owner, True)
        try:
            path = server.files.thumbnail(picture.hash)
        except FileNotFoundError:
            text = "the picture's file is gone from the disk"
            raise Refusal(404, "not_found", text, "") from None
        return FileResponse(path, media_type="image/webp", headers=FOREVER)

    @router.get("/thumbnails", tags=["gallery"])
    def list_thumbnails(of: Several, client: Viewer) -> shapes.ThumbnailsOut:
        """Many pictures in small with one request."""
        identifiers = of.split(",")
        hashes = server.gallery.find_hashes(identifiers, client.owner)
        shown: dict[str, str | None] = {}
        until = time.monotonic() + MAKING
        for identifier in identifiers:
            if shown and time.monotonic() > until:
                break
            try:
                path = server.files.thumbnail(hashes[identifier])
                shown[identifier] = shapes.embed(path.read_bytes())
            except (KeyError, OSError):
                shown[identifier] = None
        return shapes.ThumbnailsOut(thumbnails=shown)

    @router.patch("/pictures/{identifier}", tags=["gallery"])
    def change_picture(
        identifier: Identifier, change: shapes.PictureChange, client: Viewer
    ) -> shapes.PictureOut:
        """Makes a picture a favourite, or not."""
        marked = server.gallery.mark(identifier, client.owner, change.favourite)
        return shapes.show_picture(marked, undo)

    @router.delete("/pictures/{identifier}", tags=["gallery"])
    def delete_picture(identifier: Identifier, client: Viewer) -> shapes.PictureOut:
        """Deletes a picture; `undo_until` says how long it can be restored."""
        server.audit.write("delete", client.name, picture=identifier)
        return shapes.show_picture(server.gallery.delete(identifier, client.owner), undo)

    @router.post("/pictures/{identifier}/restore", tags=["gallery"])
    def restore_picture(identifier: Identifier, client: Viewer) -> shapes.PictureOut:
        """Brings a deleted picture back."""
        return shapes.show_picture(server.gallery.restore(identifier, client.owner), undo)

    @router.get(
        "/export",
        tags=["gallery"],
        response_class=StreamingResponse,
        responses={200: {"content": {"application/zip": {}}}},
    )
    def export_pictures(
        client: Viewer,
        search: Search = "",
        favourite: bool | None = None,
        board: Board = None,
        before: Before = None,
    ) -> StreamingResponse:
        """The newest pictures of a search as a zip file, with their settings; 2,000 at most."""
        found = server.gallery.find(
            client.owner, search, favourite, board, before=before, most=EXPORTED
        )
        name = {"content-disposition": 'attachment; filename="fromnoise.zip"'}
        return StreamingResponse(write_zip(found, server.files), 200, name, "application/zip")


def add_boards(router: APIRouter, server: Server) -> None:
    """The routes of boards."""

    @router.get("/boards", tags=["boards"])
    def list_boards(client: Viewer) -> list[shapes.BoardOut]:
        """All boards, oldest first."""
        return [shapes.BoardOut(**row) for row in server.gallery.boards(client.owner)]

    @router.post("/boards", status_code=201, tags=["boards"])
    def add_board(board: shapes.BoardIn, client: Viewer) -> shapes.BoardOut:
        """Makes a board."""
        return shapes.BoardOut(**server.gallery.add_board(client.name, board.name))

    @router.delete("/boards/{board}", status_code=204, tags=["boards"])
    def remove_board(board: Identifier, client: Viewer) -> None:
        """Removes a board. Its pictures stay."""
        server.gallery.remove_board(board, client.owner)

    @router.put("/boards/{board}/pictures/{identifier}", status_code=204, tags=["boards"])
    def pin_picture(board: Identifier, identifier: Identifier, client: Viewer) -> None:
        """Puts a picture on a board."""
        server.gallery.pin(board, identifier, client.owner)

    @router.delete("/boards/{board}/pictures/{identifier}", status_code=204, tags=["boards"])
    def unpin_picture(board: Identifier, identifier: Identifier, client: Viewer) -> None:
        """Takes a picture off a board."""
        server.gallery.unpin(board, identifier, client.owner)
