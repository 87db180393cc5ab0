"""PREPROCESSORS: what can be made of a picture before a ControlNet sees it, by name.

Each module has `prepare(source, resize, low, high) → (H, W, 3) float32 in [0, 1]`, −1 where the
network shall see nothing. source: the picture as it came. resize: brings a picture to the size of
the run. low, high: numbers of the preprocessor's own, None for its usual ones."""

from typing import NamedTuple


class Preprocessor(NamedTuple):
    module: str  # of this folder
    label: str  # what A1111's extension calls it
    usual: tuple[float, ...] = ()  # its numbers, where none are given


PREPROCESSORS = {
    "none": Preprocessor("plain", "none"),
    "canny": Preprocessor("canny", "canny", (100.0, 200.0)),
    "depth": Preprocessor("depth", "depth_from_file"),
    "depth_far": Preprocessor("depth_far", "depth_from_file_inverted"),
    "invert": Preprocessor("invert", "invert (from white bg & black line)"),
    "scribble": Preprocessor("scribble", "scribble_threshold", (127.0,)),
    "tile": Preprocessor("tile", "tile_resample", (1.0,)),
    "inpaint": Preprocessor("inpaint", "inpaint_only"),
}
