"""Prompts that are more than words: blocks, weights, times, parts and regions."""

import json
import math
import re
from dataclasses import replace

import fakes
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fromnoise.api import Engine
from fromnoise.diffusion.samplers.drive import drive
from fromnoise.errors import BadInput, NotFound
from fromnoise.pipeline.conditioning import blocks as blocks_of
from fromnoise.pipeline.conditioning import weights
from fromnoise.pipeline.conditioning.blocks import split_blocks
from fromnoise.pipeline.conditioning.compose import adds_up_to_one, combine_predictions
from fromnoise.pipeline.conditioning.regions import place_regions, read_region_masks
from fromnoise.pipeline.generate import SYNTAX, build_denoiser, start_sampler
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.grammar import parse_prompt
from fromnoise.prompt.tree import Box, Break, Chunk, Mask

SIGNS = [
    *":|;,.<>{}+-=\"'\n\t\x1c\x85\u2028 1",
    "16:9",
    "AND",
    "and",
    "BREAK",
    "a",
    "cat",
    "MASK",
    "é",
]


def encode_weighted(*args, **options) -> torch.Tensor:
    """The context alone."""
    return weights.encode_weighted(*args, **options).context


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return Engine(fakes.model(tmp_path_factory.mktemp("words"), steps=4, cfg=3.0, sampler="euler"))


class Words:
    """A tokenizer of one token a word or comma, which reads eight at once."""

    max_length, bos_id, eos_id, pad_id = 10, 100, 101, 102

    def encode_words(self, text: str) -> list[int]:
        return [{",": 44}.get(word, len(word)) for word in text.replace(",", " , ").split()]


def cut(chunks, dialect="a1111"):
    return [[token for token, _ in block] for block in split_blocks(Words(), chunks, dialect)]


def test_blocks_end_behind_the_last_comma():
    text = "a bb, ccc dddd eeeee ffffff ggggggg hhhhhhhh"
    assert cut([Chunk(text)]) == [[1, 2, 44], [3, 4, 5, 6, 7, 8]]
    assert cut([Chunk(text.replace(",", ""))]) == [[1, 2, 3, 4, 5, 6, 7, 8]]
    # a comma that is the next token itself ends nothing: it stands first in the new block, as in
    # the web UI
    assert cut([Chunk("a, b c d e f g, h")]) == [[1, 44, 1, 1, 1, 1, 1, 1], [44, 1]]
    assert cut([Chunk("a b c d e f g, h i")]) == [[1] * 7 + [44], [1, 1]]
    assert cut([]) == [[]]


def test_a_comma_too_far_from_the_end_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(blocks_of, "BACKTRACK", 3)
    assert cut([Chunk("a b c d, f g h i")]) == [[1, 1, 1, 1, 44, 1, 1, 1], [1]]
    assert cut([Chunk("a b c, e f g h i")]) == [[1, 1, 1, 44, 1, 1, 1, 1], [1]]


def test_break_ends_a_block_and_weights_stay_with_their_tokens():
    assert cut([Chunk("a"), Break(), Chunk("b")]) == [[1], [1]]
    assert cut([Break(), Chunk("b"), Break()]) == [[], [1]]
    assert split_blocks(Words(), [Chunk("a bb", 1.5), Chunk("ccc", 0.5)]) == [
        [(1, 1.5), (2, 1.5), (3, 0.5)]
    ]


def test_comfy_keeps_words_whole_unless_they_are_long(monkeypatch):
    words = Words()
    monkeypatch.setattr(words, "encode_words", lambda text: [7] * len(text), raising=False)
    assert split_blocks(words, [Chunk("aaaaa bbbb")], "comfy") == [[(7, 1.0)] * 5, [(7, 1.0)] * 4]
    assert [len(block) for block in split_blocks(words, [Chunk("aaaaa " + "b" * 9)], "comfy")] == [
        8,
        6,
    ]
    assert [len(block) for block in split_blocks(words, [Chunk("aaaaabbbb")], "compel")] == [8, 1]
    assert [len(block) for block in split_blocks(words, [Chunk("aaaaa\nbbbb")], "comfy")] == [
        5,
        4,
    ]  # a line ends a word


