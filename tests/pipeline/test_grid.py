"""Sheets of pictures: nothing overlaps or is cut, whatever the labels say."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from fromnoise.errors import BadInput
from fromnoise.pipeline.sequences.grid import GAP, lay_out_sheet, list_places, wrap_text

label = st.text(st.sampled_from("ab W日é\n,-"), max_size=60)
axis = st.just([""]) | st.lists(label.filter(str.strip), min_size=1, max_size=3)
FONT = ImageFont.load_default(14)


@settings(max_examples=150, deadline=None)
@given(axis, axis, axis, st.tuples(st.integers(32, 200), st.integers(32, 200)))
@example(["a" * 60] * 2, ["b " * 30, "W" * 60], ["y " * 30, "z" * 60], (40, 32))
def test_nothing_overlaps_or_is_cut(columns, rows, sheets, box):
    sheet = lay_out_sheet(box, columns, rows, sheets)
    assert len(sheet.cells) == len(columns) * len(rows) * len(sheets)
    areas = [(x, y, x + box[0], y + box[1]) for x, y in sheet.cells]
    for x, y, line in sheet.texts:
        left, top, right, bottom = sheet.font.getbbox(line)
        if right > left:
            areas.append((x + int(left), y + int(top), x + int(right), y + int(bottom)))
    for i, a in enumerate(areas):
        assert 0 <= a[0] < a[2] <= sheet.size[0]
        assert 0 <= a[1] < a[3] <= sheet.size[1]
        for b in areas[:i]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    said = "".join("".join(line for *_, line in sheet.texts).split())
    signs = [
        sign
        for group in (columns, rows, sheets)
        for text in group
        for sign in text
        if not sign.isspace()
    ]
    assert len(said) >= len(
        signs
    )  # a sign that no font has is told by a number, longer than itself


@given(label, st.integers(20, 200))
def test_wrapped_lines_keep_every_sign_and_fit(text, width):
    lines = wrap_text(text, FONT, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(FONT.getlength(line) <= width for line in lines)  # no sign of these is wider than 20


def test_pictures_lie_where_they_belong():
    colours = [(20 * i, 0, 255 - 20 * i) for i in range(12)]
    sheet = lay_out_sheet((40, 32), ["a", "b", "c"], ["c", "d"], ["x", "y"])
    drawn = sheet.draw(
        [Image.new("RGB", (40, 32) if i else (20, 16), colour) for i, colour in enumerate(colours)]
    )
    assert list_places([3, 2, 2])[:4] == [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0)]
    for (x, y), colour in zip(sheet.cells, colours, strict=True):
        assert drawn.getpixel((x + 20, y + 16)) == colour
    x, y = sheet.cells[0]
    assert drawn.crop((x, y, x + 40, y + 32)).getbbox() == (0, 0, 40, 32)
    assert drawn.getpixel((x + 9, y + 8)) == (255, 255, 255)  # a smaller one is in the middle
    assert sheet.cells[1][0] - x == 40 + GAP


def test_sheets_have_a_limit():
    lay_out_sheet((128, 128), ["a"] * 120, ["b"] * 20, [""])
    with pytest.raises(BadInput, match="smaller cells"):
        lay_out_sheet((128, 128), ["a"] * 128, ["b"], [""], ".webp")
    with pytest.raises(BadInput, match="smaller cells"):
        lay_out_sheet((8192, 8192), ["a", "b", "c"], [""], [""])
