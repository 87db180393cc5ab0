"""Edges of a picture (Canny 1986 "A computational approach to edge detection"), equal to OpenCV's
`Canny` of three channels with a Sobel kernel of 3 and the gradient |dx| + |dy|."""

import numpy as np

from fromnoise.errors import BadInput
from fromnoise.pipeline.addons.preprocessors.plain import Resize, read_pixels
from fromnoise.pipeline.decoding import Source

TAN_22 = 13573  # tan(22.5°) · 2^15
EIGHT = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def prepare(
    source: Source, resize: Resize, low: float | None = None, high: float | None = None
) -> np.ndarray:
    """low, high: thresholds of the gradient; an edge is above the high one somewhere, and above the
    low one everywhere."""
    edges = find_edges(
        read_pixels(source, resize), 100.0 if low is None else low, 200.0 if high is None else high
    )
    return np.repeat(edges[..., None], 3, 2).astype(np.float32)


def find_edges(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """pixels (H, W, 3) uint8 → (H, W) bool. Raises BadInput for thresholds in the wrong order."""
    if low > high:
        raise BadInput(
            f"canny's thresholds are {low:g} and {high:g}",
            "give the lower one first: canny:100:200",
        )
    dx, dy = differentiate(pixels.astype(np.int64))
    size = abs(dx) + abs(dy)
    best = size.argmax(2)[..., None]  # the channel that changes most, the first of equals
    dx, dy, size = (np.take_along_axis(v, best, 2)[..., 0] for v in (dx, dy, size))
    thin = keep_ridges(dx, dy, size) & (size > np.floor(low))
    return follow(thin, thin & (size > np.floor(high)))


def differentiate(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's derivatives along x and y; the border repeats."""
    p = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), "edge")
    down = p[:-2] + 2 * p[1:-1] + p[2:]
    across = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return down[:, 2:] - down[:, :-2], across[2:] - across[:-2]


def keep_ridges(dx: np.ndarray, dy: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Where the gradient is largest along its own direction, rounded to one of four."""
    p = np.pad(size, 1)

    def near(y: int, x: int) -> np.ndarray:
        return p[1 + y : 1 + y + size.shape[0], 1 + x : 1 + x + size.shape[1]]

    wide, steep = abs(dx) * TAN_22, abs(dy) * 2**15
    flat, upright = steep < wide, steep > wide + abs(dx) * 2**16
    rising = (dx < 0) != (dy < 0)  # the diagonal through the pixel above on the right
    left, right = (
        np.where(rising, near(-1, 1), near(-1, -1)),
        np.where(rising, near(1, -1), near(1, 1)),
    )
    return np.select(
        [flat, upright],
        [
            (size > near(0, -1)) & (size >= near(0, 1)),
            (size > near(-1, 0)) & (size >= near(1, 0)),
        ],
        (size > left) & (size > right),
    )


def follow(weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """The weak pixels that a chain of weak neighbours joins to a strong one, and the strong."""
    found, open_ = np.pad(strong, 1), np.pad(weak & ~strong, 1)
    front = np.argwhere(found)
    while len(front):
        beside = (front[:, None] + np.array(EIGHT)).reshape(-1, 2)
        y, x = beside[open_[beside[:, 0], beside[:, 1]]].T
        open_[y, x], found[y, x] = False, True
        front = np.unique(np.stack((y, x), 1), axis=0)
    return found[1:-1, 1:-1]
