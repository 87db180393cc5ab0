"""Hostile metadata: no traceback, little time and memory, and an error that says what is wrong."""

import json
import struct
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from fromnoise.errors import FromnoiseError
from fromnoise.pipeline.provenance.fields import to_request
from fromnoise.pipeline.provenance.read import read_settings, read_text
from fromnoise.pipeline.request import GenerationRequest

TEXT = "a red fox\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5"
SECONDS = 4  # of the processor: 0.9 are measured at most, and other machines are slower
MEMORY = 200 << 20


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", right)


def png(*parts: bytes, behind: bytes = b"") -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(25 * 8)))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(parts) + pixels + behind + end


def text(keyword: str, content: str | bytes) -> bytes:
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return chunk(b"tEXt", keyword.encode() + b"\0" + raw)


def packed(keyword: str, content: bytes) -> bytes:
    return chunk(b"zTXt", keyword.encode() + b"\0\0" + zlib.compress(content, 9))


def exif(*tables: bytes, order: str = "<", start: int = 8) -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(f"{order}I", start) + b"".join(tables)


def table(*entries: tuple[int, int, int, int], order: str = "<") -> bytes:
    rows = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + rows + bytes(4)


def segment(code: int, body: bytes) -> bytes:
    return bytes((0xFF, code)) + struct.pack(">H", len(body) + 2) + body


def jpeg(*parts: bytes) -> bytes:
    sizes = segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0")
    return b"\xff\xd8" + b"".join(parts) + sizes + b"\xff\xda\0\2\xff\xd9"


def riff(*parts: tuple[bytes, bytes], length: int | None = None) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for name, data in parts
    )
    size = len(body) + 4 if length is None else length
    return b"RIFF" + struct.pack("<I", size) + b"WEBP" + body


def gif(*blocks: bytes, flags: int = 0) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 8, 8, flags, 0, 0) + b"".join(blocks) + b";"


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph(**nodes) -> str:
    return json.dumps(
        {
            "3": node(
                "KSampler",
                seed=1,
                steps=2,
                cfg=7,
                sampler_name="euler",
                scheduler="normal",
                model=["4", 0],
                positive=["c0", 0],
                negative=["7", 0],
                latent_image=["5", 0],
            )
        }
        | nodes
    )


NUMBERS = ("9" * 5_000, "-1", "1e999", "nan", "NaN", "inf", "0x10", "1_000", "１２", "", "true")
KEYS = ("Seed", "Steps", "CFG scale", "Size", "Clip skip", "Threads", "RNG", "Sampler options")
VALUES = (10**400, -1, 1e308, None, True, [], {}, "x" * 100_000, "\ud800", [["a"]], {"a": {}})


def make_texts() -> Iterator[tuple[str, bytes]]:
    """Texts that are no settings, or settings that are no values."""
    for number in NUMBERS:
        for key in KEYS:
            line = f"a\nSteps: 1, Sampler: Euler, Seed: 1, {key}: {number}, Version: fromnoise 1"
            yield f"text {key} {number[:9]}", png(text("parameters", line))
    many = "".join(f"key {i}: {i}, " for i in range(50_000))
    yield "text many keys", png(text("parameters", f"a\nSteps: 1, Seed: 1, {many}"))
    yield "text lone surrogates", png(text("parameters", f"\ud800{TEXT}, Ab: \udfff"))
    yield "text escape sequences", png(text("parameters", f"\x1b[2J{TEXT}, Ab\x9b: \x1b]0;x\x07"))
    yield "text NULs", png(text("parameters", b"\0" * 100_000 + TEXT.encode()))
    yield "text 4 MB of quotes", png(text("parameters", '"' * 4_000_000))
    yield "text 15 MB", png(text("parameters", "a, " * 5_000_000))
    yield "text all keywords", png(*(text(k, "{" * 9_000) for k in ("prompt", "sd-metadata")))


