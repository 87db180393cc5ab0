"""Sticker scenes: emoji objects in five styles on drawn backgrounds, exactly labelled, endless by
seed."""

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from fromnoise.data.source import SPLITS, Sample
from fromnoise.data.sources.sticker_backgrounds import DARK, paint
from fromnoise.data.sources.sticker_words import (
    BACKGROUNDS,
    COLOURS,
    COUNTS,
    OBJECTS,
    POSITIONS,
    RELATIONS,
    SIZES,
    STYLES,
    list_names,
    write_caption,
    write_plain_caption,
)
from fromnoise.errors import BadInput, NotFound, UnknownName

VERSION = 2  # it grows whenever the same seed draws another picture
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",  # Debian, Ubuntu
    "/usr/share/fonts/google-noto-color-emoji-fonts/NotoColorEmoji.ttf",  # Fedora
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",  # Arch
    "/usr/share/fonts/noto-emoji/NotoColorEmoji.ttf",  # Alpine
    "~/.local/share/fonts/NotoColorEmoji.ttf",
    "~/.fonts/NotoColorEmoji.ttf",
    "~/Library/Fonts/NotoColorEmoji.ttf",
)
HELD_OUT_SHARE = 0.04
STYLE_WEIGHTS = {"plain": 0.24, "neon": 0.22, "sketch": 0.18, "pixel art": 0.18, "silhouette": 0.18}
# an object's longest side, as a share of the picture's side
SIDES = {"small": 34 / 128, "medium": 57 / 128, "large": 88 / 128, "pair": 50 / 128}
# the distance of "left", "top", … from the centre
OFFSETS = {"small": 0.31, "medium": 0.25, "large": 0.145}
CANVASES = 32  # canvases for each background; cropped and flipped, each gives many pictures
INK = np.array([46.0, 46.0, 54.0])
PAPER = np.array([250.0, 247.0, 238.0])
SLATE = np.array([44.0, 50.0, 60.0])
# the colour around an object, for an aura of alpha 1: a shadow on light backgrounds, light on dark
# ones
SHADOW, LIGHT, NIGHT = (
    np.array(c, np.float32) / 255 for c in ((20, 22, 40), (220, 226, 245), (8, 6, 18))
)
WEIGHT = 100  # by which a colour's weight, 0 … 2.55, becomes a byte


