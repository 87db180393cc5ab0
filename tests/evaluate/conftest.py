"""A tiny data source whose pictures carry their labels in their first row, and a judge that reads
those exactly."""

import numpy as np
import pytest

from fromnoise.data.source import Sample


class Shapes:
    """Squares and discs of three colours, left or right; `place` is stated by half of the captions,
    `hat` is rare."""

    size = 32
    fingerprint = "shapes"
    schema = {  # noqa: RUF012
        "shape": ("square", "disc"),
        "colour": ("red", "green", "blue"),
        "place": ("left", "right"),
        "hat": ("tall", "flat"),
    }
    paint = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 60, 220)}  # noqa: RUF012

    def sample(self, seed: int, split: str = "train", draw: bool = True) -> Sample:
        rng = np.random.default_rng([seed, split == "held_out"])
        has = {k: v[int(rng.integers(len(v)))] for k, v in self.schema.items()}
        if split == "held_out":
            has |= {"shape": "disc", "colour": "red"}
        elif has["shape"] == "disc" and has["colour"] == "red":
            has["colour"] = "blue"
        states_place = rng.random() < 0.5
        if rng.random() < 0.9:
            del has["hat"]
        stated = frozenset(has.keys() - (set() if states_place else {"place"}))
        words = [*(["hat", has["hat"]] if "hat" in has else []), has["colour"], has["shape"]]
        caption = " ".join(
            words + (["on the", has["place"]] if states_place else []) + [f"no. {seed % 1000}"]
        )
        if not draw:
            return Sample(None, caption, has, stated)
        y, x = np.mgrid[:32, :32] - np.array([16, 9 if has["place"] == "left" else 22]).reshape(
            2, 1, 1
        )
        mask = (abs(x) + abs(y) < 9) if has["shape"] == "disc" else (np.maximum(abs(x), abs(y)) < 6)
        image = np.full((32, 32, 3), 240, np.uint8)
        image[mask] = self.paint[has["colour"]]
        if "hat" in has:
            image[2 : 4 if has["hat"] == "flat" else 8, 10:22] = 0
        image[0, : len(self.schema)] = [
            [1 + v.index(has[k]) if k in has else 0] * 3 for k, v in self.schema.items()
        ]
        return Sample(image, caption, has, stated, mask)


class Oracle:
    """Reads the labels that `Shapes` wrote into a picture; of an attribute that the scene lacks,
    the first value."""

    def read(self, images: np.ndarray) -> list[dict[str, str]]:
        places = list(enumerate(Shapes.schema.items()))
        return [{k: v[max(0, int(image[0, i, 0]) - 1)] for i, (k, v) in places} for image in images]


@pytest.fixture
def source() -> Shapes:
    return Shapes()


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()
