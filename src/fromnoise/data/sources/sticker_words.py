"""The caption grammar of the sticker scenes: what every attribute value is called, and the
sentences around it."""

from collections.abc import Mapping

import numpy as np

# object → (emoji, further names). The first name is the value itself; every entry is one countable
# thing.
OBJECTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "cat": ("🐱", ("kitten",)), "dog": ("🐕", ("puppy",)), "fish": ("🐟", ()), "whale": ("🐋", ()),
    "octopus": ("🐙", ()), "butterfly": ("🦋", ()), "snail": ("🐌", ()),
    "rabbit": ("🐇", ("bunny",)),
    "elephant": ("🐘", ()), "giraffe": ("🦒", ()), "duck": ("🦆", ()), "penguin": ("🐧", ()),
    "turtle": ("🐢", ()), "crab": ("🦀", ()), "spider": ("🕷", ()), "dragon": ("🐉", ()),
    "unicorn": ("🦄", ()), "flamingo": ("🦩", ()), "kangaroo": ("🦘", ()), "bat": ("🦇", ()),
    "hourglass": ("⌛", ()), "dinosaur": ("🦕", ()), "rooster": ("🐓", ()), "camel": ("🐪", ()),
    "squirrel": ("🐿", ()), "rocket": ("🚀", ("spaceship",)), "car": ("🚗", ()),
    "bicycle": ("🚲", ("bike",)), "airplane": ("✈", ("plane",)),
    "sailboat": ("⛵", ("sailing boat",)), "helicopter": ("🚁", ()),
    "train": ("🚂", ("steam train",)),
    "tractor": ("🚜", ()), "tree": ("🌳", ()), "cactus": ("🌵", ()), "mushroom": ("🍄", ()),
    "sunflower": ("🌻", ()), "tulip": ("🌷", ()), "palm tree": ("🌴", ()), "maple leaf": ("🍁", ()),
    "banana": ("🍌", ()), "ice cream": ("🍦", ("ice cream cone",)),
    "pizza slice": ("🍕", ("slice of pizza",)), "pineapple": ("🍍", ()), "teapot": ("🫖", ()),
    "umbrella": ("☂", ()), "guitar": ("🎸", ("electric guitar",)), "trumpet": ("🎺", ()),
    "key": ("🔑", ()), "crown": ("👑", ()), "anchor": ("⚓", ()), "hammer": ("🔨", ()),
    "moon": ("🌙", ("crescent moon",)), "star": ("⭐", ()), "lightning bolt": ("⚡", ()),
    "heart": ("❤", ()), "house": ("🏠", ()), "castle": ("🏰", ()), "top hat": ("🎩", ()),
    "robot": ("🤖", ("robot head",)), "ghost": ("👻", ()), "snowman": ("⛄", ()),
    "chair": ("🪑", ("wooden chair",)), "boot": ("👢", ()),
}  # fmt: skip
# style → (adjectives, "X of a cat" heads, tags). "plain" has no words: saying no style means plain.
STYLES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "plain": ((), (), ()),
    "neon": (("neon", "glowing neon", "neon"), ("neon sign", "glowing neon picture"),
             ("neon style", "neon", "in neon lights")),
    "sketch": (("sketch", "sketched", "hand-drawn sketch"),
               ("sketch", "pencil sketch", "pencil drawing"),
               ("sketch style", "pencil sketch", "drawn in pencil", "sketch")),
    "pixel art": (("pixel art", "pixelated", "pixel"), ("pixel art picture", "pixel art drawing"),
                  ("pixel art", "pixel art style", "in pixel art")),
    "silhouette": (("silhouette", "silhouetted"), ("silhouette", "flat silhouette"),
                   ("silhouette", "silhouette style", "as a silhouette")),
}  # fmt: skip
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 30, 38), "orange": (255, 128, 8), "yellow": (255, 222, 20), "green": (36, 172, 52),
    "cyan": (32, 218, 230), "blue": (36, 76, 236), "purple": (156, 62, 226),
    "pink": (255, 116, 190), "white": (250, 250, 250),
}  # fmt: skip
# background → (phrases, nouns for "… background", "behind it")
BACKGROUNDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "space": (("in space", "in space", "among the stars", "in outer space", "floating in space"),
              ("space", "starry space")),
    "ocean": (("in the ocean", "under the sea", "underwater", "in the deep ocean"),
              ("ocean", "underwater")),
    "forest": (("in a forest", "in the forest", "in the woods", "among fir trees"), ("forest",)),
    "desert": (("in the desert", "in a sandy desert", "among the dunes"),
               ("desert", "sandy desert")),
    "sunset": (("at sunset", "in front of a sunset", "under a sunset sky"),
               ("sunset", "sunset sky")),
    "snow": (("in the snow", "in a snowy landscape", "on a snowy day"), ("snow", "snowy")),
    "night city": (("in the city at night", "in a night city", "in a city at night"),
                   ("night city", "city at night")),
    "meadow": (("in a meadow", "on a green meadow", "in a field of flowers"),
               ("meadow", "flower meadow")),
    "clouds": (("in the clouds", "in a cloudy sky", "high in the sky"), ("clouds", "cloudy sky")),
    "white": (("on a white background", "on a plain white background", "on plain white"),
              ("plain white", "white")),
    "black": (("on a black background", "on a plain black background", "on plain black"),
              ("plain black", "black")),
    "peach": (("on a peach background", "on a plain peach background", "on plain peach"),
              ("plain peach", "peach")),
}  # fmt: skip
PLAIN_BACKGROUNDS = frozenset({"white", "black", "peach"})
POSITIONS: dict[str, tuple[str, ...]] = {
    "center": ("in the center", "in the middle"),
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
}
SIZES: dict[str, tuple[str, ...]] = {
    "small": ("small", "tiny", "little"),
    "medium": ("medium-sized", "medium"),
    "large": ("large", "big", "huge"),
}
COUNTS: dict[str, tuple[str, ...]] = {
    "1": ("a", "an", "one"),
    "2": ("two", "2", "a pair of"),
    "3": ("three", "3"),
}
# `object` is always the left or the upper one, so that a picture has one reading; captions also
# tell it the other way
RELATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "left of": (
        ("to the left of", "left of", "on the left of"),
        ("to the right of", "right of", "on the right of"),
    ),
    "above": (("above", "over"), ("below", "under", "beneath")),
}
_IRREGULAR = {
    "fish": "fish",
    "slice of pizza": "slices of pizza",
    "maple leaf": "maple leaves",
    "snowman": "snowmen",
}


