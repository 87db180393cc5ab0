"""Pictures → a GIF, or an MP4 by PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from fromnoise.errors import BadInput, NotFound
from fromnoise.files import write_file

PIXELS = 300_000_000  # of all frames of a GIF, which are in memory together
SAMPLED = 48  # frames that the colours of a GIF are chosen from
# x264's machine code reads memory that nobody wrote, and would give other bytes each time
MP4 = {"crf": "15", "x264-params": "asm=0"}
# frames a second of a GIF: it counts hundredths of a second, and players take 1 for 10
FASTEST = 50


def check_film(kind: str, size: tuple[int, int], frames: int, fps: float) -> None:
    """Raises what `write_film` would, before any frame is drawn. kind: ".gif" or ".mp4"; size:
    (width, height)."""
    if kind == ".mp4":
        if find_spec("av") is None:
            raise NotFound(
                "MP4 files need PyAV, and it is not installed",
                "pip install 'fromnoise[film]', or name a .gif or a folder",
            )
        if size[0] % 2 or size[1] % 2:
            raise BadInput(
                f"an MP4 of {size[0]}x{size[1]} pixels has an odd side",
                "give even sides, or name a .gif",
            )
    elif fps > FASTEST:
        raise BadInput(
            f"a GIF cannot show {fps:g} frames a second",
            f"give --fps {FASTEST} or less, or name an .mp4",
        )
    elif size[0] * size[1] * frames > PIXELS:
        raise BadInput(
            f"{frames} frames of {size[0]}x{size[1]} are too many for a GIF",
            "name an .mp4 or a folder",
        )


def write_film(
    path: Path,
    pictures: Iterable[Image.Image],
    fps: float,
    text: str,
    kind: str | None = None,
    overwrite: bool = True,
) -> Path:
    """Writes pictures of one size as they come, and returns the path.

    text: the settings, as the file's comment; kind: ".gif" or ".mp4", as the path's suffix says if
    left out; overwrite=False: a name that is taken gets a number (see `files.write_file`). Raises
    BadInput.
    """
    is_mp4 = (kind or path.suffix.lower()) == ".mp4"
    write = _write_mp4 if is_mp4 else _write_gif
    return write_file(path, lambda part: write(part, pictures, fps, text), overwrite=overwrite)


def read_comment(path: Path) -> str | None:
    """The comment in an MP4 file. Raises NotFound, and BadInput for what is no MP4 file."""
    check_film(".mp4", (2, 2), 1, 1)
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path)) as file:
            return file.metadata.get("comment")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "look for a slip in its name") from error
    except (FFmpegError, OSError, UnicodeDecodeError) as error:
        raise BadInput(f"cannot read {path}: {error}", "give a whole MP4") from error


def _write_gif(path: Path, pictures: Iterable[Image.Image], fps: float, text: str) -> None:
    """All frames share one palette, of their common colours, and one pattern of dots that does not
    move: so what stands still does not flicker."""
    pictures = [*pictures]
    width, height = pictures[0].size
    some = pictures[:: -(-len(pictures) // SAMPLED)]
    sheet = Image.new("RGB", (width, height * len(some)))
    for i, picture in enumerate(some):
        sheet.paste(picture, (0, i * height))
    palette = sheet.quantize(256, kmeans=4)
    dots = (
        np.tile(_make_bayer_matrix(3), (-(-height // 8), -(-width // 8)))[:height, :width, None]
        * 8.0
    )
    drawn = [
        Image.fromarray((np.asarray(p) + dots).round().clip(0, 255).astype(np.uint8))
        for p in pictures
    ]
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in drawn]
    ends = [round(100 * i / fps) for i in range(len(drawn) + 1)]  # hundredths; on average exact
    durations = [10 * (b - a) for a, b in pairwise(ends)]
    data = BytesIO()
    drawn[0].save(
        data,
        "GIF",
        save_all=True,
        append_images=drawn[1:],
        duration=durations,
        loop=0,
        optimize=False,
        comment=text.encode(),
    )
    path.write_bytes(data.getbuffer())


def _make_bayer_matrix(order: int) -> np.ndarray:
    """Thresholds in (−½, ½) for ordered dithering, (2^order, 2^order) (Bayer 1973)."""
    pattern = np.zeros((1, 1))
    for _ in range(order):
        pattern = np.block([[4 * pattern, 4 * pattern + 2], [4 * pattern + 3, 4 * pattern + 1]])
    return (pattern + 0.5) / pattern.size - 0.5


def _write_mp4(path: Path, pictures: Iterable[Image.Image], fps: float, text: str) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        file.metadata["comment"] = text
        stream = None
        for picture in pictures:
            if stream is None:
                stream = file.add_stream("libx264", Fraction(fps).limit_denominator(1001), MP4)
                stream.width, stream.height = picture.size
                stream.pix_fmt = "yuv420p"  # which every player knows
                codec = stream.codec_context
                codec.thread_count = 1  # so that the bytes are the same on every machine
                codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
                codec.color_range = 1  # limited
            frame = av.VideoFrame.from_image(picture)
            frame = frame.reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            file.mux(stream.encode(frame))
        if stream is not None:
            file.mux(stream.encode())