def is_held_out(object: str, style: str, background: str) -> bool:
    """Whether a combination is kept out of training. BLAKE2b of "object|style|background" chooses
    4 % of all.

    The neon cat in space, the project's first picture, is never kept out.
    """
    if (object, style, background) == ("cat", "neon", "space"):
        return False
    digest = hashlib.blake2b(f"{object}|{style}|{background}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < HELD_OUT_SHARE * 2**64


@lru_cache
def list_held_out() -> tuple[tuple[str, str, str], ...]:
    """All held-out (object, style, background)."""
    return tuple(
        (o, s, b) for o in OBJECTS for s in STYLES for b in BACKGROUNDS if is_held_out(o, s, b)
    )


def find_font(font: str | os.PathLike[str] | None = None) -> Path:
    """Finds Noto Color Emoji: `font`, else the file that FROMNOISE_FONT names, else in the usual
    places. Raises NotFound, with the remedy."""
    asked = font or os.environ.get("FROMNOISE_FONT")
    places = [Path(p).expanduser() for p in ([asked] if asked else FONTS)]
    for path in places:
        if path.is_file():
            return path
    raise NotFound(
        f"no Noto Color Emoji font; looked for {', '.join(map(str, places))}",
        "apt install fonts-noto-color-emoji, or name the file with font=… or FROMNOISE_FONT",
    )


def _blur(a: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of (h, w) in [0, 1]."""
    image = Image.fromarray((a * 255).round().astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _step(a: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((a - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _luminance(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Luminance (h, w) stretched so that the object's own 4th and 96th percentiles are 0 and 1."""
    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    inside = grey[alpha > 0.5]
    low, high = np.percentile(inside, [4, 96])
    return np.clip((grey - low) / max(high - low, 24.0), 0, 1)


def _lines(rgb: np.ndarray, alpha: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """(outline, inner edges), each (h, w) in [0, 1]; `width` in pixels."""
    b = _blur(alpha, width)
    outline = _step(4 * b * (1 - b), 0.35, 0.85)
    edges = np.zeros_like(alpha)
    for channel in range(3):
        c = _blur(rgb[..., channel] / 255, width * 0.6)
        gy, gx = np.gradient(c)
        edges = np.maximum(edges, np.hypot(gx, gy))
    inside = _step(_blur(alpha, width), 0.8, 0.97)
    return outline, _step(edges * width, 0.055, 0.15) * inside


def _hatching(shape: tuple[int, int], period: float, sign: int) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return _step(np.sin((x + sign * y) * 2 * np.pi / period / np.sqrt(2)), 0.1, 0.7)


class Stickers:
    """The `stickers` source. size: pixels of a side, 32 to 512; font: the Noto Color Emoji file;
    None: find it.

    A scene is one object (65 %), a row of two or three (15 %), or two objects in a relation (20 %)
    that share style and colour; `object` is the left or the upper one. Where a caption says nothing
    else, the style is plain, the colours are natural, the place is the centre and the size is
    medium. But a neon or a silhouette without a stated colour has any colour. `count` counts
    `object`."""

    details = ("background", "style", "colour", "size")

    def __init__(self, size: int = 128, font: str | os.PathLike[str] | None = None):
        if type(size) is not int or not 32 <= size <= 512:
            raise BadInput(f"size: stickers of {size!r} pixels", "choose a size from 32 to 512")
        if not isinstance(font, str | os.PathLike | None):
            raise BadInput(f"font = {font!r} is no path", "name the file of Noto Color Emoji")
        self.size = size
        self._font = font
        self.schema: dict[str, tuple[str, ...]] = {
            "object": tuple(OBJECTS),
            "style": tuple(STYLES),
            "colour": tuple(COLOURS),
            "background": tuple(BACKGROUNDS),
            "position": tuple(POSITIONS),
            "size": tuple(SIZES),
            "count": tuple(COUNTS),
            "object2": tuple(OBJECTS),
            "relation": tuple(RELATIONS),
        }
        self._face: ImageFont.FreeTypeFont | None = None
        self._glyphs: dict[str, Image.Image] = {}
        self._sprite = lru_cache(maxsize=4096)(self._make_sprite)
        self._canvas = lru_cache(maxsize=None)(lambda name, index: paint(name, index, self.size))

    @cached_property
    def font(self) -> Path:
        """The font's file, searched at its first use: captions need none. Raises NotFound."""
        return find_font(self._font)

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.font.read_bytes()).hexdigest()[:12]
        return f"stickers-v{VERSION}-{self.size}-{digest}"

    def __reduce__(
        self,
    ):  # the caches hold functions; a copy in another process has caches of its own
        return Stickers, (self.size, self.font)

    # ---- what is in the scene

    def list_names(self, attribute: str) -> dict[str, tuple[str, ...]]:
        """Value → its names in captions."""
        return list_names(attribute)

    def sample(self, seed: int, split: str = "train", draw: bool = True) -> Sample:
        """The scene and the caption of one seed ≥ 0 and, unless draw is False, the picture. Raises
        UnknownName for an unknown split."""
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        rng = np.random.Generator(np.random.PCG64([seed, SPLITS.index(split)]))
        attributes, stated = self._scene(rng, split)
        text = write_caption(rng, attributes, stated)
        if not draw:
            return Sample(None, text, attributes, stated)
        image, mask = self._draw(rng, attributes)
        return Sample(image, text, attributes, stated, mask)

    def _scene(self, rng: np.random.Generator, split: str) -> tuple[dict[str, str], frozenset[str]]:
        def pick(options) -> str:
            return options[int(rng.integers(len(options)))]

        kind = rng.random()
        objects, backgrounds = self.schema["object"], self.schema["background"]
        while True:
            if split == "held_out":
                object, style, background = pick(list_held_out())
            else:
                style = str(rng.choice(list(STYLE_WEIGHTS), p=list(STYLE_WEIGHTS.values())))
                object, background = pick(objects), pick(backgrounds)
            object2 = pick(objects)
            if kind < 0.2 and object2 == object:
                continue
            held = (
                is_held_out(object, style, background),
                kind < 0.2 and is_held_out(object2, style, background),
            )
            if any(held) == (split == "held_out"):
                break
        scene = {"object": object, "style": style}
        stated = {"object", "style", "background", "count"}
        if style in ("neon", "silhouette"):
            scene["colour"] = pick(self.schema["colour"])
            if rng.random() < 0.85:
                stated.add("colour")
        elif rng.random() < 0.4:
            scene["colour"] = pick(self.schema["colour"])
            stated.add("colour")
        scene["background"] = background
        if kind < 0.2:
            if rng.random() < 0.5:  # either of the two may be the left or upper one
                scene["object"], object2 = object2, object
            scene |= {"count": "1", "object2": object2, "relation": pick(self.schema["relation"])}
            stated |= {"object2", "relation"}
        elif kind < 0.35:
            scene["count"] = pick(("2", "3"))
        else:
            says_position, says_size = rng.random(2) < 0.45
            scene["position"] = pick(self.schema["position"]) if says_position else "center"
            scene["size"] = pick(self.schema["size"]) if says_size else "medium"
            scene["count"] = "1"
            stated |= ({"position"} if says_position else set()) | (
                {"size"} if says_size else set()
            )
        return scene, frozenset(stated)

    def write_caption(self, attributes: Mapping[str, str]) -> str | None:
        """See Source. The layouts are one object, a row and a pair. A neon or a silhouette must
        have a colour."""
        layout = frozenset(attributes) - {"object", "style", "colour", "background", "count"}
        allowed = {
            frozenset(): ("2", "3"),
            frozenset(("position", "size")): ("1",),
            frozenset(("object2", "relation")): ("1",),
        }
        if (
            not attributes.keys() >= {"object", "style", "background", "count"}
            or layout not in allowed
        ):
            return None
        if any(value not in self.schema[name] for name, value in attributes.items()):
            return None
        bare = attributes["style"] in ("neon", "silhouette") and "colour" not in attributes
        twice = attributes.get("object2") == attributes["object"]
        wrong = bare or twice or attributes["count"] not in allowed[layout]
        return None if wrong else write_plain_caption(attributes)

    # ---- drawing

    def _draw(
        self, rng: np.random.Generator, scene: dict[str, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) and the objects' bool mask (H, W)."""
        size, background = self.size, scene["background"]
        canvas = self._canvas(background, int(rng.integers(CANVASES)))
        y, x = (
            int(rng.integers(canvas.shape[0] - size + 1)),
            int(rng.integers(canvas.shape[1] - size + 1)),
        )
        picture = canvas[y : y + size, x : x + size]
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        image = picture * np.float32(rng.uniform(0.94, 1.04))
        mask = np.zeros((size, size), bool)
        # object, sprite, scale, offset x, offset y
        spots: list[tuple[str, str, float, float, float]]
        name = scene["object"]
        if "relation" in scene:
            away = 0.24
            dx, dy = (away, 0.0) if scene["relation"] == "left of" else (0.0, away)
            spots = [(name, "pair", 1.0, -dx, -dy), (scene["object2"], "pair", 1.0, dx, dy)]
        elif scene["count"] == "2":
            spots = [(name, "pair", 1.0, d, 0.0) for d in (-0.24, 0.24)]
        elif scene["count"] == "3":
            spots = [(name, "small", 1.06, d, 0.0) for d in (-0.32, 0.0, 0.32)]
        else:
            away = OFFSETS[scene["size"]]
            dx, dy = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}.get(
                scene["position"], (0, 0)
            )
            spots = [(name, scene["size"], float(rng.uniform(0.96, 1.05)), dx * away, dy * away)]
        shift = rng.uniform(-0.016, 0.016, 2)
        for name, bucket, scale, dx, dy in spots:
            angle = float(rng.uniform(-8, 8))
            cx, cy = (0.5 + dx + shift[0]) * size, (0.5 + dy + shift[1]) * size
            self._stamp(image, mask, scene, name, bucket, scale, angle, cx, cy)
        return np.clip(image + 0.5, 0, 255).astype(np.uint8), mask

    def _stamp(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        scene: dict[str, str],
        name: str,
        bucket: str,
        scale: float,
        angle: float,
        cx: float,
        cy: float,
    ) -> None:
        """Colours one sprite, warps it to its place and composites it into image (H, W, 3) and mask
        (H, W)."""
        style, colour = scene["style"], scene.get("colour")
        ink = (
            "natural"
            if colour is None
            else "chalk"
            if (style, colour) == ("sketch", "white")
            else "ink"
        )
        layers = self._sprite(name, style, ink, bucket)
        rgb = layers[..., :3] + layers[..., 3:4] * (
            np.array(COLOURS[colour or "white"], np.float32) / WEIGHT
        )
        around = NIGHT if style == "neon" else LIGHT if scene["background"] in DARK else SHADOW
        rgb += layers[..., 5:] * around
        ready = np.empty((*rgb.shape[:2], 4), np.uint8)
        np.minimum(rgb, 255, out=rgb)
        ready[..., :3] = rgb
        ready[..., 3] = layers[..., 4] + layers[..., 5]
        half = ready.shape[0] / 2
        if style == "pixel art":  # hard edges: whole pixels, no turning, no scaling
            x0, y0, a = round(cx - half), round(cy - half), ready
        else:
            reach = int(half * scale + 1.5)
            x0, y0 = int(cx) - reach, int(cy) - reach
            c, s = np.cos(np.radians(angle)) / scale, np.sin(np.radians(angle)) / scale
            ox, oy = cx - x0, cy - y0
            matrix = (c, s, half - c * ox - s * oy, -s, c, half + s * ox - c * oy)
            sprite = Image.frombytes("RGBa", (len(ready), len(ready)), ready.tobytes())
            box = (2 * reach, 2 * reach)
            a = np.asarray(
                sprite.transform(box, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
            )
        a = a[max(0, -y0) : self.size - y0, max(0, -x0) : self.size - x0]
        y0, x0 = max(0, y0), max(0, x0)
        patch = image[y0 : y0 + a.shape[0], x0 : x0 + a.shape[1]]
        patch *= 1 - a[..., 3:] * np.float32(1 / 255)
        patch += a[..., :3]
        # alpha here is that of the object plus its aura, which fills at most 0.6 of what the object
        # leaves clear: above 200 of 255 the object's own alpha is about 0.5 or more
        mask[y0 : y0 + a.shape[0], x0 : x0 + a.shape[1]] |= a[..., 3] > 200

    def _glyph(self, name: str) -> Image.Image:
        """The object's own emoji, RGBA, cropped to what is visible."""
        if name not in self._glyphs:
            if self._face is None:
                try:
                    self._face = ImageFont.truetype(str(self.font), 109)  # its only bitmap size
                except OSError as error:
                    raise BadInput(
                        f"{self.font} cannot be drawn: {error}", "use Noto Color Emoji as bitmaps"
                    ) from None
            image = Image.new("RGBA", (160, 160))
            ImageDraw.Draw(image).text(
                (8, 8), OBJECTS[name][0], font=self._face, embedded_color=True
            )
            self._glyphs[name] = image.crop(
                image.getchannel("A").point([0] * 41 + [255] * 215).getbbox()
            )
        return self._glyphs[name]

    def _make_sprite(self, name: str, style: str, ink: str, bucket: str) -> np.ndarray:
        """A styled object without the scene's colour: uint8 (n, n, 6). Its longest side is SIDES of
        the picture's.

        Channels: 0–2 fixed colour (premultiplied), 3 weight of the scene's colour · WEIGHT, 4
        alpha, 5 alpha of the aura. ink: "natural" (no colour), "ink" (the scene's colour), "chalk"
        (a sketch in white)."""
        pixels = style == "pixel art"
        side = SIDES[bucket] * self.size
        cell = max(2, round(side / 18)) if pixels else 0
        # other styles are drawn twice as large, and then averaged
        side = round(side / cell) if pixels else round(side * 2)
        glyph = self._glyph(name)
        w, h = (max(1, round(side * v / max(glyph.size))) for v in glyph.size)
        full = side + 2 * max(2, round(side * 0.17)) + side % 2
        square = Image.new("RGBa", (full, full))
        method = Image.Resampling.BOX if pixels else Image.Resampling.LANCZOS
        square.paste(
            glyph.convert("RGBa").resize((w, h), method), ((full - w) // 2, (full - h) // 2)
        )
        a = np.asarray(square, np.float32)
        alpha = a[..., 3] / 255
        rgb = np.clip(a[..., :3] / np.maximum(alpha[..., None], 0.02), 0, 255)
        fixed, weight, alpha, aura, halo = PAINTERS[style](rgb, alpha, ink, side)
        parts = (
            fixed * alpha[..., None],
            ((weight * alpha + halo) * WEIGHT)[..., None],
            alpha[..., None] * 255,
            (aura * (1 - alpha))[..., None] * 255,
        )
        layers = np.clip(np.concatenate(parts, -1), 0, 255)
        if pixels:
            return layers.round().astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
        return layers.reshape(full // 2, 2, full // 2, 2, 6).mean((1, 3)).round().astype(np.uint8)


# A style: (rgb (n, n, 3), alpha (n, n) in [0, 1], ink, side) → fixed rgb, colour's weight, alpha,
# aura, halo (n, n).


def _tint(light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shades of one colour; the brightest spots go towards white."""
    white = 0.5 * _step(light, 0.85, 1.15)
    return np.repeat(255 * white[..., None], 3, -1), 0.58 + 0.42 * np.minimum(
        light * 1.25, 1
    ) - white


def _aura(alpha: np.ndarray, side: int) -> np.ndarray:
    """A soft rim of half strength, so that the object stands out on any background."""
    return 0.5 * _step(_blur(alpha, side * 0.028), 0.02, 0.5)


def _plain(rgb, alpha, ink, side):
    fixed, weight = (rgb, 0 * alpha) if ink == "natural" else _tint(_luminance(rgb, alpha))
    return fixed, weight, alpha, _aura(alpha, side), 0 * alpha


def _silhouette(rgb, alpha, ink, side):
    return 0 * rgb, 1 + 0 * alpha, alpha, _aura(alpha, side), 0 * alpha


def _neon(rgb, alpha, ink, side):
    outline, inner = _lines(rgb, alpha, max(1.6, side * 0.017))
    line = np.maximum(outline, inner * 0.9)
    hot = 0.45 * _step(line, 0.75, 1.0) * line
    fixed = np.array([10.0, 8.0, 22.0]) * (1 - line)[..., None] + 255 * hot[..., None]
    weight = (0.06 + 0.16 * _luminance(rgb, alpha)) * (1 - line) + line - hot
    halo = (0.45 * _blur(line, side * 0.02) + 0.75 * _blur(line, side * 0.055)) * (
        1 - 0.7 * np.maximum(line, alpha)
    )
    return (
        fixed,
        weight,
        np.maximum(alpha, outline),
        0.6 * _step(_blur(alpha, side * 0.06), 0.02, 0.9),
        halo,
    )


def _sketch(rgb, alpha, ink, side):
    outline, inner = _lines(rgb, alpha, max(1.4, side * 0.012))
    light, period = _luminance(rgb, alpha), max(5.0, side / 16)
    hatch = _hatching(alpha.shape, period, 1) * (1 - _step(light, 0.35, 0.6))
    hatch = np.maximum(hatch, _hatching(alpha.shape, period, -1) * (1 - _step(light, 0.08, 0.25)))
    line = np.maximum(np.maximum(outline, inner), 0.55 * hatch * alpha)
    paper, pencil, on_paper, on_line = {
        "natural": (PAPER, INK, 0.0, 0.0),
        "ink": (PAPER * 0.86, 0 * INK, 0.14, 0.82),
        "chalk": (SLATE, 0 * INK, 0.0, 1.0),  # white needs a dark ground
    }[ink]
    fixed = paper * (1 - line[..., None]) + pencil * line[..., None]
    return (
        fixed,
        on_paper * (1 - line) + on_line * line,
        np.maximum(alpha, outline),
        _aura(alpha, side),
        0 * alpha,
    )


def _pixel_art(rgb, alpha, ink, side):
    hard = (alpha > 0.36).astype(np.float32)
    if ink == "natural":
        fixed, weight = np.clip(np.round(rgb / 36) * 36, 0, 255), 0 * alpha  # a small palette
    else:
        fixed, weight = _tint(np.round(_luminance(rgb, hard) * 6) / 6)
    near = np.pad(hard, 1)
    ring = np.maximum.reduce([near[:-2, 1:-1], near[2:, 1:-1], near[1:-1, :-2], near[1:-1, 2:]])
    return fixed, weight, hard, ring, 0 * alpha


PAINTERS = {
    "plain": _plain,
    "neon": _neon,
    "sketch": _sketch,
    "pixel art": _pixel_art,
    "silhouette": _silhouette,
}