def test_weights_of_the_web_ui_keep_the_mean(engine):
    model = engine.model
    plain = encode_weighted(model, (Chunk("a cat"), Chunk(" in space")))
    assert torch.equal(plain, encode_weighted(model, (Chunk("a cat in space"),)))
    found = encode_weighted(model, (Chunk("a cat"), Chunk(" in space", 1.4)))
    tokens = (
        len(model.tokenizer.encode_words("a cat")),
        len(model.tokenizer.encode_words("in space")),
    )
    by = torch.ones(plain.shape[1])
    by[1 + tokens[0] : 1 + sum(tokens)] = 1.4
    expected = plain * by[:, None]
    expected = expected * (plain.mean() / expected.mean())
    assert torch.allclose(found, expected, rtol=1e-5)  # fp32 sums
    assert not torch.allclose(found, plain, rtol=1e-3)
    assert found.mean().item() == pytest.approx(plain.mean().item(), rel=1e-4)


def test_weights_of_comfy_move_away_from_the_empty_prompt(engine):
    model = engine.model
    plain, empty = encode_weighted(model, (Chunk("a cat"),)), encode_weighted(model, (Chunk(""),))
    found = encode_weighted(model, (Chunk("a cat", 1.3),), "comfy")
    count = len(model.tokenizer.encode_words("a cat"))
    inside = slice(1, 1 + count)
    assert torch.allclose(
        found[:, inside], empty[:, inside] + 1.3 * (plain - empty)[:, inside], rtol=1e-5, atol=1e-6
    )
    assert torch.equal(found[:, 1 + count :], plain[:, 1 + count :])


def test_weights_of_compel_below_one_go_towards_the_prompt_without(engine):
    """Here of its older mode, whose prompt without is one that can be written;
    tests/pipeline/test_compel_parity.py has both."""
    model, chunks = engine.model, (Chunk("a cat"), Chunk("in space", 0.5))
    without, moved = (
        encode_weighted(model, (Chunk("a cat"),)),
        encode_weighted(model, chunks, "comfy"),
    )
    # at ½ both have equal parts: tan(π/4) is 1
    assert torch.allclose(
        encode_weighted(model, chunks, "compel", remove=True),
        (moved + without) / 2,
        rtol=1e-4,
        atol=1e-5,
    )
    gone = encode_weighted(model, (Chunk("a cat"), Chunk("in space", 0.0)), "compel", remove=True)
    assert torch.allclose(gone, without, atol=1e-3)  # of weight 10⁻⁵, compel's least


def test_words_that_nobody_sees_might_be_any_others(engine):
    """At weight 0 what compel masks is gone from all that follows it, the end of the text too; its
    place is not."""
    gone = [
        encode_weighted(engine.model, (Chunk("a"), Chunk(word, 0.0), Chunk("b")), "compel")[0]
        for word in ("x", "y")
    ]
    here = [
        encode_weighted(engine.model, (Chunk("a"), Chunk(word), Chunk("b")), "compel")[0]
        for word in ("x", "y")
    ]
    assert torch.allclose(gone[0][3:], gone[1][3:], atol=1e-3)  # of weight 10⁻⁵
    assert not torch.allclose(here[0][3:], here[1][3:], atol=0.1)
    without = encode_weighted(engine.model, (Chunk("a b"),), "compel")[0]
    assert not torch.allclose(gone[0][3], without[2], atol=0.1)


def test_compel_joins_before_the_network_sees_anything(engine):
    first = lambda prompt, **more: next(engine.steps(prompt, seed=1, dialect="compel", **more)).x0  # noqa: E731
    # what is attended to twice is attended to as once: in another order of sums
    assert torch.allclose(first('("a cat", "a cat").and()'), first("a cat"), atol=1e-4)
    assert not torch.allclose(first('("a cat", "a dog").and()'), first("a cat"), atol=1e-2)
    assert not torch.allclose(
        first('("a cat", "a dog").and(1, 0.5)'), first('("a cat", "a dog").and()'), atol=1e-2
    )
    against = first("a cat", negative_prompt="dog")
    assert torch.allclose(
        first("a cat", negative_prompt='("dog", "dog").blend()'), against, atol=1e-4
    )
    assert not torch.allclose(
        first("a cat", negative_prompt='("dog", "fish").blend()'), against, atol=1e-2
    )
    # a shorter negative prompt goes on as the empty one
    long = '("a cat", "a cat").and()'
    longer = first(long, negative_prompt="dog")
    assert torch.equal(longer, first(long, negative_prompt='("dog", "").and()'))
    assert not torch.allclose(longer, against, atol=1e-2)