def pluralize(noun: str) -> str:
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(("s", "x", "sh", "ch")):
        return noun + "es"
    return noun[:-1] + "ies" if noun.endswith("y") and noun[-2] not in "aeiou" else noun + "s"


def list_names(attribute: str) -> dict[str, tuple[str, ...]]:
    """Value → what captions call it, by themselves or within a phrase. Raises KeyError."""
    nouns = {
        name: (name, *more, *map(pluralize, (name, *more))) for name, (_, more) in OBJECTS.items()
    }
    words = {
        "object": nouns,
        "object2": nouns,
        "colour": {name: (name,) for name in COLOURS},
        "position": POSITIONS,
        "style": {name: sum(phrases, ()) for name, phrases in STYLES.items()},
        "size": SIZES,
        "count": COUNTS,
        "background": {
            name: (*phrases, *scenes) for name, (phrases, scenes) in BACKGROUNDS.items()
        },
        "relation": {
            name: (*forward, *backward) for name, (forward, backward) in RELATIONS.items()
        },
    }
    return {value: tuple(dict.fromkeys(phrases)) for value, phrases in words[attribute].items()}


def _add_article(words: str) -> str:
    vowel = words.startswith(("a", "e", "i", "o", "u", "hour")) and not words.startswith("uni")
    return ("an " if vowel else "a ") + words


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def _tags(*parts: str, sep: str = ", ") -> str:
    return sep.join(p for p in parts if p)


def write_caption(
    rng: np.random.Generator, attributes: dict[str, str], stated: frozenset[str]
) -> str:
    """A caption of at most 24 lowercase words that states exactly the attributes in `stated`.

    The form "a {size} {style} {colour} {object} {position} {background}" is the most common of
    fourteen."""
    while True:
        text = _caption(rng, attributes, stated)
        if text.count(" ") < 24:
            return text


