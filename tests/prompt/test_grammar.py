"""The prompt grammar against what its three homes document, and its own promises: nothing crashes,
all can be written.

The goldens are input and output of the doctests and documentation named beside them; "run" means
that the original gave them when it was run (A1111's parser with lark 1.1.2). Weights are compared
to the bit, but where a tolerance is named."""

import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromnoise.errors import BadInput, UnknownName
from fromnoise.pipeline.request import GenerationRequest
from fromnoise.prompt.dialects import DIALECTS
from fromnoise.prompt.grammar import list_stages, parse_prompt, write_prompt
from fromnoise.prompt.tree import (
    Alternate,
    Box,
    Break,
    Chunk,
    Edit,
    Mask,
    Network,
    Part,
    Prompt,
    Resolved,
)

LESS = 1 / 1.1


def plain(parts: tuple[Resolved, ...]):
    """Of one part: its (words, weight), with "BREAK" for a break."""
    (part,) = parts
    return [
        (chunk.text, chunk.weight) if isinstance(chunk, Chunk) else "BREAK" for chunk in part.chunks
    ]


def said(text: str, dialect: str = "a1111"):
    return plain(parse_prompt(text, dialect).resolve(0, 1))


def stages(text: str, steps: int = 10, first: int = 0):
    """Where only words matter: (last step, words)."""
    found = list_stages(parse_prompt(text), steps, first)
    return [(last, "".join(chunk.text for chunk in part.chunks)) for last, (part,) in found]


# a1111: emphasis


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the doctests of `parse_prompt_attention`
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.5730000000000004),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641000000000006),
                (".", 1.1),
            ],
        ),
        # run
        ("", [("", 1.0)]),
        ("[less] [[far less", [("less", LESS), (" ", 1.0), ("far less", LESS * LESS)]),
        ("(a [b) c] d", [("a ", 1.1), ("b", 1.0), (" c", LESS), (" d", 1.0)]),
        ("a) b] c", [("a) b] c", 1.0)]),
        ("[(a:1.5)", [("a", 1.5 * LESS)]),
        (r"\x \: a\b \\", [("x : ab \\", 1.0)]),
        ("(a:-.5) (b: 2. ) (c:d)", [("a", -0.5), (" ", 1.0), ("b", 2.0), (" ", 1.0), ("c:d", 1.1)]),
        ("a BREAK b BREAKS", [("a", 1.0), "BREAK", ("b BREAKS", 1.0)]),
        ("BREAK", ["BREAK"]),
    ],
)
def test_a1111_emphasis(text, expected):
    assert said(text) == expected


def test_a_break_inside_emphasis_is_a_break():  # A1111 makes it the word BREAK, of weight −1.2
    assert said("(a BREAK b:1.2) c") == [("a", 1.2), "BREAK", ("b", 1.2), (" c", 1.0)]


