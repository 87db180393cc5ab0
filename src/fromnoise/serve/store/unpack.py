"""A process of its own that reads one foreign picture, with limits of memory and time.

From its input: a line of JSON (bytes of memory, seconds, pixels, what is wanted), then the file. To
its output: a line of JSON (size, notes, settings that the file brought; or what is wrong), then a
PNG file of its pixels, or a "thumbnail": a WebP file of at most `side` pixels a side.
"""

import json
import os
import sys
from io import BytesIO
from typing import Any

LONGEST = 200_000  # letters of settings that stay in the file


def limit(memory: int, seconds: float) -> None:
    """From here on this process gets no more memory and processor time, and writes no file."""
    if os.name != "posix":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    whole = int(seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Reads, decodes, answers."""
    # more threads of a library that numpy brings would take address space, and have no work
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    bounds = json.loads(sys.stdin.buffer.readline())
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    from fromnoise.errors import BadInput, FromnoiseError
    from fromnoise.pipeline.pictures import read_picture

    if bounds["what"] != "thumbnail":
        from fromnoise.pipeline.provenance import fields, hidden, read  # noqa: F401  before the limit

    limit(bounds["memory"], bounds["seconds"])
    data, answer, png = sys.stdin.buffer.read(), {}, BytesIO()
    try:
        if bounds["what"] == "settings":
            return send(describe(BytesIO(data)))
        notes: dict[str, None] = {}
        picture = read_picture(BytesIO(data), notes)
        if picture.width * picture.height > bounds["pixels"]:
            raise BadInput(
                f"the picture has {picture.width}x{picture.height} pixels",
                f"give one of at most {bounds['pixels']:,}",
            )
        if bounds["what"] == "thumbnail":
            picture.thumbnail((bounds["side"], bounds["side"]), Image.Resampling.LANCZOS)
            picture.save(png, "WEBP", quality=85)
            return send({"size": picture.size}, png.getvalue())
        from fromnoise.pipeline.provenance.read import find_text

        text = (find_text(BytesIO(data)) or "").replace("\0", "").encode(errors="replace").decode()
        kept = PngInfo()
        if 0 < len(text) <= LONGEST:
            kept.add_text("parameters", text)
        picture.save(png, "PNG", compress_level=1, pnginfo=kept)
        answer = {"size": picture.size, "notes": [*notes], "infotext": text}
    except FromnoiseError as error:
        answer, png = {"message": error.message, "remedy": error.remedy}, BytesIO()
    except MemoryError:
        answer = {"message": "the picture takes too much memory", "remedy": "give a smaller one"}
        png = BytesIO()
    send(answer, png.getvalue())


def send(answer: dict, png: bytes = b"") -> None:
    """Writes the answer."""
    sys.stdout.buffer.write(json.dumps(answer, default=str).encode() + b"\n" + png)


def describe(file: BytesIO) -> dict:
    """The settings that a picture carries, as a request of a kind takes them. Raises BadInput."""
    from fromnoise.pipeline.provenance.fields import to_edit, to_hires, to_request
    from fromnoise.pipeline.provenance.infotext import find_maker
    from fromnoise.pipeline.provenance.read import read_open_settings

    info = read_open_settings(file)
    settings, unused = to_request(info)
    more = check_hires(to_hires(info), unused)
    if not more and to_edit(info):
        unused["Denoising strength"] = "it was drawn from another picture, which the file has not"
    return {
        "maker": find_maker(info.fields),
        "kind": "hires" if more else "generate",
        # a number that JavaScript cannot count goes as text
        "settings": {
            name: str(value) if isinstance(value, int) and abs(value) > 2**53 else value
            for name, value in (settings | more).items()
        },
        "unused": unused,
    }


def check_hires(values: dict[str, Any], unused: dict[str, str]) -> dict[str, Any]:
    """The settings of a second pass that a HiresRequest takes; none without a size. Their keys
    leave `unused`, where the others get the reason."""
    from fromnoise.diffusion import samplers, spacing
    from fromnoise.errors import FromnoiseError, escape
    from fromnoise.pipeline.enlarging.request import HiresRequest
    from fromnoise.pipeline.provenance.fields import HIRES
    from fromnoise.pipeline.request import is_automatic

    keys = {name: key for key, name in HIRES.items()}
    taken, told = {}, set()
    for name, value in values.items():
        key = keys.get(name, "Hires resize")
        try:
            if name == "hires_sampler":
                value = samplers.parse(value)[0].name
            elif name == "hires_spacing" and not is_automatic(value):
                value = spacing.find(value).name
            taken[name] = getattr(HiresRequest.of(**{name: value}), name)
            told.add(key)
        except FromnoiseError as error:
            unused[key] = f"{escape(value)} ({escape(error.remedy)[:200]})"
    if not taken.keys() & {"hires_scale", "hires_width", "hires_height"}:
        return {}
    for key in told:
        unused.pop(key, None)
    return taken


if __name__ == "__main__":
    main()