def make_json() -> Iterator[tuple[str, bytes]]:
    """JSON of programs, with other values than theirs."""
    wholes = {
        "parameters": {"sui_image_params": {"prompt": "a", "seed": 1, "steps": 2}},
        "sd-metadata": {"app_version": "2", "image": {"prompt": "a", "seed": 1, "sampler": "x"}},
        "invokeai_metadata": {"app_version": "3", "positive_prompt": "a", "seed": 1, "steps": 1},
    }
    for name, whole in wholes.items():
        inner = next((v for v in whole.values() if isinstance(v, dict)), whole)
        for key in list(inner):
            for number, value in enumerate(VALUES):
                kept = inner[key]
                inner[key] = value
                yield f"json {name} {key} {number}", png(text(name, json.dumps(whole)))
                inner[key] = kept
    yield "json deep", png(text("prompt", '{"a":' * 800_000))
    yield "json deep lists", png(text("prompt", '{"a":' + "[" * 3_000_000))
    yield "json deep in a node", png(text("prompt", '{"1":{"inputs":{"a":' + "[" * 99_999))
    chain = {
        f"c{i}": node("ConditioningSetArea", conditioning=[f"c{i + 1}", 0]) for i in range(20_000)
    }
    yield "json chain", png(text("prompt", graph(**chain)))
    circle = {f"c{i}": node("X", text=[f"c{(i + 1) % 9_999}", 0]) for i in range(9_999)}
    yield "json circle", png(text("prompt", graph(**circle)))
    samplers = {
        f"c{i}": node("KSampler", sampler_name="euler", steps=1, cfg=1, positive=[f"c{i + 1}", 0])
        for i in range(9_999)
    }
    yield "json samplers", png(text("prompt", graph(**samplers)))
    for number, link in enumerate(
        ([], ["c0"], ["c0", 0, 0], [None, 0], [["c0"], 0], [1e9, 0], "c0")
    ):
        yield f"json link {number}", png(text("prompt", graph(c0=node("X", a=link, text=link))))
    for number, kind in enumerate((None, 1, [], {}, "\x1b[2J" * 9, "K" * 100_000)):
        odd = {"class_type": kind, "inputs": {"text": "a", "\ud800": 1}}
        yield f"json kind {number}", png(text("prompt", graph(c0=odd)))


def make_pngs() -> Iterator[tuple[str, bytes]]:
    whole = png(text("parameters", TEXT))
    for end in range(8, len(whole), 17):
        yield f"png cut at {end}", whole[:end]
    yield "png bomb of 1 GB", png(make_bomb())
    yield "png ten bombs", png(*[make_bomb()] * 10)
    yield "png bomb in iTXt", png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + make_bomb()[20:-4]))
    yield "png wrong checksum", png(chunk(b"tEXt", b"parameters\0" + TEXT.encode(), 1))
    yield "png length beyond the file", png(struct.pack(">I", 1 << 30) + b"tEXtparameters\0a")
    yield "png length beyond all", png(struct.pack(">I", (1 << 32) - 1) + b"tEXtparameters\0a")
    yield "png million parts", png(chunk(b"teXt", b"") * 1_000_000)
    yield "png a million texts", png(text("parameters", "a") * 90_000)
    yield "png no IHDR", b"\x89PNG\r\n\x1a\n" + text("parameters", TEXT)
    yield "png no name", png(chunk(b"\0\0\0\0", b"a"))
    yield "png no separator", png(chunk(b"tEXt", b"parameters"), chunk(b"zTXt", b"parameters\0"))
    yield (
        "png text cut in the packing",
        png(chunk(b"zTXt", b"parameters\0\0" + zlib.compress(TEXT.encode())[:9])),
    )
    yield "png text packed wrongly", png(chunk(b"zTXt", b"parameters\0\0not zlib"))
    yield "png profile", png(text("Raw profile type exif", "\nexif\n 9\nzz"))
    yield "png profile without lines", png(text("Raw profile type APP1", ""))
    for side in (0, 1 << 31, (1 << 32) - 1):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        yield f"png {side} pixels wide", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IEND", b"")