def test_clip_skip_takes_an_earlier_layer(engine):
    model = engine.model
    ids, _ = model.tokenizer.encode("a cat")
    out = model.text_encoder(torch.tensor([ids]))
    assert torch.equal(encode_weighted(model, (Chunk("a cat"),), clip_skip=1), out.last_hidden)
    earlier = model.text_encoder.text_model.final_layer_norm(out.hidden_states[-2])
    assert torch.equal(encode_weighted(model, (Chunk("a cat"),), clip_skip=2), earlier)
    with pytest.raises(BadInput, match="from 1 to 2"):
        engine.generate("a cat", clip_skip=3)
    assert (
        engine.generate("a cat", seed=1, clip_skip=2).tobytes()
        != engine.generate("a cat", seed=1).tobytes()
    )


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"negative_prompt": "dog"},
        {"cfg": 1.0},
        {"sampler": "euler_cfg_pp"},
        {"apg": True, "apg_momentum": -0.5},
        {"sampler": "dpm_adaptive"},
        {"cfg_sigma_max": 3.0},
        {"skip_uncond_below": 5.0},
        {"cfg_rescale": 0.5},
    ],
)
def test_words_alone_draw_the_same_bits_either_way(engine, more):
    one = engine.generate("a cat in space", seed=3, count=2, **more)
    other = engine.generate(
        "a cat [::1]in space", seed=3, count=2, **more
    )  # an edit from nothing to nothing
    assert [p.tobytes() for p in one] == [p.tobytes() for p in other]


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.text(), st.lists(st.sampled_from(SIGNS), max_size=12).map("".join)))
def test_words_are_the_same_words_to_both_paths(engine, text):
    """What `build_denoiser` shows as plain words is no syntax to the parser either, at any length:
    the composed path reads one unweighted part of the very same tokens."""
    if SYNTAX.search(text):
        return
    tokenizer = engine.model.tokenizer
    (part,) = parse_prompt(text).resolve(0, 1)
    assert (part.weight, part.regions) == (1.0, ())
    assert all(isinstance(chunk, Chunk) and chunk.weight == 1 for chunk in part.chunks)
    assert [
        id for chunk in part.chunks for id in tokenizer.encode_words(chunk.text)
    ] == tokenizer.encode_words(text)


@pytest.mark.parametrize("text", ["a cat, ratio 16:9", "cat :1.5", "a | b", "12:30, 1:2 "])
def test_colons_are_words_at_any_length(engine, text):
    """Plain, escaped, which takes the composed path, and in a prompt of many blocks."""
    plain = engine.generate(text, seed=1).tobytes()
    assert plain == engine.generate(re.sub("([:|])", r"\\\1", text), seed=1).tobytes()
    long = "neon cat " * 20 + text
    assert (
        engine.generate(long, seed=1).tobytes()
        == engine.generate(long.replace(":", r"\:"), seed=1).tobytes()
    )
    against = {"seed": 1, "prompt": "a cat"}
    assert (
        engine.generate(**against, negative_prompt=long).tobytes()
        == engine.generate(**against, negative_prompt=long.replace(":", r"\:")).tobytes()
    )


def test_a_ratio_beside_and_says_that_it_is_a_weight(engine):
    notes = next(engine.steps("a cat, ratio 16:9 AND a dog", seed=1)).notes
    assert any(r"16\:9" in note for note in notes)
    for prompt in (r"a cat, ratio 16\:9 AND a dog", "a cat :0.9 AND a dog", "(a) ratio 16:9"):
        assert next(engine.steps(prompt, seed=1)).notes == ()


def test_words_that_no_caption_had_are_named(engine):
    words = {"words": ["a", "cat", "in", "space", "neon", "photo"]}
    known = Engine(replace(engine.model, defaults=engine.model.defaults | words))

    said = "no caption that this model learnt from has "

    def notes(prompt, **more):
        step = next(known.steps(prompt, seed=1, **more))
        return tuple(note for note in step.notes if note.startswith(said))

    assert notes("A Neon cat, IN x 1:9") == (said + "'x'",)
    assert notes("an astronaut riding a cat") == (said + "'an', 'astronaut', 'riding'",)
    assert notes("a cat", negative_prompt="blurry") == (said + "'blurry'",)
    assert notes("a cat", negative_prompt="blurry", cfg=1) == ()  # it is not shown
    assert notes("a [cat:dog:0.5] AND (a fish:1.2)") == (said + "'dog', 'fish'",)
    assert notes("a cat BREAK", negative_prompt="(dog)") == (said + "'dog'",)
    assert notes("a cat++ (dog)0.5", dialect="compel") == (said + "'dog'",)
    assert notes("你好, Über cat") == (said + "'你好', 'über'",)
    assert notes("b c d e f g h i j k l")[0].endswith("'i' and 3 more")
    assert notes("") == ()
    assert next(engine.steps("an astronaut", seed=1)).notes == ()  # it brings no list