# a1111: edits


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the doctests of `get_learned_conditioning_prompt_schedules`, without emphasis
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a b")]),
        ("[(a:2):3]", [(3, ""), (10, "a")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("a [unbalanced", [(10, "a unbalanced")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("((a][:b:c [d:3]", [(3, "a]:b:c "), (10, "a]:b:c d")]),
        (
            "[fe|]male",
            [
                (1, "female"),
                (2, "male"),
                (3, "female"),
                (4, "male"),
                (5, "female"),
                (6, "male"),
                (7, "female"),
                (8, "male"),
                (9, "female"),
                (10, "male"),
            ],
        ),
        (
            "[fe|||]male",
            [(1, "female"), (4, "male"), (5, "female"), (8, "male"), (9, "female"), (10, "male")],
        ),
        # the wiki's, "Prompt editing" and "Alternating words"
        ("[from::4] x", [(4, "from x"), (10, " x")]),
        (
            "[cow|horse] in a field",
            [(i + 1, ("cow", "horse")[i % 2] + " in a field") for i in range(10)],
        ),
        # run
        (
            "[cow|horse] in a [[field|sea]:space:.5]",
            [
                (
                    i + 1,
                    ("cow", "horse")[i % 2]
                    + " in a "
                    + (("field", "sea")[i % 2] if i < 5 else "space"),
                )
                for i in range(10)
            ],
        ),
        ("[a:b:-1] [c:d:0.0]", [(10, "b d")]),
        ("[a:b:1e1] [c:d:1.0] [e:f:99]", [(10, "a c e")]),
        ("[a:b:1.5]", [(10, "a")]),
        ("[a:b:c] [a:b:c:3]", [(10, "a:b:c a:b:c:3")]),
        ("a | [b:3]", [(10, "a | b:3")]),  # a stray "|" or backslash: nothing is edited
        ("[b:3] \\", [(10, "b:3 ")]),
        ("[a (b:c:d) :3]", [(10, "a b:c:d :3")]),  # a stray bracket makes those around it stray
        ("[a:b:5e-1]", [(10, "b")]),  # no decimal point: step 0.5, which is 0
        (r"[a\:b\|c:\]:3]", [(3, "a:b|c"), (10, "]")]),
    ],
)
def test_a1111_schedules(text, expected):
    assert stages(text) == expected


def test_a1111_emphasis_in_edits_and_edits_in_emphasis():
    assert list_stages(parse_prompt("[a|(b:1.1)]"), 10) == [  # a doctest
        (i + 1, (Resolved((Chunk("b", 1.1) if i % 2 else Chunk("a"),)),)) for i in range(10)
    ]
    prompt = parse_prompt("(a [b:(c:1.5):2]:1.2)")  # run: (a b:1.2), (a (c:1.5):1.2)
    assert plain(prompt.resolve(1, 10)) == [("a b", 1.2)]
    assert plain(prompt.resolve(2, 10)) == [("a ", 1.2), ("c", 1.5 * 1.2)]
    prompt = parse_prompt(
        "(cat:[1.1:1.5:3]) (cat:[a|b])"
    )  # run: (cat:1.1) (cat:a), and from then on (cat:1.5) (cat:b)
    assert plain(prompt.resolve(2, 10)) == [("cat", 1.1), (" ", 1.0), ("cat:a", 1.1)]
    assert plain(prompt.resolve(3, 10)) == [("cat", 1.5), (" ", 1.0), ("cat:b", 1.1)]


def test_a1111_doctest_of_a_hundred_steps():
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75]"
        "[ in foreground::0.6]"
        "[: in background:0.25] [shoddy:masterful:0.5]"
    )
    with_a, bg = "fantasy landscape with a ", " in background"
    assert stages(text, 100) == [
        (25, with_a + "mountain and an oak in foreground shoddy"),
        (50, with_a + f"lake and an oak in foreground{bg} shoddy"),
        (60, with_a + f"lake and an oak in foreground{bg} masterful"),
        (75, with_a + f"lake and an oak{bg} masterful"),
        (100, with_a + f"lake and a christmas tree{bg} masterful"),
    ]


def test_a_second_pass_counts_on():
    assert stages("a [b:.5] c", first=10) == [(10, "a b c")]  # two doctests
    assert stages("a [b:1.5] c", first=10) == [(5, "a  c"), (10, "a b c")]
    assert stages("a [b:13] c", first=10) == [(3, "a  c"), (10, "a b c")]


def test_whole_numbers_count_what_the_caller_counts():
    prompt = parse_prompt("[a:b:4]")
    by_step = [
        "".join(c.text for c in prompt.resolve(step, 10)[0].chunks)
        for step in range(10)
        for _ in range(2)
    ]
    by_call = ["".join(c.text for c in prompt.resolve(call, 20)[0].chunks) for call in range(20)]
    assert (by_step.count("a"), by_call.count("a")) == (8, 4)


# a1111: AND, regions, networks