def make_exif() -> Iterator[tuple[str, bytes]]:
    """EXIF that leads astray, in all the files that carry it."""
    blocks = {
        "junk": b"junk",
        "nothing": b"",
        "only a head": b"II*\0",
        "beyond the end": exif(start=1 << 31),
        "itself": exif(table((0x8769, 4, 1, 8))),
        "65,535 entries": exif(struct.pack("<H", 65_535)),
        "a value beyond the end": exif(table((0x9286, 7, 99, 1 << 31))),
        "4 GB": exif(table((0x9286, 7, (1 << 32) - 1, 0), (0x0110, 12, 1 << 31, 0))),
        "4,096 times the whole": exif(table(*[(0x0110, 2, 9_000, 8)] * 4_096)),
        "no type": exif(table((0x0110, 999, 3, 0))),
        "half a character": exif(table((0x9286, 7, 3, 0))),
        "high byte first": exif(table((0x8769, 4, 1, 99), order=">"), order=">"),
        "a comment in UTF-16": exif(
            table((0x8769, 4, 1, 26)), table((0x9286, 7, 11, 44)), b"UNICODE\0\xd8\0x"
        ),
    }
    for name, block in blocks.items():
        yield f"png exif {name}", png(chunk(b"eXIf", block))
        yield f"jpeg exif {name}", jpeg(segment(0xE1, (b"Exif\0\0" + block)[:65_000]))
        yield f"webp exif {name}", riff((b"EXIF", block))
        yield f"tiff {name}", block


def make_others() -> Iterator[tuple[str, bytes]]:
    whole = jpeg(segment(0xFE, b"parameters\0" + TEXT.encode()))
    for end in range(3, len(whole), 19):
        yield f"jpeg cut at {end}", whole[:end]
    yield "jpeg of 10 MB of fill bytes", b"\xff\xd8" + b"\xff" * 10_000_000
    yield "jpeg of a million segments", b"\xff\xd8" + segment(0xFE, b"") * 1_000_000
    yield "jpeg without a length", b"\xff\xd8\xff\xfe\0\0"
    yield "jpeg without a marker", b"\xff\xd8\xff\xfe\0\2abc"
    yield "jpeg with 65,535 pixels a side", jpeg(segment(0xC0, b"\x08\xff\xff\xff\xff\1"))
    yield "jpeg with XMP", jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<sdcpp:parameters>"))
    xmp = b"<sdcpp:parameters>" + b"&#9;" * 900_000 + b"</sdcpp:parameters>"
    yield "webp with entities", riff((b"XMP ", xmp))
    bomb = (
        b'<!DOCTYPE a [<!ENTITY b "' + b"b" * 999 + b'">]><sdcpp:parameters>&b;</sdcpp:parameters>'
    )
    yield "webp with an entity of its own", riff((b"XMP ", bomb))
    yield "webp length beyond the file", riff((b"VP8 ", b""))[:-4] + b"\xff\xff\xff\x7f"
    yield "webp of a million parts", riff(*[(b"abcd", b"")] * 1_000_000)
    yield "webp of nothing", riff()
    yield "gif of nothing", b"GIF89a"
    yield "gif without an end", gif()[:-1]
    yield "gif of a million comments", gif(b"!\xfe\1a\0" * 300_000)
    yield "gif with 50 MB of comment", gif(b"!\xfe" + (b"\xff" + b"a" * 255) * 200_000 + b"\0")
    yield "gif with a palette beyond the end", gif(flags=0xF7)
    for name, start in {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "PDF": b"%PDF-1.7\n",
        "SVG": b"<svg/>",
        "text": b"hello",
        "nothing": b"",
        "zip": b"PK\3\4",
        "HEIC": b"\0\0\0\x18ftypheic",
        "PSD": b"8BPS\0\1",
        "ICO": b"\0\0\1\0",
        "FLI": b"\0" * 128,
    }.items():
        yield f"no picture but {name}", start


