"""What is cut from replies and what they are rejected for, on the kinds of rubbish that language models write."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.rules import captions, form
from data_prep.rules.captions import CaptionWords, caption_copy
from data_prep.rules.cuts import cut, may_cut
from data_prep.rules.direction import Claim, claims, contradiction
from data_prep.rules.judge import Judge, RuleOptions
from data_prep.rules.length import TokenCounter
from data_prep.rules.reading import Text
from data_prep.rules.talk import PATTERNS

GOOD = "The first image shows a dog on a beach, while the second image shows two cats on a sofa."
JUDGE = Judge(RuleOptions(tokenizer="ViT-B-32"))


def read(text: str) -> Text:
    return JUDGE.reader.read(text)


@pytest.mark.parametrize(
    "reply",
    [
        f"  {GOOD}\n",
        f"Sure! {GOOD}",
        f"Sure, here is the difference between the two images: {GOOD}",
        f"Okay.\n\nHere's a sentence:\n\n{GOOD}",
        f"Difference between the first and the second image: {GOOD}",
        f"Answer: {GOOD}",
        f'"{GOOD}"',
        f"\u201c{GOOD}\u201d",
        f"{GOOD} I hope this helps! Let me know if you need more.",
        f"{GOOD}\n\nNote: I only used the captions.",
        f"{GOOD} (Note: both are photos.)",
        f"{GOOD}\nQ: What is in the third image?",
        f"{GOOD}\n#2: The first image shows a boat.",
        f"{GOOD}\nUser: And now the reverse?",
        f"{GOOD}<|im_end|>\n<|im_start|>user",
        f"<|assistant|>{GOOD}</s>",
        f'Sure! Here is the difference: "{GOOD}" I hope this helps! Note: no JSON. Q: more?',
        f'"Sure! Answer: \u2018{GOOD}\u2019" Would you like another one?',
    ],
)
def test_cuts_leave_the_text(reply: str) -> None:
    assert cut(reply)[0] == GOOD


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "Great white sharks swim in the first image: three of them; the second shows a boat.",
        'The sign in the first image reads "I hope", the one in the second "Stop".',
        '"Stop" is written on the first sign, and on the second it is "Go"',
        "The text on the sign in the first image reads: stop, that of the second reads: go.",
        "A man's dog is in the first image, a woman takes notes: long ones, in the second.",
        "Sure-footed goats climb in the first image, unlike in the second.",
    ],
)
def test_cuts_leave_right_texts_alone(text: str) -> None:
    assert cut(text) == (text, [])


def judge(rule: str, text: str) -> str | None:
    """Apply one rule with the default options of the step."""
    return {**JUDGE.rules, **JUDGE.rules_after_cutting}[rule](read(text))


PIECES = """Sure! Note: Q: I hope Here is: " ' first second image the left 1 2 ( [ ] ... _ x # can not next three is are same
    caption JSON it's unclear . , ; ! und eine ist no while and a dog cat sofa \u201c caf\u00e9 larger than""".split()  # noqa: SIM905
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map(" ".join)


@given(texts)
def test_cuts_find_nothing_more_in_what_they_leave(text: str) -> None:
    left, names = cut(text)
    assert cut(left) == (left, [])
    assert left in text
    assert names or left == text
    if not may_cut(read(text)):
        assert left == text


@given(texts)
def test_a_text_without_triggers_matches_no_rule_that_has_some(text: str) -> None:
    found = read(text)
    for reason, pattern in PATTERNS.items():
        if pattern.search(found.unquoted) and reason not in found.signs:
            raise AssertionError(f"{reason} in {text!r} needs a trigger word")