def test_and_joins_weighted_parts():
    def parts(text):
        return [
            ("".join(c.text for c in part.chunks), part.weight)
            for part in parse_prompt(text).resolve(0, 1)
        ]

    # the wiki's, "Composable Diffusion"; then run
    assert parts("a cat :1.2 AND a dog AND a penguin :2.2") == [
        ("a cat", 1.2),
        ("a dog", 1.0),
        ("a penguin", 2.2),
    ]
    assert parts("BAND AND:.5 ANDY") == [("BAND", 1.0), (":.5 ANDY", 1.0)]
    assert parts("a (b:2) and AND x\n:-1. ") == [("a b and", 1.0), ("x", -1.0)]
    assert parts("AND") == [("", 1.0), ("", 1.0)]
    assert [p.weight for p in parse_prompt("[a:b:2] AND [c|d] :0.5").parts] == [1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "parts"),
    [  # A1111 takes the number behind any prompt's last colon for its weight; here AND makes it one
        ("a neon cat, ratio 16:9", [("a neon cat, ratio 16:9", 1.0)]),
        ("a photo :1.3", [("a photo :1.3", 1.0)]),
        ("(a) ratio 16:9", [("a ratio 16:9", 1.0)]),
        ("time 12:30 BREAK at 4:3", [("time 12:30at 4:3", 1.0)]),
        ("ratio 16:9 AND a dog", [("ratio 16", 9.0), ("a dog", 1.0)]),
        (r"ratio 16\:9 AND a dog", [("ratio 16:9", 1.0), ("a dog", 1.0)]),
        (r"ratio 16\:9", [("ratio 16:9", 1.0)]),
        (r"slash \\:9 AND a dog", [("slash \\", 9.0), ("a dog", 1.0)]),
        (r"slash \\\:9 AND a dog", [("slash \\:9", 1.0), ("a dog", 1.0)]),
        ("cat MASK(0 0.5) :0.5", [("cat", 0.5)]),
        ("a:1:2 AND b:\t-.5\n", [("a:1", 2.0), ("b", -0.5)]),
        ("a:9x AND b 3:", [("a:9x", 1.0), ("b 3:", 1.0)]),
        (":9 AND :", [("", 9.0), (":", 1.0)]),
    ],
)
def test_a_part_has_a_weight_only_beside_others(text, parts):
    joined = [
        ("".join(c.text for c in part.chunks if isinstance(c, Chunk)), part.weight)
        for part in parse_prompt(text).resolve(0, 1)
    ]
    assert joined == parts


@pytest.mark.parametrize(
    ("text", "regions"),
    [  # prompt-control's doc/regional_prompts.md
        ("cat MASK(0 0.5, 0 1)", (Box((0, 0.5), (0, 1)),)),
        ("cat MASK(0 0.5, 0.3)", (Box((0, 0.5), (0.3, 1)),)),
        ("MASK() cat", (Box(),)),
        ("cat MASK(0 256, 64 512)", (Box((0, 256), (64, 512), pixels=True),)),
        ("cat MASK(0 0.5, 0 1, 0.7) :1.2", (Box((0, 0.5), (0, 1), 0.7),)),
        (
            "cat IMASK(0) MASK( , 0.5 )IMASK(left-hand, 0.3)",
            (Mask("0"), Box(y=(0.5, 1)), Mask("left-hand", 0.3)),
        ),
        ("cat MASK(0 200)", ()),  # pixels and fractions do not mix: these are words
        ("cat MASK(face) mask(0 1)", ()),
    ],
)
def test_regions(text, regions):
    (part,) = parse_prompt(text).parts
    assert part.regions == regions
    assert bool(regions) == (part.nodes == (Chunk("cat"),))


@pytest.mark.parametrize(
    ("tag", "network"),
    [  # A1111's extra_networks.py and extra_networks_lora.py
        ("<lora:a>", Network("lora", "a")),
        ("<lora:a b:0.5>", Network("lora", "a b", 0.5, 0.5)),
        ("<lora:a:0.5:-1>", Network("lora", "a", 0.5, -1.0)),
        ("<lora:a:unet=0.3:0.5>", Network("lora", "a", 0.5, 0.3)),
        ("<lora:a:1:1:dyn=8>", Network("lora", "a", extra=("dyn=8",))),
        ("<hypernet:agm:1.1>", Network("hypernet", "agm", 1.1, 1.1)),
        (
            "<extrasupernet:master:12:13:14>",
            Network("extrasupernet", "master", 12.0, 13.0, ("14",)),
        ),
        ("<lora:a:b:nan:1e2>", Network("lora", "a", extra=("b", "nan", "1e2"))),
    ],
)
def test_networks(tag, network):
    prompt = parse_prompt(f"a (big{tag} cat:1.3)")
    assert prompt.networks == (network,)
    assert plain(prompt.resolve(0, 1)) == [("a ", 1.0), ("big cat", 1.3)]
    assert parse_prompt(write_prompt(prompt)) == prompt