def test_emphasis_edits_and_alternation_reach_the_picture(engine):
    draw = lambda prompt, **more: engine.generate(prompt, seed=1, **more).tobytes()  # noqa: E731
    assert draw("a (cat:1.0) in space") == draw("a cat in space")
    assert draw("a (cat:1.5) in space") != draw("a cat in space")
    assert draw(r"a \(cat\)", dialect="a1111") == draw("a \\(cat)", dialect="a1111")
    assert draw("a cat", negative_prompt="(dog:1.5)") != draw("a cat", negative_prompt="dog")


def test_edits_hold_from_their_step_on(engine):
    def xs(prompt, **more):
        return [step.x for step in engine.steps(prompt, seed=1, **more)]

    cat, dog, edited = xs("a cat"), xs("a dog"), xs("a [cat:dog:2]")
    assert [torch.equal(a, b) for a, b in zip(cat, edited, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    assert not torch.equal(edited[-1], dog[-1])
    assert torch.equal(xs("a [cat:dog:0.5]")[-1], edited[-1])
    assert torch.equal(xs("a [cat:dog:0]")[-1], dog[-1])
    turns = xs("a [cat|dog]")
    assert torch.equal(turns[0], cat[0])
    assert not torch.equal(turns[1], cat[1])
    against = xs("a cat", negative_prompt="[blue:red:2]")
    assert torch.equal(against[1], xs("a cat", negative_prompt="blue")[1])
    assert not torch.equal(against[2], xs("a cat", negative_prompt="blue")[2])


def test_by_call_edits_count_questions_and_come_one_late(engine):
    """Heun asks twice a step: by A1111's rule an edit at call 3 holds from the fourth question on,
    one late."""

    def xs(prompt, **more):
        return [step.x for step in engine.steps(prompt, seed=1, sampler="heun", **more)]

    cat, edited = xs("a cat"), xs("a [cat:dog:2]", prompt_steps="call")
    # questions 0 1 | 2 3 | …: calls 0, 0, 1, 2: the first that shows "dog" is question 3, inside
    # step 1
    assert [torch.equal(a, b) for a, b in zip(cat, edited, strict=True)] == [
        True,
        False,
        False,
        False,
    ]
    assert torch.equal(xs("a [cat:dog:2]")[1], cat[1])  # by step it is untouched


def test_parts_add_up():
    x0 = [torch.full((1, 1, 2, 2), v) for v in (1.0, 3.0)]
    uncond = torch.full((1, 1, 2, 2), 2.0)
    assert combine_predictions(x0, [1.0, 1.0], uncond).unique().tolist() == [2 + (1 - 2) + (3 - 2)]
    assert combine_predictions(x0, [0.5, 1.5], uncond).unique().tolist() == [2 - 0.5 + 1.5]
    assert combine_predictions(x0, [0.25, 0.75], None).unique().tolist() == [2.5]
    assert [adds_up_to_one(w) for w in ([1.0], [0.5, 0.5], [1.0, 1.0], [0.4])] == [
        True,
        True,
        False,
        False,
    ]
    left, half = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[1.0, 1.0]]]])
    assert combine_predictions(x0, [left, half], uncond)[0, 0, 0].tolist() == [2.0, 3.0]
    assert combine_predictions(x0, [left, left * 3], uncond)[0, 0, 0].tolist() == [
        2.5,
        2.0,
    ]  # none holds on the right
    assert adds_up_to_one([left, half])
    assert not adds_up_to_one([left, left])


def test_places():
    assert place_regions((), 4, 6, 8) == 1.0
    left = place_regions((Box((0.0, 0.5), (0.0, 1.0), 0.7),), 4, 6, 8)
    assert left[0, 0].tolist() == [[pytest.approx(0.7)] * 3 + [0.0] * 3] * 4
    both = place_regions((Box((0.0, 0.5)), Box((16.0, 48.0), (8.0, 32.0), 1.0, True)), 4, 6, 8)
    assert both[0, 0].nonzero().tolist() == [[1, 2], [2, 2], [3, 2]]
    with pytest.raises(BadInput, match="x1 < x2"):
        place_regions((Box((0.5, 0.5)),), 4, 6, 8)
    with pytest.raises(BadInput, match="'face'"):
        place_regions((Mask("face"),), 4, 6, 8)


