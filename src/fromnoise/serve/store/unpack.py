"""A process of its own that reads one foreign picture, with limits of memory and time.

From its input: a line of JSON (bytes of memory, seconds, pixels), then the file. To its output: a
line of JSON (size, notes, settings that the file brought; or what is wrong), then a PNG file.
"""

import json
import os
import sys
from io import BytesIO

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
    from PIL.PngImagePlugin import PngInfo

    from fromnoise.errors import BadInput, FromnoiseError
    from fromnoise.pipeline.pictures import read_picture
    from fromnoise.pipeline.provenance.read import find_text

    limit(bounds["memory"], bounds["seconds"])
    data, answer, png = sys.stdin.buffer.read(), {}, BytesIO()
    try:
        notes: dict[str, None] = {}
        picture = read_picture(BytesIO(data), notes)
        if picture.width * picture.height > bounds["pixels"]:
            raise BadInput(
                f"the picture has {picture.width}x{picture.height} pixels",
                f"give one of at most {bounds['pixels']:,}",
            )
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
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + png.getvalue())


if __name__ == "__main__":
    main()
