"""Prompts that rules expand: what is said stays, what is added is what the model was taught."""

from fromnoise.checkpoints.hub import load_parts
from fromnoise.pipeline.expanding.rules import (
    ADDED,
    Vocabulary,
    expand,
    find_vocabulary,
    list_phrases,
    read_caption,
)
from fromnoise.prompt.words import split_words

BUNDLED = find_vocabulary(tuple(load_parts(None).defaults["words"]))


def test_the_bundled_models_words_are_those_of_a_source():
    assert BUNDLED.source is not None
    assert find_vocabulary(()) == Vocabulary()
    assert find_vocabulary(("a", "cat")).source is None


def test_what_is_said_stays_and_what_is_added_was_taught():
    for prompt in ("a cat", "two cats", "a neon kitten", "a small boot at sunset", "a red fish"):
        made = expand(prompt, BUNDLED)
        assert made == expand(prompt, BUNDLED)
        assert not made.notes
        assert made.prompt != prompt
        assert BUNDLED.words.issuperset(split_words(made.prompt))
        before, after = (read_caption(text, BUNDLED.source)[0] for text in (prompt, made.prompt))
        assert before.items() <= after.items()
        assert {"background", "style", "colour"} <= after.keys()


def test_every_subject_can_be_expanded():
    subject = next(iter(BUNDLED.source.schema))
    names = [name for name, attribute, _ in list_phrases(BUNDLED.source) if attribute == subject]
    for name in names:
        made = expand(name, BUNDLED)
        assert made.prompt != name, made
    assert len({expand(name, BUNDLED).prompt.split(" ", 2)[-1] for name in names}) > 100


def test_what_rules_cannot_say_stays_and_the_user_is_told():
    for prompt, why in (
        ("a rainbow", "nothing that this model was taught"),
        ("a cat and a dog", "more than one"),
        ("a (cat:1.2)", "signs of its own"),
        ("a [cat:dog:0.5]", "signs of its own"),
        ("a cat AND a dog", "signs of its own"),
        ("a cat " * 30, "long"),
    ):
        made = expand(prompt, BUNDLED)
        assert made.prompt == prompt
        assert why in made.notes[0]
    lost = expand("a fluffy cat with a hat", BUNDLED)
    assert "'fluffy', 'hat'" in lost.notes[0]
    assert "cat" in lost.prompt


def test_other_models_get_style_light_view_and_details():
    made = expand("a wizard", Vocabulary())
    assert made.prompt.count(",") == 3
    assert " of a wizard, " in made.prompt
    said = "a photo of a wizard, close, in soft light, simple"
    assert expand(said, Vocabulary()).prompt == said
    assert expand(said, Vocabulary()).notes
    few = Vocabulary(frozenset(["a", "photograph", "of", "wizard", "wide", "view"]))
    assert expand("a wizard", few).prompt == "a photograph of a wizard, a wide view"
    assert len({expand(f"a thing {i}", Vocabulary()).prompt[:9] for i in range(40)}) > 2
    assert ADDED.keys() == {"style", "light", "view", "detail"}