def test_masks_by_name():
    cover = torch.tensor([[0.0, 0.5], [1.0, 1.0]])[None, None]
    found = place_regions((Mask("face", 0.5), Box((0.5, 1.0))), 2, 2, 8, {"face": cover})
    assert torch.is_tensor(found)
    assert found[0, 0].tolist() == [[0.0, 0.25], [0.0, 0.5]]


def painted(path, *boxes, size=(32, 32), value=255):
    picture = Image.new("L", size)
    for box in boxes:
        picture.paste(value, box)
    picture.save(path)
    return path


def test_a_mask_is_averaged_over_each_place_of_the_latents(tmp_path):
    notes = {}
    half = painted(tmp_path / "half.png", (0, 0, 20, 32))  # 2.5 places of 8 pixels
    grey = painted(tmp_path / "grey.png", (0, 0, 32, 16), value=51)
    wide = painted(tmp_path / "wide.png", (0, 0, 30, 30), size=(60, 30))
    found = read_region_masks({"half": half, "grey": grey, "wide": wide}, 4, 4, notes)
    assert found["half"][0, 0].tolist() == [[1.0, 1.0, 0.5, 0.0]] * 4
    assert torch.allclose(
        found["grey"][0, 0], torch.tensor([0.2, 0.2, 0.0, 0.0])[:, None].expand(4, 4)
    )
    assert found["wide"][0, 0].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4
    assert list(notes) == ["the mask 'wide' is 60x30: it is stretched"]
    with pytest.raises(BadInput, match="black"):
        read_region_masks({"none": painted(tmp_path / "none.png")}, 4, 4, {})
    with pytest.raises(NotFound, match=r"nowhere\.png"):
        read_region_masks({"none": tmp_path / "nowhere.png"}, 4, 4, {})


def test_masks_by_name_reach_the_picture(engine, tmp_path):
    """Halves by mask are, to the bit, the halves by number."""
    left, right = (
        painted(tmp_path / "l.png", (0, 0, 16, 32)),
        painted(tmp_path / "r.png", (16, 0, 32, 32)),
    )
    masks = {"left": left, "r": str(right)}
    by_number = engine.generate("a cat MASK(0 0.5) AND a dog MASK(0.5 1)", seed=1, count=2)
    by_mask = engine.generate("a cat IMASK(left) AND a dog IMASK(r)", seed=1, count=2, masks=masks)
    assert [p.tobytes() for p in by_mask] == [p.tobytes() for p in by_number]
    other = engine.generate("a dog IMASK(left) AND a cat IMASK(r)", seed=1, masks=masks)
    assert other.tobytes() != by_mask[0].tobytes()
    request = GenerationRequest.of(prompt="a cat IMASK(left)", masks=masks)
    assert GenerationRequest.model_validate_json(request.model_dump_json()) == request
    [note] = next(engine.steps("a cat", seed=1, masks={"left": masks["left"]})).notes
    assert note == "the mask 'left' is not used: the prompt has no IMASK(left)"
    with pytest.raises(BadInput, match="--mask-file r=FILE"):
        engine.generate(
            "a cat IMASK(left) AND a dog IMASK(r)", seed=1, masks={"left": masks["left"]}
        )
    with pytest.raises(BadInput, match="masks"):
        engine.generate("a cat", masks={str(i): "x.png" for i in range(100)})


def test_parts_and_regions_reach_the_picture(engine):
    first = lambda prompt, **more: next(engine.steps(prompt, seed=1, cfg=1.0, **more)).x0  # noqa: E731
    cat, dog = first("a cat"), first("a dog")
    both = first("a cat MASK(0 0.5) AND a dog MASK(0.5 1)")
    assert torch.equal(both[..., :4], cat[..., :4])
    assert torch.equal(both[..., 4:], dog[..., 4:])
    assert torch.allclose(first("a cat :0.5 AND a dog :0.5"), (cat + dog) / 2, atol=1e-6)
    uncond = first("")
    alone = first("a cat MASK(0 0.5)")  # where no part holds, nothing is asked for
    assert torch.allclose(
        alone[..., :4], cat[..., :4], atol=1e-5
    )  # one call of two prompts there, of one here
    assert torch.allclose(alone[..., 4:], uncond[..., 4:], atol=1e-5)
    assert torch.allclose(first("a cat AND a dog"), cat + dog - uncond, atol=1e-5)
    guided = next(engine.steps("a cat AND a dog :0.5", seed=1, cfg=3.0)).x0
    assert torch.allclose(guided, uncond + 3 * (cat - uncond + 0.5 * (dog - uncond)), atol=1e-4)
    blend = first('("a cat", "a dog").blend(0.5, 0.5)', dialect="compel")
    assert not torch.equal(blend, first("a cat :0.5 AND a dog :0.5"))
    assert torch.equal(first('("a cat", "a cat").blend(0.5, 0.5)', dialect="compel"), cat)