@pytest.mark.parametrize(
    ("rule", "text", "detail"),
    [
        ("non_text", "The first \ufffd and the second", r"U\+FFFD"),
        ("non_text", "The first image shows a \u7537\u4eba, the second a dog.", "CJK"),
        ("non_text", "\u041f\u0435\u0440\u0432\u043e\u0435 \u0438 \u0432\u0442\u043e\u0440\u043e\u0435", "CYRILLIC"),
        ("non_text", "first 1234 :: 99.99% // 17 + 4 = 21 second", r"\d\d% letters"),
        ("markup", "The **first** image is a dog, the second a cat.", r"\*"),
        ("markup", "1. The first image has a dog\n2. The second has a cat", r"1\. "),
        ("markup", '{"text": "The first image shows a dog"}', "{"),
        ("markup", "The first image shows `dog`, the second `cat`.", "`"),
        ("markup", "<p>The first image shows a dog, the second a cat.</p>", "<p>"),
        ("markup", "The first image\\nshows a dog, the second a cat", "n"),
        ("markup", "first_image shows a dog, second_image a cat", "t_i"),
        ("markup", "# Difference\nThe first image is a dog.", "#"),
        ("chat", "As an AI, I see no difference between the first and the second.", "as an ai"),
        ("chat", "Sorry, the first image cannot be compared to the second.", "sorry"),
        ("chat", "The first is a dog, the second a cat, as requested.", "as requested"),
        ("leakage", "The first json is a dog, the second a cat.", "JSON"),
        ("leakage", "According to the text description, the first is a dog.", "text description"),
        ("repetition", "The first is a dog. The second is a cat. The first is a dog.", "2 times"),
        (
            "repetition",
            "a big dog and a small cat in a big dog and a small cat in a big dog and a small cat",
            "3 times",
        ),
        ("repetition", "The first hahahahahahahaha the second", "hahaha"),
        ("repetition", "The first image!!!!!!!! the second", "! ! ! !"),
        ("too_short", "A b c d e f.", "12 characters"),
        (
            "foreign",
            "The first image shows a fox. La premi\u00e8re image montre un renard dans la neige.",
            "premi\u00e8re",
        ),
        ("placeholder", "The first image shows ..., while the second shows ...", r"\.\.\."),
        ("placeholder", "The first image shows a dog, the second shows X.", "x"),
        ("thinking", "Let me think. The first image is a dog, the second a cat.", "let me"),
        ("thinking", "The first image is a dog, the second a cat. (19 words)", "19 words"),
        ("unknown", "The first image is a dog, but it is unclear what the second shows.", "unclear"),
        ("chat", "The first image is a dog, but I can't see the second.", "can't see"),
        ("no_difference", "The first and the second image are nearly identical.", "identical"),
        ("no_difference", "The first image and the second do not differ.", "not differ"),
        ("third_image", "Image 1 is a dog, image 2 a cat, image 3 a cow.", "image 3"),
        ("truncated", "The first image shows a dog, while the second shows a cat,", "cat,"),
        ("truncated", "The first image shows a dog, while the second shows the.", "the."),
        ("one_sided", "The first image and the second image are different.", "nothing of either"),
        ("mention", "The first image shows a man who holds a ball in both hands.", "only the first"),
        ("mention", "A dog is on a beach in the second image.", "only the second"),
        ("mention", "In the first image 2 dogs run on a beach.", "only the first"),
    ],
)
def test_rubbish_is_found(rule: str, text: str, detail: str) -> None:
    found = judge(rule, text)
    assert found is not None
    assert re.search(detail, found)
    assert rule == "too_short" or judge(rule, GOOD) is None


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "The first image shows a caf\u00e9 \u2013 \u201cChez Zo\u00eb\u201d \u2013 but the second shows a na\u00efve painting.",
        'The first image shows a shirt reading "I can\'t stop", the second a caption-like poster.',
        "A sign says \u201cComing soon...\u201d in the first image, and \u201c[EXIT]\u201d in the second.",
        "A shirt reading I can't stop is in the first image; in the second a van carries hay to a den.",
        "Three runners, the third in red, are in the first image, while twins in the same dress are in the second.",
        "In the first image three dogs run, while the second image shows the third picture in a gallery.",
        "There are 2 dogs & 13 cats in the first picture (of a well-lit room); the second has none.",
        "Of the two, the first picture has the brighter background.",
        "The first picture is the one with more shapes.",
        "The left image is darker; the right one shows a snow-covered house.",
        "Image 1 shows a dog and image 2 a cat, both of them asleep.",
        "The former shows a surfer, the latter a skater in a half-pipe.",
        "Fewer shapes appear in the first picture than in the second picture. In the first picture the shapes are more to "
        "the right than in the second picture. In the first picture the background is dimmer than in the second picture.",
    ],
)
def test_right_texts_pass(text: str) -> None:
    for rule in {**JUDGE.rules, **JUDGE.rules_after_cutting}:
        assert judge(rule, text) is None, rule