# comfy


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # the docstring of `token_weights`
        ("(foo)", [("foo", 1.1)]),
        ("(foo)(bar)", [("foo", 1.1), ("bar", 1.1)]),
        ("(foo:2.0)", [("foo", 2.0)]),
        ("((foo))", [("foo", 1.21)]),
        ("((foo):1.1)", [("foo", 1.21)]),
        ("((foo:1.1))", [("foo", 1.1)]),
        ("(foo:0.0)", [("foo", 0.0)]),
        ("((foo:1.0):0.0)", [("foo", 1.0)]),
        (
            "foo ((((lol (cat:666) attack:100)))) baz",
            [("foo ", 1.0), ("lol ", 100.0), ("cat", 666.0), (" attack", 100.0), (" baz", 1.0)],
        ),
        (
            "foo ((((lol (cat:666) attack):100))) baz",
            [("foo ", 1.0), ("lol ", 110.0), ("cat", 666.0), (" attack", 110.0), (" baz", 1.0)],
        ),
        # run
        (r"a \(b\) [c] \\", [(r"a (b) [c] \\", 1.0)]),
        ("(open (a)", [("open ", 1.1), ("(a", 1.1)]),
        ("a) (b) AND (c", [("a) (b) AND (c", 1.0)]),
        ("(a:b:1e1) (:2)", [("a:b", 10.0), (" ", 1.0), (":2", 1.1)]),
        ("", [("", 1.0)]),
    ],
)
def test_comfy(text, expected):
    found = said(text, "comfy")
    assert [words for words, _ in found] == [words for words, _ in expected]
    # the docstring rounds: 1.1 · 1.1 is 1.2100000000000002
    assert [weight for _, weight in found] == pytest.approx(
        [weight for _, weight in expected], rel=1e-15
    )


def test_comfy_embeddings_keep_their_place():
    prompt = parse_prompt(
        "a (embedding:bad-hands:1.2), embedding:easy, aembedding:no <lora:x:2>", "comfy"
    )
    (part,) = prompt.parts
    assert part.nodes == (
        Chunk("a "),
        Chunk("bad-hands", 1.2, True),
        Chunk(", "),
        Chunk("easy", 1.0, True),
        Chunk(", aembedding:no "),
    )
    assert prompt.networks == (
        Network("lora", "x", 2.0, 2.0),
        Network("embedding", "bad-hands", 1.2, 1.2),
        Network("embedding", "easy"),
    )


# compel


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # test/test_prompt_parser.py
        ("", [("", 1)]),
        ("fire (flames)", [("fire flames", 1)]),
        ("fire, flames , fire", [("fire, flames , fire", 1)]),
        ("cat hot-dog eating", [("cat hot-dog eating", 1)]),
        ("fire (flames)0.5", [("fire", 1), ("flames", 0.5)]),
        ('fire "flames".attend(0.5)', [("fire", 1), ("flames", 0.5)]),
        ("flames.attend(+)", [("flames", 1.1)]),
        ('"flames"-', [("flames", 0.9)]),
        ("(flowers)--- flames+++", [("flowers", 0.9**3), ("flames", 1.1**3)]),
        (
            "(pretty flowers)+, the flames are too hot",
            [("pretty flowers", 1.1), (", the flames are too hot", 1)],
        ),
        (
            "(a text.)0.7. (a second text.)0.8",
            [("a text .", 0.7), (".", 1), ("a second text .", 0.8)],
        ),
        ("flowers fire++ flames", [("flowers", 1), ("fire", 1.1**2), ("flames", 1)]),
        ("a badly (formed +test )prompt", [("a badly formed +test prompt", 1)]),
        ("(((a badly (formed +test )prompt", [("(((a badly formed +test prompt", 1)]),
        ("(a (ba)dly (f)ormed +test prompt", [("(a ba dly f ormed +test prompt", 1)]),
        ("hamburger ((kaiser roll))", [("hamburger kaiser roll", 1)]),
        (r"mountain (\(man\))+", [("mountain", 1), ("(man)", 1.1)]),
        (r"(\"mountain\")+ (\(man\))-", [('"mountain"', 1.1), ("(man)", 0.9)]),
        (r"hairy (mountain (\(man\))+)+", [("hairy", 1), ("mountain", 1.1), ("(man)", 1.1 * 1.1)]),
        (
            r'hairy ("mountain, \"man\"" with a (beard)2.0)+',
            [("hairy", 1), ('mountain , "man" with a', 1.1), ("beard", 1.1 * 2.0)],
        ),
        ("(happy camper:0.3)", [("happy camper:0 . 3", 1)]),
        ("middle age,fantasy++ style", [("middle age,", 1), ("fantasy", 1.1**2), ("style", 1)]),
    ],
)
def test_compel(text, expected):
    found = said(text, "compel")
    assert [words for words, _ in found] == [words for words, _ in expected]
    # 1.1**3 and its like are the same power either way; a unit in the last place for the platform's
    # pow
    assert [weight for _, weight in found] == pytest.approx(
        [weight for _, weight in expected], rel=1e-15
    )


