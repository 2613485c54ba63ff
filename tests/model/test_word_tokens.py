"""Word by word, texts get the ids that open_clip gives them."""

import string
from collections.abc import Sequence
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from pcclip.model.word_tokens import WordTokens, by_words

END = 49407  # id of the end of a text
TRICKY = {
    "empty": "",
    "blank": "   ",
    "double_spaces": "  a  dog   on a beach ",
    "tabs_and_newlines": "a\tdog\non a\r\nbeach\x0b\x0cat noon\x85today",
    "control_characters": "a d\x00og \x1b[31mred\x1b[0m \x7f",
    "upper_case": "A DOG On The BEACH",
    "contractions": "don't it's we'll I'd you're they've I'm o'clock 'sit 's dogs' 'tis DON'T",
    "split_contractions": "don 't it 's ' s",
    "digits": "3 dogs, 12 cats, 1,000.5 birds, 2nd, 4x4 and mp3",
    "glued_punctuation": "first:dog,cat;(two)-three... \"four\"/five?!a_b c@d.e #f $5 50% a--b 'quoted' [x]{y}",
    "spaced_punctuation": "a dog . a cat , & a bird !",
    "entities": "salt &amp; pepper &lt;b&gt; &quot;hi&quot; caf&eacute; &amp;amp; &#39;s &#x41; AT&T &nosuch;",
    "special_tokens": "<start_of_text> a dog<end_of_text>cat <END_OF_TEXT> <start_of _text> <|endoftext|>",
    "unicode": "café naïve Ünïcödé ﬁne “quoted” it\u2019s — … ½ ² 北京 日本語 привет 🐕‍🦺 \uff41\uff42\uff43",
    "unicode_spaces": "a\u00a0dog\u2003on\u200ba\u3000beach\u2028now\ufeff",
    "combining": "cafe\u0301 A\u030angstro\u0308m",
    "mojibake": "cafÃ© â€œquotedâ€\x9d itâ€™s",
    "lower_case_of_two_letters": "İstanbul ẞ ǅ",
    "long": "a dog and a cat " * 40,
    "one_long_word": "antidisestablishmentarianism" * 20,
    "just_fits": " ".join(["dog"] * 75),
    "one_too_long": " ".join(["dog"] * 76),
    "end_inside_what_is_cut": " ".join(["dog"] * 74) + " <end_of_text> cat",
}


@pytest.fixture(scope="module")
def words() -> WordTokens:
    """One for all tests, so that texts meet words that others brought."""
    return WordTokens(SimpleTokenizer())


def assert_equal(words: WordTokens, texts: Sequence[str]) -> None:
    expected = open_clip.tokenize(list(texts))
    found = words(texts)
    padded = torch.nn.functional.pad(found, (0, expected.shape[1] - found.shape[1]))
    different = [text for text, same in zip(texts, (padded == expected).all(1).tolist(), strict=True) if not same]
    assert not different, f"{len(different)} of {len(texts)}, such as {different[0]!r}"
    assert found.dtype == expected.dtype
    # No column of padding alone.
    assert found.shape[1] == int((expected == END).nonzero()[:, 1].max()) + 1


@pytest.mark.parametrize("text", [*([text] for text in TRICKY.values()), list(TRICKY.values())], ids=[*TRICKY, "all"])
def test_tricky_text(words: WordTokens, text: list[str]) -> None:
    assert_equal(words, text)
    assert_equal(words, text)  # whose words are known now


# Few letters, so that contractions, entities and repeated words occur.
ALPHABETS = [string.printable, "stdrevmla' ", "amplt&;#39 ", "aB1' .,<>_-\t\n"]


@limits(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=60), *(st.text(letters, max_size=60) for letters in ALPHABETS)), min_size=1))
def test_any_texts(words: WordTokens, texts: list[str]) -> None:
    assert_equal(words, texts)


def test_words_beyond_those_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcclip.model.word_tokens.KEPT_WORDS", 2)
    words = WordTokens(SimpleTokenizer())
    for _ in range(2):
        assert_equal(words, ["a dog on a beach", "a cat on a beach"])


def test_shorter_contexts_cut_as_open_clip_does() -> None:
    tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=8)
    texts = ["a dog", TRICKY["long"], "a b c d e f", "a b c d e f g"]
    assert torch.equal(WordTokens(tokenizer)(texts), tokenizer(texts))


@pytest.mark.parametrize(
    "settings",
    [
        {"clean": "canonicalize"},
        {"clean": "whitespace"},
        {"reduction_mask": "random"},
        {"additional_special_tokens": ["a.dog"]},  # a pattern that matches "a dog"
    ],
    ids=str,
)
def test_other_rules_are_left_to_open_clip(settings: dict[str, Any]) -> None:
    assert by_words(SimpleTokenizer(**settings)) is None