def test_settings_of_the_rules() -> None:
    greek = read("\u0397 \u03c0\u03c1\u03ce\u03c4\u03b7 \u03b5\u03b9\u03ba\u03cc\u03bd\u03b1")
    assert form.non_text(greek, ["LATIN"])
    assert [form.non_text(greek, scripts) for scripts in (["LATIN", "GREEK"], [])] == [None, None]
    assert form.mention(read("The first image shows a dog on a beach."), "one") is None
    assert form.mention(read("A dog on a beach."), "one") == "neither image"


def test_other_names_of_the_images() -> None:
    assert read("the right-hand picture").tokens == ["the", "second"]
    assert read("Image #1").tokens == ["first"]
    assert "first" not in read("in the second image 1 dog").signs
    assert "second" not in read("the right side").signs


@pytest.mark.parametrize(
    ("text", "reverse"),
    [
        ("The first is larger.", "The first image is larger."),
        ("The first dog is larger than the second.", "The first image shows a larger dog."),
        ("The first has larger dogs.", "The second has smaller dogs, of the two."),
        ("The dog is smaller in the first image than in the second.", "In the second image, the dog is larger."),
        ("There are more people in the first image than in the second.", "The first image has more people."),
        ("The first picture has more shapes.", "While the first picture has more shapes, the second has fewer shapes."),
        ("The shapes are further to the left in the first.", "The shapes are more to the left in the first image."),
        ("Next to the second, the first shows a darker background.", "The background is dimmer in the first picture."),
        (GOOD, GOOD.upper()),
        (GOOD, "In the first image there is a dog at a beach, but two cats on a sofa are in the second."),
    ],
)
def test_contradicting_directions(text: str, reverse: str) -> None:
    assert contradiction(read(text), read(reverse))
    assert contradiction(read(reverse), read(text))


@pytest.mark.parametrize(
    ("text", "reverse"),
    [
        ("The first is larger.", "The first image is smaller."),
        ("The first is larger than the second.", "The second is larger than the first."),
        ("The first dog is larger than the second.", "The first image shows a larger tree."),
        ("The first has more people.", "The first has more dogs."),
        ("The number of shapes is greater in the first.", "The shapes of the first are larger than in the second."),
        ("The first has larger dogs, while the second has larger cats.", "The first has larger cats than the second."),
        ("The first has no larger dogs.", "The first has larger dogs."),
        ("From the first to the second, the dogs get larger.", "From the first to the second, the dogs get smaller."),
        ("The first image is brighter and calmer.", "The first image is busier, and more people are in it."),
        ("The first has a larger dog with a smaller ball.", "The first has a smaller dog with a larger ball."),
        (GOOD, "The first image shows two cats on a sofa, while the second image shows a dog on a beach."),
        (GOOD, "Two cats lie on a sofa in the first image, whereas in the second a dog walks on a beach."),
    ],
)
def test_right_directions_pass(text: str, reverse: str) -> None:
    assert contradiction(read(text), read(reverse)) is None
    assert contradiction(read(reverse), read(text)) is None


def test_claims_name_who_has_more() -> None:
    assert claims(read("The dog is smaller in the first image than in the second.")) == [
        Claim("size", frozenset({"dog"}), "second")
    ]
    assert claims(read("Compared with the first, the second picture is brighter.")) == [
        Claim("brightness", frozenset(), "second")
    ]
    assert claims(read("The dog is larger than the cat in the first and larger in the second.")) != []
    assert claims(read("It is larger. The first and the second are brighter.")) == []