@pytest.mark.parametrize(
    ("text", "parts", "blend"),
    [  # test/test_prompt_parser.py; the weights of a blend are normalised as in EmbeddingsProvider
        ('("fire", "flames").and()', [("fire", 1), ("flames", 1)], False),
        ('("fire", "flames").and(2,1)', [("fire", 2), ("flames", 1)], False),
        (
            '("fire", "flames", "mountain man").and()',
            [("fire", 1), ("flames", 1), ("mountain man", 1)],
            False,
        ),
        ("((mountain), (tall man)).blend()", [("mountain", 0.5), ("tall man", 0.5)], True),
        ("(mountain, man).blend()", [("mountain", 0.5), ("man", 0.5)], True),
        (
            '("spider man", "robot mech").blend(1, 0.6)',
            [("spider man", 1 / 1.6), ("robot mech", 0.6 / 1.6)],
            True,
        ),
        ('("a", "b").blend(1, -1, no_normalize)', [("a", 1), ("b", -1)], True),
        ('("((a badly (formed +test ").blend(1.0)', [("((a badly (formed +test", 1)], True),
    ],
)
def test_compel_parts(text, parts, blend):
    prompt = parse_prompt(text, "compel")
    assert prompt.blend == blend
    assert [(part.nodes, part.weight) for part in prompt.parts] == [
        ((Chunk(words),), weight) for words, weight in parts
    ]


def test_compel_parts_have_weights_inside():
    text = '("mountain man", "a person with a hat (riding a bicycle)++").and(0.5, 0.5)'
    assert parse_prompt(text, "compel").parts[1] == Part(
        (Chunk("a person with a hat"), Chunk("riding a bicycle", 1.1**2)), 0.5
    )
    loras = parse_prompt("mountain withLora(hairy, 0.5) man useLora(ugly)", "compel")
    assert loras.networks == (Network("lora", "hairy", 0.5, 0.5), Network("lora", "ugly"))
    assert loras.parts == (Part((Chunk("mountain man"),)),)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a cat.swap(dog)", "instead|swap"),
        ('fire ("a", "b").and(1, 1)', "whole prompt"),
        ('("a", "b").blend(1, 1) and more', "whole prompt"),
        ("(a) or (b).and(1)", "whole prompt"),
        ('("fire", "flames").and(2)', "give 2 numbers"),
        ('("fire", "flames").and(2, x)', "give 2 numbers"),
        ('("a", "b").blend(1, -1)', "no_normalize"),
    ],
)
def test_compel_refuses_with_a_remedy(text, match):
    with pytest.raises(BadInput, match=match) as error:
        parse_prompt(text, "compel")
    assert error.value.remedy


def test_an_unknown_dialect_is_named():
    with pytest.raises(UnknownName, match="a1111, comfy, compel"):
        parse_prompt("a", "a1112")


def test_a_request_takes_every_dialect_there_is():
    assert get_args(GenerationRequest.model_fields["dialect"].annotation) == tuple(DIALECTS)


# every text, every tree

SYNTAX = [
    *'()[]:|\\+-.,"<> \n',
    "BREAK",
    "AND",
    "ND",
    "<lora:",
    "<b:c>",
    "MASK(0 1)",
    "IMASK(x, 1)",
    "embedding:",
    "a",
    "cat",
    ":1.2)",
    ":3]",
    ":.5]",
    ")1.3",
    ").and(",
    "withLora(x, 0.5)",
    "te=",
    "\x00",
    "é",
    "٣",
]
unhurried = settings(deadline=None)  # the machine may be busy
texts = st.one_of(st.text(), st.lists(st.sampled_from(SYNTAX), max_size=25).map("".join))


def chunks(nodes):
    for node in nodes:
        if isinstance(node, Chunk):
            yield node
        elif not isinstance(node, Break):
            for option in (
                node.options if isinstance(node, Alternate) else (node.before, node.after)
            ):
                yield from chunks(option)