@cache
def make_bomb() -> bytes:
    """A text of 300 MB, packed to a hundredth of that."""
    engine, block = zlib.compressobj(1), bytes(1 << 20)
    body = b"".join(engine.compress(block) for _ in range(300)) + engine.flush()
    return chunk(b"zTXt", b"parameters\0\0" + body)


MAKERS = (make_texts, make_json, make_pngs, make_exif, make_others)


def read_hostile(path: Path) -> FromnoiseError | None:
    """Reads all that a file says, as `fromnoise settings` does; the error where it is refused."""
    try:
        request, unused = to_request(read_settings(path))
        read_text(path)
    except FromnoiseError as error:
        return error
    GenerationRequest.of(**request)
    assert len(json.dumps(unused)) < 5_000_000
    return None


@pytest.mark.parametrize("make", MAKERS)
def test_hostile_files(tmp_path, make):
    """Each is read, or refused with its name and a remedy, in little time and memory."""
    path = tmp_path / "hostile.png"
    for name, content in make():
        path.write_bytes(content)
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            error = read_hostile(path)
        assert time.process_time() - start < SECONDS, name
        if error is not None:
            assert error.remedy, name
            assert "hostile.png" in error.message, name
            assert "\x1b" not in str(error), name
        if (
            len(content) > 20_000 and "million" not in name
        ):  # tracing takes long where parts are many
            tracemalloc.start()
            read_hostile(path)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < MEMORY, (name, peak >> 20)


def test_there_are_enough_of_them():
    assert sum(1 for make in MAKERS for _ in make()) >= 300


def test_what_stands_before_the_damage_is_read(tmp_path):
    """A text before the place where a file is cut off is used, and the damage is told."""
    whole = png(text("parameters", TEXT))
    (tmp_path / "a.png").write_bytes(whole[:-20])
    request, unused = to_request(read_settings(tmp_path / "a.png"))
    assert request["seed"] == 5
    assert "cut off" in unused["file"]


def test_good_files_of_each_kind(tmp_path):
    """So that the hostile ones above are not refused for another reason."""
    comment = segment(0xFE, b"parameters\0" + TEXT.encode())
    user = b"ASCII\0\0\0" + TEXT.encode()
    block = exif(table((0x8769, 4, 1, 26)), table((0x9286, 7, len(user), 44)), user)
    good = {
        "png": png(text("parameters", TEXT)),
        "png behind": png(behind=packed("parameters", TEXT.encode())),
        "png exif": png(chunk(b"eXIf", block)),
        "jpeg": jpeg(comment),
        "jpeg exif": jpeg(segment(0xE1, b"Exif\0\0" + block)),
        "webp": riff((b"VP8 ", b"a"), (b"EXIF", block)),
        "tiff": block,
        "gif": gif(b"!\xfe" + bytes((len(TEXT),)) + TEXT.encode() + b"\0"),
        "profile": png(text("Raw profile type exif", f"\nexif\n {len(block)}\n{block.hex()}")),
    }
    for name, content in good.items():
        path = tmp_path / "a.png"
        path.write_bytes(content)
        assert read_text(path) == TEXT, name


def test_folders_and_names_that_are_none(tmp_path):
    for path in (tmp_path, tmp_path / "none.png", Path("a\0b.png"), tmp_path / ("a" * 300)):
        with pytest.raises(FromnoiseError) as error:
            read_settings(path)
        assert error.value.remedy


def test_pixels_stay_undecoded(tmp_path, monkeypatch):
    """Reading settings opens no picture where the file says them itself."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png(text("parameters", TEXT)))
    monkeypatch.setattr(Image, "open", None)
    assert read_settings(tmp_path / "b.png").fields["Seed"] == "5"