class _Plain:
    """In chance's place: the first form of caption, and of every list of words the first."""

    def random(self) -> float:
        return 0.4  # the plain noun, style before colour, the relation told forward

    def integers(self, n: int) -> int:
        return 0

    def choice(self, n: int, p: np.ndarray) -> int:
        return 0


def write_plain_caption(attributes: Mapping[str, str]) -> str:
    """The caption of form "a {size} {style} {colour} {object} {position} {background}" that states
    all of them."""
    return _caption(_Plain(), dict(attributes), frozenset(attributes))


def _caption(
    rng: np.random.Generator | _Plain, attributes: dict[str, str], stated: frozenset[str]
) -> str:

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    def noun(name: str) -> str:
        further = OBJECTS[name][1]
        return pick(further) if further and rng.random() < 0.25 else name

    adjectives, heads, style_tags = STYLES[attributes["style"]]
    phrases, nouns = BACKGROUNDS[attributes["background"]]
    colour = attributes["colour"] if "colour" in stated else ""
    size = pick(SIZES[attributes["size"]]) if "size" in stated else ""
    place = pick(POSITIONS[attributes["position"]]) if "position" in stated else ""
    count, name = attributes["count"], noun(attributes["object"])
    where, scene = pick(phrases), pick(nouns)
    style = pick(adjectives) if adjectives else ""
    tag = pick(style_tags) if style_tags else ""
    head = pick(heads) if heads else ""

    def thing(style: str, name: str, colour: str = colour, size: str = size) -> str:
        looks = _join(style, colour) if rng.random() < 0.6 else _join(colour, style)
        if count == "1":
            return _add_article(_join(size, looks, name))
        return _join(pick(COUNTS[count]), size, looks, pluralize(name))

    def things(style: str, colour: str = colour) -> str:
        """The noun phrase of the whole scene, with the style word or without."""
        if "relation" not in attributes:
            return thing(style, name, colour)
        first, second = (
            thing(style, name, colour),
            thing(style, noun(attributes["object2"]), colour),
        )
        forward, backward = RELATIONS[attributes["relation"]]
        if attributes["relation"] == "left of" and rng.random() < 0.15:
            return f"{first} on the left and {second} on the right"
        if rng.random() < 0.5:
            return f"{first} {pick(forward)} {second}"
        return f"{second} {pick(backward)} {first}"

    behind = "behind it" if count == "1" and "relation" not in attributes else "behind them"
    scene_tag = (
        f"{scene} background"
        if attributes["background"] in PLAIN_BACKGROUNDS or rng.random() < 0.7
        else scene
    )
    form = int(rng.choice(14, p=FORMS))
    if form == 0:
        return _join(things(style), place, where)
    if form == 1:
        return _join(things(style), where, place)
    if form == 2:
        return f"{where}, {_join(things(style), place)}"
    if form == 3:
        return _join(
            pick(("a picture of", "a sticker of", "an image of")), things(style), place, where
        )
    if form == 4:  # red cat, neon style, space background
        return _tags(things("").removeprefix("a ").removeprefix("an "), tag, place, scene_tag)
    if form == 5:
        back = f"a {scene} background" if attributes["background"] in PLAIN_BACKGROUNDS else scene
        return f"{_join(things(style), place)}, {back} {behind}"
    if form == 6:  # a red neon sign of a cat on the left in space
        if not head:
            return _join(things(""), place, where)
        return _join(_add_article(_join(colour, head)), "of", things("", ""), place, where)
    if form == 7:
        return f"{_tags(_join(things(style), where), place)}"
    if form == 8:
        return (
            f"{tag}: {_join(things(''), place, where)}" if tag else _join(things(""), place, where)
        )
    if form == 9:
        plural_scene = count != "1" and "relation" not in attributes
        return _join("there are" if plural_scene else "there is", things(style), place, where)
    if form == 10:
        return _join(f"{_add_article(scene)} background with", things(style), place)
    if form == 11:
        return _tags(_join(things(""), place, where), tag)
    if form == 12:  # tags only
        sep = ", " if rng.random() < 0.7 else " "
        return _tags(
            things("").removeprefix("a ").removeprefix("an "), style, place, scene_tag, sep=sep
        )
    return _join(things(style).removeprefix("a ").removeprefix("an "), place, where)


FORMS = np.array([30, 8, 5, 7, 7, 5, 7, 5, 5, 4, 4, 6, 4, 3]) / 100
