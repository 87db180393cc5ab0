"""Many pictures on one sheet, in columns, rows and stacked sheets. Each of these has its label. A
long label is wrapped and never cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from PIL import Image, ImageDraw, ImageFont

from fromnoise.errors import BadInput

GAP = 4  # pixels between pictures
# fonts of the system, tried in turn where Pillow's own font lacks signs of a label
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf")
PIXELS = 150_000_000
SIDES = {".jpg": 65_535, ".webp": 16_383}  # the largest side that such a file holds
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Sheet:
    """The places of everything. `cells` are the corners of the pictures' boxes, sheet by sheet, and
    row by row in each sheet. Each box has `box` pixels (width, height). `texts` are lines of labels
    with their places."""

    size: tuple[int, int]
    box: tuple[int, int]
    cells: list[tuple[int, int]]
    texts: list[tuple[int, int, str]]
    font: Font

    def draw(self, pictures: Iterable[Image.Image | None]) -> Image.Image:
        """Draws the sheet: each picture in the middle of its box, which stays white for None. There
        are as many pictures as `cells`."""
        sheet = Image.new("RGB", self.size, "white")
        for picture, (x, y) in zip(pictures, self.cells, strict=True):
            if picture is None:
                continue
            sheet.paste(
                picture,
                (x + (self.box[0] - picture.width) // 2, y + (self.box[1] - picture.height) // 2),
            )
        pen = ImageDraw.Draw(sheet)
        for x, y, line in self.texts:
            pen.text((x, y), line, "black", self.font)
        return sheet


def lay_out_sheet(
    box: tuple[int, int],
    columns: Sequence[str],
    rows: Sequence[str],
    sheets: Sequence[str],
    suffix: str = ".png",
) -> Sheet:
    """Plans a sheet for pictures of at most `box` pixels, with its labels ([""] where there is no
    such axis). Raises BadInput for a sheet of more than PIXELS, or of more than a file of that kind
    holds."""
    size = min(max(min(box) // 9, 13), 40)
    font, (columns, rows, sheets) = _choose_font([columns, rows, sheets], size)
    high = size + size // 3  # the height of a line

    def wide(lines: Sequence[str]) -> int:
        return max((int(font.getlength(line)) + 1 for line in lines), default=0)

    # the labels on the left are as wide as their widest word, or as a picture where that is wider
    most = max(box[0], wide([word for row in rows for word in row.split()]) if any(rows) else 0)
    beside = [wrap_text(row, font, min(most, 2 * box[0])) for row in rows]
    left = wide([line for lines in beside for line in lines]) + 2 * GAP if any(rows) else 0
    above = [wrap_text(column, font, box[0]) for column in columns]
    width = left + len(columns) * (box[0] + GAP) - GAP
    headers = [wrap_text(sheet, font, width - left) for sheet in sheets]
    top = max(map(len, above)) * high + GAP if any(columns) else 0
    cells: list[tuple[int, int]] = []
    texts: list[tuple[int, int, str]] = []

    def block(lines: Sequence[str], x: int, y: int, room: int) -> None:
        for i, line in enumerate(lines):
            texts.append((x + (room - int(font.getlength(line))) // 2, y + i * high, line))

    y = GAP
    for header in headers:
        if any(sheets):
            block(header, left, y, width - left)
            y += len(header) * high + GAP
        for i, lines in enumerate(above if any(columns) else ()):
            x = left + i * (box[0] + GAP)
            block(lines, x, y + top - GAP - len(lines) * high, box[0])
        y += top
        for lines in beside:
            tall = max(box[1], len(lines) * high if any(rows) else 0)
            if any(rows):
                block(lines, 0, y + (tall - len(lines) * high) // 2, left)
            cells += [
                (left + i * (box[0] + GAP), y + (tall - box[1]) // 2) for i in range(len(columns))
            ]
            y += tall + GAP
        y += 2 * GAP
    whole = (width + 2 * GAP, y)
    if width * y > PIXELS or max(whole) > SIDES.get(suffix, 2**31):
        raise BadInput(
            f"the sheet would have {whole[0]}x{whole[1]} pixels, more than it may",
            "ask for fewer or smaller cells, or shorter labels"
            + (", or a .png" if suffix != ".png" else ""),
        )
    shifted = [(x + GAP, y) for x, y in cells]
    return Sheet(whole, box, shifted, [(x + GAP, y, line) for x, y, line in texts], font)


def wrap_text(text: str, font: Font, width: int) -> list[str]:
    """Breaks a text into lines of at most `width` pixels: between words, or inside a word that is
    wider than a line."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}" if line else word
            if font.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            line = ""
            for sign in word:
                if line and font.getlength(line + sign) > width:
                    lines.append(line)
                    line = ""
                line += sign
        lines.append(line)
    return lines


def _choose_font(labels: Sequence[Sequence[str]], size: int) -> tuple[Font, list[list[str]]]:
    """(the font, the labels). The font is the one that has the most signs of the labels, and
    Pillow's own where no other has more. A sign that it lacks is written by its number, \\u65e5."""
    signs = {sign for group in labels for label in group for sign in label if not sign.isspace()}
    found: list[tuple[Font, set[str]]] = []
    for name in (None, *FONTS):
        try:
            font = ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)
        except OSError:
            continue
        # no character has this number: a font draws it as all signs that it lacks
        blank = _draw_sign(font, "\U0010fffe", size)
        found.append((font, {sign for sign in signs if _draw_sign(font, sign, size) == blank}))
        if not found[-1][1]:
            break
    font, lacking = min(found, key=lambda one: len(one[1]))
    spelled = {sign: sign.encode("unicode_escape").decode() for sign in lacking}
    return font, [
        ["".join(spelled.get(sign, sign) for sign in label) for label in group] for group in labels
    ]


def _draw_sign(font: Font, sign: str, size: int) -> bytes:
    drawn = Image.new("L", (2 * size, 2 * size))
    ImageDraw.Draw(drawn).text((0, 0), sign, 255, font)
    return drawn.tobytes()


def list_places(shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """(x, y, z) of every cell, in the order of `Sheet.cells`. shape: (columns, rows, sheets)."""
    return [(x, y, z) for z, y, x in product(*map(range, reversed(shape)))]