FIRST = CaptionWords(["A brown dog runs on the beach.", "Dog on sand near water"], JUDGE.reader)
SECOND = CaptionWords(["Two cats sleep on a red sofa.", "cats lying on a couch near water"], JUDGE.reader)
STEMS = (FIRST.stems, SECOND.stems)


@pytest.mark.parametrize(
    ("text", "copied"),
    [
        ("a BROWN dog runs on the beach", "first"),
        ("The image shows a brown dog that runs on the beach.", "first"),
        ("The second image shows two cats which sleep on a red sofa.", "second"),
        ("A brown dog runs fast on the beach", None),  # 4 of 5 words
        ("A brown dog runs near cats on the beach", None),  # a word of the other image
        ("A brown dog runs on the beach, unlike the cats on the sofa.", None),
        ("The first image shows a happy dog in a park with children.", None),
        ("The first shows a brown dog runs on the beach, and so does the second.", None),
        ("The dog runs.", None),
    ],
)
def test_copies_of_captions(text: str, copied: str | None) -> None:
    found = caption_copy(read(text), FIRST, SECOND)
    assert (found is None) if copied is None else (found is not None and f"the {copied} image" in found)


def test_near_duplicates_differ_in_case_punctuation_and_articles_only() -> None:
    assert read("The first picture, has a larger dog!").alike == read("the first image has larger dog").alike
    assert read("The first image has a larger dog").alike != read("The first image has a smaller dog").alike
    assert read("the first, then second").alike != read("the second, then first").alike


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (GOOD, False),
        ("The first image shows cats sleeping on a sofa, while a dog runs on the beach in the second.", True),
        ("Unlike the second image, in which a dog runs on a beach, the first has cats on a red sofa.", True),
        ("Unlike the first image, in which a dog runs on a beach, the second has cats on a red sofa.", False),
        ("The first image has no cats and no sofa, while there is no brown dog on the beach in the second.", False),
    ],
)
def test_texts_that_speak_of_the_other_image(text: str, found: bool) -> None:
    assert (captions.exchanged(read(text), *STEMS) is not None) is found


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("a rocket over a desert", "a choir in an old church", True),
        ("a brown dog on a beach", "a choir singing in an old church", True),
        ("a dog on a beach", "two cats on a sofa", False),
    ],
)
def test_texts_of_other_images(one: str, other: str, found: bool) -> None:
    text = read(f"The first image shows {one}, while the second shows {other}.")
    said = captions.said_by_both(text, read(f"The first image shows {other}, while the second shows {one}."))
    assert (captions.other_images(said, STEMS, compares=False) is not None) is found
    assert captions.other_images(said, (frozenset({"ship"}), frozenset({"car"})), compares=False) is None  # hardly any


COUNTER = TokenCounter("ViT-B-32")


def test_tokens_are_those_of_the_tower() -> None:
    import open_clip

    text = "A skateboarder's half-pipe trick, 1984: gymnosperms & pterodactyls!"
    ids = open_clip.get_tokenizer("ViT-B-32")(text)[0]
    assert COUNTER.count(text) == int((ids != 0).sum())
    assert COUNTER.context_length == 77
    accents = "Caf\u00e9 Zo\u00eb\u2019s na\u00efve _\u00f1and\u00fa_ 10:45 don't!?..."
    assert COUNTER.count(accents) == len(open_clip.get_tokenizer("ViT-B-32").encode(accents)) + 2


def test_long_texts_are_cut_at_a_sentence() -> None:
    text = "The first image shows a dog. The second shows a cat. Both are asleep."
    assert COUNTER.shorten(text, COUNTER.count(text) - 1) == "The first image shows a dog. The second shows a cat."
    assert COUNTER.shorten("one two three four", 5) == ""


def test_counting_clip_s_tokens_needs_no_torch() -> None:
    code = (
        "import sys, data_prep.rules.length as length; length.TokenCounter('ViT-L-14'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_unknown_tokenizer() -> None:
    with pytest.raises(ValueError, match=r"screen.tokenizer: unknown model 'ViT-L-15'"):
        TokenCounter("ViT-L-15")
