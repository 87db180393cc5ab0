"""JPEG and WebP files: what is written is read, whatever the prompt; what cannot be is said."""

import fakes
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from fromnoise.errors import BadInput
from fromnoise.pipeline.provenance import exif
from fromnoise.pipeline.provenance.read import read_text
from fromnoise.pipeline.provenance.write import write_infotext
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.pipeline.saving import save_picture


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0)


def saved(model, path, **fields):
    """A picture of a request, written: its text."""
    picture = Image.new("RGB", (16, 8), (200, 100, 50))
    picture.info["parameters"] = write_infotext(
        model, GenerationRequest.of(seed=1, **fields).resolve(model), 0, ""
    )
    save_picture(picture, path)
    return picture.info["parameters"]


some = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
# characters whose bytes the other way round are letters, marks of byte order, line breaks of all
# kinds, NUL
odd = st.text(st.sampled_from("䄀匀琀＀\ufeff\ufffe\u2028\r\n\t\0🦊é日ا"), max_size=40)
long = st.builds(lambda text, n: (text * n)[:20_000], some | odd, st.sampled_from([1, 1, 1000]))


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(long, some | odd, st.sampled_from(["png", "jpg", "webp"]))
@example("🦊" * 14_000, "日", "jpg")
@example("🦊" * 20_000, "日" * 20_000, "webp")
@example("䄀" * 20_000, "", "jpg")
@example("\ufeffa", "", "jpg")
@example("{", "}", "png")  # a brace does not make a text JSON
@example('{"a": 1}', '{"b": 2}', "webp")
@example("{{a fox}}, {red|blue}", "", "jpg")
def test_prompts_there_and_back(tmp_path, model, prompt, negative, kind):
    request = GenerationRequest(prompt=prompt, negative_prompt=negative)
    path = tmp_path / f"a.{kind}"
    if kind == "jpg" and len((prompt + negative).encode("utf-16-be")) > exif.ROOM - exif.SETTINGS:
        with pytest.raises(BadInput, match="a JPEG file holds"):
            exif.check_fits(request)
        return
    if kind == "jpg":
        exif.check_fits(request)
    text = saved(model, path, prompt=prompt, negative_prompt=negative)
    assert read_text(path) == text


def test_what_does_not_fit_is_an_error_and_no_file(model, tmp_path):
    with pytest.raises(BadInput, match="hold any length") as error:
        saved(model, tmp_path / "a.jpg", prompt="🦊" * 20_000)
    assert "a JPEG file holds 65,533" in error.value.message
    assert not (tmp_path / "a.jpg").exists()
    saved(
        model,
        tmp_path / "a.jpg",
        prompt="x" * (exif.ROOM - exif.SETTINGS >> 2),
        negative_prompt="y" * 15_000,
    )
    with pytest.raises(BadInput, match=r"end its name in \.png"):
        saved(model, tmp_path / "a")
    with pytest.raises(BadInput, match="keeps every pixel"):
        save_picture(Image.new("RGB", (8, 8)), tmp_path / "a.png", 90)


def test_quality_is_told_to_the_file(tmp_path):
    noise = Image.effect_noise((64, 64), 99).convert("RGB")
    sizes = [
        save_picture(noise, tmp_path / "a.jpg", quality).stat().st_size
        for quality in (10, 50, None, 100)
    ]
    assert sizes == sorted(set(sizes))
    save_picture(noise, tmp_path / "a.webp", "lossless")
    with Image.open(tmp_path / "a.webp") as back:
        assert back.convert("RGB").tobytes() == noise.tobytes()


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_half_characters_are_refused_where_they_come_in(field):
    with pytest.raises(BadInput, match=rf"cannot use {field} = 'a \\udc80'"):
        GenerationRequest.of(**{field: "a \udc80"})