@unhurried
@given(texts, st.sampled_from(list(DIALECTS)), st.integers(1, 5))
def test_every_text_is_a_prompt_and_can_be_written(text, dialect, steps):
    try:
        prompt = parse_prompt(text, dialect)
    except BadInput:
        if dialect == "compel":
            return
        raise
    weights = [chunk.weight for part in prompt.parts for chunk in chunks(part.nodes)]
    weights += [part.weight for part in prompt.parts] + [
        w for n in prompt.networks for w in (n.text, n.unet)
    ]
    weights += [region.weight for part in prompt.parts for region in part.regions]
    assert all(map(math.isfinite, weights))
    assert parse_prompt(write_prompt(prompt), dialect) == prompt
    stages = list_stages(prompt, steps)
    assert stages[-1][0] == steps
    assert all(before[1] != after[1] for before, after in pairwise(stages))
    for step in range(steps):
        assert prompt.resolve(step, steps) == next(parts for last, parts in stages if step < last)
        assert all(part.chunks for part in prompt.resolve(step, steps))


@unhurried
@given(
    st.text(
        st.characters(
            whitelist_categories=("L", "N", "P", "S", "Zs"), blacklist_characters='()[]:|\\+-.,=<>"'
        )
    ),
    st.sampled_from(list(DIALECTS)),
)
def test_words_without_signs_are_one_chunk(text, dialect):
    text = " ".join(word for word in text.split() if word not in ("AND", "BREAK"))
    assert said(text, dialect) == [(text, 1.0)]


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize("opening", ["(", "[", "(a ", "[a:", "[a|", '"(', "<a:", "MASK("])
@pytest.mark.parametrize("closing", ["", ")", "]", ":3]", ":9)", ")+"])
def test_depth_does_not_crash(dialect, opening, closing):
    prompt = parse_prompt(opening * 1000 + "x" + closing * 1000, dialect)
    weights = [chunk.weight for chunk in chunks(prompt.parts[0].nodes)]
    assert all(map(math.isfinite, weights))
    assert parse_prompt(write_prompt(prompt), dialect) == prompt


LONG = [
    *'()[]:|\\<>"+,. \n1',
    *(
        "(a",
        "[a",
        "(a ",
        "( ",
        "[a:",
        "[a|",
        "[|",
        '"(',
        '"(a" ',
        "a,",
        "(a)",
        "(a:1.1)",
        "[a:b:3]",
    ),
    *("[a|b]", ":1", ": ", "1:", "1.", "\\:", "\\(", '\\"', "AND ", "a AND ", " BREAK ", "BREAK"),
    *(
        "<a",
        "<a:",
        "<lora:",
        "<lora:a>",
        "<<a:b>",
        "a>",
        "MASK(",
        "MASK(0 1)",
        "MASK(0 ",
        "IMASK(a",
    ),
    *("embedding:", "embedding:a ", "a+", "(a)+", "a-", '("a", ', '"a",', ").and(", '").blend(1,'),
    *("withLora(", "withLora(a,", "a.swap", ".attend(", ".attend(+", "é", "你", "\x1c", "\u2028"),
]


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_parsing_takes_time_linear_in_the_text(dialect):
    """The longest request of any repeated sign: a quadratic rule takes ten times as long or more.

    A budget of 100 levels of brackets × 10,000 signs is half a second on a slow machine; each is
    usually done in hundredths."""
    for unit in LONG:
        for head, tail in (("", ""), ("(", ")"), ('("', '").and()'), ("a" * 9, ":1")):
            text = head + (unit * 10_000)[: 10_000 - len(head + tail)] + tail
            start = time.process_time()
            try:
                parse_prompt(text, dialect).resolve(3, 20)
            except BadInput:
                assert dialect == "compel"
            assert time.process_time() - start < 0.75, (unit, head)


weights = st.one_of(st.just(1.0), st.floats(-1e6, 1e6))
WORDS = st.one_of(st.text(min_size=1), st.lists(st.sampled_from(SYNTAX), min_size=1).map("".join))


def apart(nodes):
    """Without neighbours that would be one chunk."""
    kept = []
    for node in nodes:
        both = kept and isinstance(node, Chunk) and isinstance(kept[-1], Chunk)
        if not both or node.weight != kept[-1].weight:
            kept.append(node)
    return tuple(kept)


def edits(inner):
    options = st.lists(inner, max_size=3).map(apart)
    whole = st.builds(Edit, options, options, st.integers(-3, 99).map(float), st.just(False))
    share = st.builds(Edit, options, options, st.floats(-2, 2), st.just(True))
    return st.one_of(
        whole, share, st.builds(Alternate, st.lists(options, min_size=2, max_size=3).map(tuple))
    )


