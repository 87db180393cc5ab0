"""Drawn backgrounds of the sticker scenes: gradients, soft shapes and seeded details."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Rng = np.random.Generator
Rgb = tuple[int, int, int]
DARK = frozenset(
    {"space", "ocean", "forest", "night city", "black"}
)  # objects get a light rim here, else a shadow


def _gradient(w: int, h: int, *colours: Rgb) -> Image.Image:
    """Vertical gradient through equally spaced colours, first at the top."""
    y = np.linspace(0, 1, h)
    stops = np.linspace(0, 1, len(colours))
    column = np.stack([np.interp(y, stops, [c[i] for c in colours]) for i in range(3)], -1)
    return Image.fromarray(np.repeat(column[:, None], w, 1).round().astype(np.uint8))


def _glow(
    image: Image.Image, x: float, y: float, r: float, colour: Rgb, strength: float
) -> Image.Image:
    """Adds a soft round light."""
    w, h = image.size
    gy, gx = np.mgrid[:h, :w].astype(np.float32)
    light = strength * np.exp(-((gx - x) ** 2 + (gy - y) ** 2) / (2 * r * r))[..., None]
    a = np.asarray(image, np.float32)
    return Image.fromarray(
        (a + (np.array(colour, np.float32) - a) * np.minimum(light, 1)).round().astype(np.uint8)
    )


def _ridge(rng: Rng, w: int, level: float, height: float, waves: int = 3) -> np.ndarray:
    """Smooth skyline (w,): a few sines around `level`, `height` pixels high."""
    x = np.linspace(0, 2 * np.pi, w)
    line = sum(
        np.sin(x * rng.uniform(0.6, 1.3) * (k + 1) + rng.uniform(0, 6.28)) / (k + 1)
        for k in range(waves)
    )
    return level + height * np.asarray(line) / 1.6


def _land(image: Image.Image, line: np.ndarray, colour: Rgb) -> None:
    """Fills everything under a skyline."""
    w, h = image.size
    points = [(x, float(line[x])) for x in range(0, w, 2)]
    ImageDraw.Draw(image).polygon([(0, h), *points, (w, h)], fill=colour)


def _cloud(
    draw: ImageDraw.ImageDraw, rng: Rng, x: float, y: float, s: float, colour: tuple[int, ...]
) -> None:
    for dx in (-1.1, -0.45, 0.3, 1.0):
        r = s * rng.uniform(0.42, 0.62) * (1.25 if abs(dx) < 0.6 else 0.8)
        draw.ellipse([x + dx * s - r, y - r, x + dx * s + r, y + r * 0.8], fill=colour)
    draw.rounded_rectangle([x - 1.6 * s, y, x + 1.5 * s, y + 0.5 * s], radius=0.25 * s, fill=colour)


def _space(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (10, 9, 34), (22, 16, 58), (12, 10, 40))
    for colour in ((96, 48, 150), (40, 70, 170), (150, 50, 120)):
        image = _glow(
            image, rng.uniform(0, w), rng.uniform(0, h), h * rng.uniform(0.14, 0.26), colour, 0.45
        )
    draw, u = ImageDraw.Draw(image), h / 100
    for _ in range(90):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), u * rng.uniform(0.35, 0.75)
        v = int(rng.uniform(150, 255))
        draw.ellipse([x - r, y - r, x + r, y + r], fill=(v, v, min(255, v + 20)))
    for _ in range(14):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), u * rng.uniform(1.6, 3.0)
        draw.polygon(
            [
                (x, y - r),
                (x + r / 4, y - r / 4),
                (x + r, y),
                (x + r / 4, y + r / 4),
                (x, y + r),
                (x - r / 4, y + r / 4),
                (x - r, y),
                (x - r / 4, y - r / 4),
            ],
            fill=(255, 250, 225),
        )
    return image


def _ocean(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (64, 190, 214), (22, 120, 184), (12, 66, 136), (9, 40, 96))
    rays = Image.new("L", (w, h), 0)
    draw = ImageDraw.Draw(rays)
    for _ in range(7):
        x, s = rng.uniform(-0.1, 1.0) * w, h * rng.uniform(0.03, 0.09)
        draw.polygon(
            [(x, 0), (x + s, 0), (x + s * 3 + h * 0.3, h * 0.9), (x + h * 0.3, h * 0.9)], fill=46
        )
    image.paste((190, 240, 250), (0, 0), rays.filter(ImageFilter.GaussianBlur(h / 50)))
    _land(image, _ridge(rng, w, h * 0.93, h * 0.025), (196, 172, 116))
    draw, u = ImageDraw.Draw(image), h / 100
    for _ in range(9):
        x, top = rng.uniform(0, w), h * rng.uniform(0.66, 0.84)
        y = np.linspace(top, h * 0.97, 12)
        xs = x + u * 1.8 * np.sin(y / (u * 5) + rng.uniform(0, 6))
        colour = ((16, 104, 84), (22, 128, 92), (120, 52, 104))[int(rng.integers(3))]
        points = list(zip(xs.tolist(), y.tolist(), strict=True))
        draw.line(points, fill=colour, width=max(2, int(2.4 * u)), joint="curve")
    for _ in range(22):
        x, y, r = rng.uniform(0, w), rng.uniform(0.05, 0.85) * h, u * rng.uniform(0.7, 2.0)
        draw.ellipse(
            [x - r, y - r, x + r, y + r], outline=(176, 228, 244), width=max(1, int(0.5 * u))
        )
    return image


def _fir(
    draw: ImageDraw.ImageDraw, x: float, base: float, s: float, colour: Rgb, snow: bool = False
) -> None:
    draw.rectangle([x - s * 0.05, base - s * 0.15, x + s * 0.05, base], fill=(74, 50, 36))
    for k in range(3):
        y, r = base - s * (0.12 + 0.27 * k), s * (0.30 - 0.06 * k)
        draw.polygon([(x - r, y), (x + r, y), (x, y - s * 0.42)], fill=colour)
        if snow:
            cap = y - s * 0.23
            draw.polygon(
                [(x - r * 0.45, cap), (x + r * 0.45, cap), (x, y - s * 0.42)], fill=(250, 252, 255)
            )


def _forest(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (120, 168, 130), (70, 126, 92), (36, 84, 58))
    image = _glow(image, rng.uniform(0.2, 0.8) * w, h * 0.1, h * 0.3, (222, 232, 160), 0.55)
    draw = ImageDraw.Draw(image)
    for base, size, colour in (
        (0.66, 0.5, (58, 112, 80)),
        (0.80, 0.62, (34, 84, 58)),
        (0.93, 0.5, (20, 60, 42)),
    ):
        for x in np.arange(-0.05, 1.1, 0.085 * (1 + size / 2)):
            _fir(
                draw,
                (x + rng.uniform(-0.03, 0.03)) * w,
                h * (base + rng.uniform(-0.02, 0.03)),
                h * size * rng.uniform(0.75, 1.1),
                colour,
            )
        _land(image, _ridge(rng, w, h * base, h * 0.015), colour)
    _land(image, _ridge(rng, w, h * 0.93, h * 0.02), (26, 70, 40))
    return image


def _desert(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (112, 184, 226), (196, 222, 226), (250, 230, 190), (250, 226, 180))
    image = _glow(
        image, rng.uniform(0.1, 0.9) * w, h * rng.uniform(0.1, 0.25), h * 0.07, (255, 250, 214), 1.6
    )
    for level, colour in ((0.58, (236, 196, 130)), (0.70, (226, 176, 104)), (0.84, (212, 154, 82))):
        line = _ridge(rng, w, h * level, h * 0.06, 2)
        _land(image, line, colour)
        r, g, b = (int(c * 0.93) for c in colour)
        _land(image, line + np.abs(_ridge(rng, w, h * 0.05, h * 0.05, 2)) + h * 0.02, (r, g, b))
    return image


def _sunset(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (72, 44, 120), (196, 70, 120), (250, 128, 84), (255, 200, 110))
    x, horizon = rng.uniform(0.2, 0.8) * w, h * 0.74
    image = _glow(image, x, horizon, h * 0.25, (255, 226, 130), 0.7)
    r, draw = h * 0.16, ImageDraw.Draw(image)
    draw.ellipse([x - r, horizon - r * 1.2, x + r, horizon + r * 0.8], fill=(255, 236, 150))
    for _ in range(6):
        cx, cy, s = rng.uniform(0, w), rng.uniform(0.08, 0.5) * h, h * rng.uniform(0.1, 0.25)
        draw.rounded_rectangle(
            [cx - s, cy, cx + s, cy + h * 0.022], radius=h * 0.011, fill=(255, 158, 122)
        )
    sea = np.asarray(_gradient(w, h, (255, 190, 110), (214, 96, 110), (96, 48, 110))).copy()
    image.paste(Image.fromarray(sea).resize((w, h - int(horizon))), (0, int(horizon)))
    draw = ImageDraw.Draw(image)
    for k in range(7):
        y, s = horizon + (k + 0.5) * h * 0.036, r * rng.uniform(0.5, 1.1)
        draw.rounded_rectangle(
            [x - s, y, x + s, y + h * 0.014], radius=h * 0.007, fill=(255, 226, 140)
        )
    return image


def _snow(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (150, 186, 220), (198, 220, 238), (226, 238, 248))
    line = _ridge(rng, w, h * 0.5, h * 0.09)
    _land(image, line, (170, 196, 224))
    _land(image, _ridge(rng, w, h * 0.66, h * 0.04), (224, 234, 246))
    draw, u = ImageDraw.Draw(image), h / 100
    for _ in range(8):
        x, base, tall = rng.uniform(0, w), h * rng.uniform(0.68, 0.76), h * rng.uniform(0.2, 0.32)
        _fir(draw, x, base, tall, (74, 116, 120), snow=True)
    _land(image, _ridge(rng, w, h * 0.8, h * 0.03), (244, 248, 254))
    for _ in range(60):
        x, y, r = rng.uniform(0, w), rng.uniform(0, h), u * rng.uniform(0.5, 1.3)
        draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    return image


def _night_city(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (16, 20, 52), (40, 40, 92), (96, 62, 116))
    u = h / 100
    draw = ImageDraw.Draw(image)
    x, y, r = rng.uniform(0.15, 0.85) * w, h * 0.15, u * 7
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(250, 242, 206))
    far, near = (
        (0.30, 0.5, (40, 42, 84), (150, 128, 110)),
        (0.45, 0.75, (20, 22, 48), (255, 214, 110)),
    )
    for low, high, colour, lit in (far, near):
        x = -u * 4
        while x < w:
            bw, top = u * rng.uniform(10, 20), h * rng.uniform(low, high)
            draw.rectangle([x, top, x + bw, h], fill=colour)
            for wx in np.arange(x + 2 * u, x + bw - 2.5 * u, 4 * u):
                for wy in np.arange(top + 3 * u, h, 5 * u):
                    if rng.random() < 0.5:
                        draw.rectangle([wx, wy, wx + 2 * u, wy + 2.6 * u], fill=lit)
            x += bw + u * rng.uniform(0.4, 2)
    return image


def _meadow(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (106, 186, 238), (178, 222, 244), (220, 240, 240))
    draw, u = ImageDraw.Draw(image), h / 100
    for _ in range(3):
        _cloud(
            draw,
            rng,
            rng.uniform(0, w),
            rng.uniform(0.08, 0.3) * h,
            u * rng.uniform(5, 8),
            (250, 253, 255),
        )
    for level, colour in ((0.5, (146, 204, 112)), (0.62, (118, 190, 86)), (0.76, (92, 170, 70))):
        _land(image, _ridge(rng, w, h * level, h * 0.05, 2), colour)
    flowers = ((255, 255, 255), (255, 222, 84), (244, 120, 150), (190, 130, 230))
    for _ in range(46):
        x, y = rng.uniform(0, w), rng.uniform(0.72, 1) * h
        r, colour = u * (0.6 + 1.6 * (y / h - 0.7) / 0.3), flowers[int(rng.integers(4))]
        for dx, dy in ((-r, 0), (r, 0), (0, -r), (0, r)):
            draw.ellipse(
                [x + dx - r * 0.8, y + dy - r * 0.8, x + dx + r * 0.8, y + dy + r * 0.8],
                fill=colour,
            )
        draw.ellipse([x - r * 0.7, y - r * 0.7, x + r * 0.7, y + r * 0.7], fill=(250, 190, 60))
    return image


def _clouds(rng: Rng, w: int, h: int) -> Image.Image:
    image = _gradient(w, h, (70, 150, 230), (120, 188, 244), (172, 218, 250))
    draw, u = ImageDraw.Draw(image), h / 100
    for k in range(9):
        y = h * (0.06 + 0.108 * k) + rng.uniform(-4, 4) * u
        _cloud(
            draw,
            rng,
            rng.uniform(0, w),
            y,
            u * rng.uniform(6, 12),
            (236, 246, 255) if k < 5 else (250, 253, 255),
        )
    return image


def _flat(colour: Rgb, centre: Rgb) -> Callable[[Rng, int, int], Image.Image]:
    def draw(rng: Rng, w: int, h: int) -> Image.Image:
        x, y = rng.uniform(0.35, 0.65) * w, rng.uniform(0.35, 0.65) * h
        return _glow(Image.new("RGB", (w, h), colour), x, y, h * 0.45, centre, 0.8)

    return draw


PAINTERS: dict[str, Callable[[Rng, int, int], Image.Image]] = {
    "space": _space,
    "ocean": _ocean,
    "forest": _forest,
    "desert": _desert,
    "sunset": _sunset,
    "snow": _snow,
    "night city": _night_city,
    "meadow": _meadow,
    "clouds": _clouds,
    "white": _flat((228, 228, 232), (250, 250, 252)),
    "black": _flat((12, 12, 14), (34, 34, 38)),
    "peach": _flat((252, 204, 176), (255, 224, 204)),
}


def paint(name: str, index: int, size: int) -> np.ndarray:
    """Canvas number `index` of a background: uint8 (1.125·size, 1.5·size, 3), for the caller to
    crop and flip."""
    w, h = int(size * 1.5), int(size * 1.125)
    rng = np.random.Generator(np.random.PCG64([list(PAINTERS).index(name), index]))
    scale = 2 if size <= 256 else 1  # drawn twice as large: ImageDraw does not smooth edges
    return np.asarray(
        PAINTERS[name](rng, w * scale, h * scale).resize((w, h), Image.Resampling.BOX)
    )