# Its steps are chosen by a tolerance: a loose one takes few of them, in the same code.
ADAPTIVE = {
    "sampler": "dpm_adaptive",
    "sampler_options": {"rtol": 0.5, "atol": 0.5, "h_init": 2.0},
}


def test_a_picture_has_the_same_bits_in_any_batch(engine):
    for prompt in ("a (cat:1.3) AND [dog|fish] :0.5", "a cat MASK(0 0.6) AND a dog MASK(0.4 1)"):
        for more in ({}, {"apg": True, "apg_momentum": -0.5}, ADAPTIVE):
            batch = engine.generate(prompt, seed=5, count=2, **more)
            alone = [engine.generate(prompt, seed=5 + i, **more) for i in range(2)]
            assert [p.tobytes() for p in batch] == [p.tobytes() for p in alone]


def test_every_picture_may_have_a_prompt_of_its_own(engine):
    """Latents, not pictures: the evaluation decodes a batch at once, which may round otherwise."""
    prompts = ["a (cat:1.3)", "a dog", "a [cat:dog:2]"]
    request = GenerationRequest.of(seed=1, count=3).resolve(engine.model)

    def latents(prompts: list[str], seeds: list[int]) -> torch.Tensor:
        answer, _ = build_denoiser(engine.model, engine.unet, request, prompts, None)
        return drive(start_sampler(engine.model, request, seeds)[1], answer)

    together = latents(prompts, [1, 2, 3])
    for i, prompt in enumerate(prompts):
        assert torch.equal(together[i], latents([prompt], [i + 1])[0])


def test_long_prompts_are_read_whole_and_say_so(engine):
    words = engine.model.tokenizer
    long = "neon cat " * 20
    step = next(engine.steps(long, seed=1, steps=1))
    count, room = len(words.encode_words(long)), words.max_length - 2
    assert step.notes == (
        f"the prompt has {count} tokens, read in {math.ceil(count / room)} blocks of {room}",
    )
    assert (
        encode_weighted(engine.model, (Chunk(long),)).shape[1]
        == math.ceil(count / room) * words.max_length
    )
    other = next(engine.steps(long + "dog", seed=1, steps=1))
    assert not torch.equal(step.x, other.x)  # its last word is read too
    assert next(engine.steps("a cat", seed=1, steps=1)).notes == ()


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a cat <hypernet:paper:0.8>", "hypernet 'paper'"),
        ("a cat IMASK(face)", "'face'"),
        ("cat MASK(0.5 0.2)", "x1 < x2"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_step(engine, prompt, said):
    with pytest.raises(BadInput, match=said):
        next(engine.steps(prompt, seed=1))
    with pytest.raises(BadInput, match="20000 characters") as error:
        engine.generate("a" * 20_001)
    assert len(str(error.value)) < 400
    with pytest.raises(BadInput, match="leave out its MASK"):
        engine.generate("a cat", negative_prompt="a dog MASK(0 0.5)", seed=1)
    with pytest.raises(BadInput, match="lora 'x'"):
        engine.generate("a cat", negative_prompt="<lora:x>", seed=1)


def test_a_distilled_model_takes_parts_that_add_up_to_one(tmp_path):
    engine = Engine(fakes.model(tmp_path, guidance_dim=16, steps=2, cfg=3.0))
    engine.generate("a (cat:1.2) :0.5 AND a dog :0.5", seed=1)
    with pytest.raises(BadInput, match="add up to 1"):
        engine.generate("a cat AND a dog", seed=1)


def test_the_bundled_model_brings_the_words_of_its_captions():
    from fromnoise.checkpoints.hub import BUNDLED
    from fromnoise.data.sources import open_source
    from fromnoise.train.stages.assemble import list_caption_words

    words = json.loads((BUNDLED / "fromnoise.json").read_text())["words"]
    assert words == list_caption_words(open_source("stickers"), 1000)
    assert {"neon", "cats", "snowy"} < {*words}
    assert "astronaut" not in words