nodes = st.recursive(
    st.one_of(st.builds(Chunk, WORDS, weights), st.just(Break())), edits, max_leaves=8
)
fractions, pixels = (
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.just(0.0), st.integers(2, 999).map(float)),
)
regions = st.one_of(
    st.builds(Box, fractions, fractions, weights),
    st.builds(Box, pixels, pixels, weights, st.just(True)),
    st.builds(Mask, st.from_regex(r"[\w.-]+", fullmatch=True), weights),
)
parts = st.builds(
    Part, st.lists(nodes, max_size=4).map(apart), weights, st.lists(regions, max_size=2).map(tuple)
)
extras = st.sampled_from([(), ("dyn=8",), ("8", "lbw=ALL"), ("x",)])
tags = st.builds(
    Network,
    st.sampled_from(["lora", "hypernet", "x"]),
    st.from_regex(r"[^:>]+", fullmatch=True),
    weights,
    weights,
    extras,
)


@unhurried
@given(st.lists(parts, min_size=1, max_size=3).map(tuple), st.lists(tags, max_size=2).map(tuple))
def test_every_tree_of_a1111_can_be_written(parts, tags):
    if len(parts) == 1 and not parts[0].regions:  # a lone part weighs 1
        parts = (replace(parts[0], weight=1.0),)
    prompt = Prompt(parts, tags)
    assert parse_prompt(write_prompt(prompt)) == prompt


@unhurried
@given(
    st.lists(st.builds(Chunk, st.text("ab()[]:,\\<> \n1.é", min_size=1), weights), max_size=5).map(
        tuple
    )
)
def test_every_tree_of_comfy_can_be_written(chunks):
    prompt = Prompt((Part(chunks),), dialect="comfy")
    assert parse_prompt(write_prompt(prompt), "comfy") == prompt


@unhurried
@given(
    st.lists(
        st.builds(
            Part,
            st.lists(
                st.builds(
                    Chunk,
                    st.lists(st.text('ab()",.+-=\\1é', min_size=1), min_size=1).map(" ".join),
                    st.one_of(st.just(1.0), st.floats(0, 1e6)),
                ),
                max_size=4,
            ).map(apart),
            weights,
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.booleans(),
)
def test_every_tree_of_compel_can_be_written(parts, blend):
    prompt = Prompt(parts, dialect="compel", blend=blend)
    assert parse_prompt(write_prompt(prompt), "compel") == prompt


@pytest.mark.parametrize(
    "text", [r"[<\b:c>:3]", r"a:\1.2", "[a:b:5e-1]", f"(({'9' * 400}:{'9' * 400}):{'9' * 400})"]
)
def test_hard_texts_can_be_written(text):
    prompt = parse_prompt(text)
    assert not prompt.tags
    assert prompt.parts[0].weight == 1
    assert all(math.isfinite(chunk.weight) for chunk in chunks(prompt.parts[0].nodes))
    assert parse_prompt(write_prompt(prompt)) == prompt


def test_written_text_is_readable():
    for text in (
        "a [cow:(sea:1.3):0.5] by (x:1.1)",
        r"a \(b\) BREAK c :1.2 AND d MASK(0 0.5, 0 1, 1) :0.8",
        "[a|b|] c",
    ):
        assert write_prompt(parse_prompt(text)) == text
    assert write_prompt(parse_prompt("[[x]:3] <lora:y:0.5>")) == f"<lora:y:0.5>[:(x:{LESS}):3]"
    assert write_prompt(parse_prompt("a (b) embedding:c, d", "comfy")) == "a (b:1.1) embedding:c, d"
    assert (
        write_prompt(parse_prompt('("a b+", c).blend(3, 1)', "compel"))
        == '("a (b)1.1", "c").blend(0.75, 0.25, no_normalize)'
    )


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((Part((Edit((), (), 3.0, False),)),), dialect="comfy"),
        Prompt((Part((Break(),)),), dialect="compel"),
        Prompt((Part((Chunk("a"), Chunk("b"))),)),
        Prompt((Part((Chunk("a", math.nan),)),)),
        Prompt((Part((Chunk("embedding:x"),)),), dialect="comfy"),
    ],
)
def test_what_a_dialect_cannot_say_is_refused(prompt):
    with pytest.raises(BadInput, match="no text for this tree"):
        write_prompt(prompt)
