"""Judge rows of difference texts: apply the cuts, then all rules in their order."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Literal

from annotated_types import Ge
from pydantic import PositiveInt

from data_prep.files import Row
from data_prep.line_index import LineIndex
from data_prep.parts import hash64
from data_prep.rules import captions, cuts, form, talk
from data_prep.rules.captions import CaptionWords
from data_prep.rules.direction import contradiction
from data_prep.rules.length import TokenCounter
from data_prep.rules.reading import Reader, Text

REASONS = {
    "empty": "nothing but white space",
    "markup": "code, Markdown or HTML",
    "non_text": "control characters, letters of another script, or few letters at all",
    "foreign": "a passage in another language",
    "placeholder": "something left to be filled in",
    "chat": "a refusal, or talk to the reader",
    "thinking": "thinking aloud, or counting words",
    "leakage": "words of the prompt",
    "unknown": "says that something cannot be determined",
    "no_difference": "says that the images do not differ",
    "third_image": "more images than two",
    "repetition": "a loop",
    "too_short": "fewer words or characters than asked for",
    "too_long": "more tokens than the text tower reads",
    "truncated": "without an end",
    "caption_copy": "a mere copy of a caption",
    "mention": "one of the two images is not mentioned",
    "one_sided": "says nothing of one of the images",
    "direction": "the reverse does not speak with the roles exchanged",
    "exchanged": "says of one image what the captions say of the other",
    "other_images": "has hardly a word in common with the captions",
    "misfit": "fits its images no better than the reversed text, as the model `fit_model` sees them",
    "repeated_pair": "the pair's id occurred before",
    "near_duplicate": "the same text as that of too many other pairs",
}
TEXTS = ("text", "reverse_text")
Rule = Callable[[Text], str | None]
IMAGES_REMEMBERED = 1024  # rows come group by group, so that a group's captions are read once


@dataclass
class RuleOptions:
    """Options of the rules."""

    skip_rules: list[str] = field(default_factory=list)
    """Rules to disable, by the reasons in the report."""
    scripts: list[str] = field(default_factory=lambda: ["LATIN"])
    """Allowed scripts: the first words of Unicode names (LATIN, CYRILLIC, CJK). Empty: all."""
    tokenizer: str = "ViT-L-14"
    """Model with the tokenizer that counts tokens: an open_clip name, `local-dir:FOLDER` or `hf-hub:NAME`."""
    max_tokens: Annotated[int, Ge(3)] | None = None
    """Maximum tokens of a text, with start and end tokens. Null: the context length of the model. Of longer texts, the
    sentences that fit are kept. A text is rejected if its first sentence does not fit. `skip_rules: [too_long]` keeps all."""
    mentions: Literal["both", "one"] = "both"
    """Which images a text must mention: `both` or `one`."""
    leaked_phrases: list[str] = field(
        default_factory=lambda: [
            "the caption",
            "captions",
            "first caption",
            "second caption",
            "image caption",
            "caption says",
            "caption describes",
            "caption mentions",
            "captioned as",
            "JSON",
            "text description",
            "text descriptions",
            "the description",
            "the descriptions",
            "image description",
            "image descriptions",
            "is described as",
            "the prompt",
            "word limit",
            "reverse_text",
        ]
    )
    """Phrases of the prompt that do not belong in a difference text."""
    max_repeats: PositiveInt = 100
    """Maximum number of texts that differ only in case, punctuation and articles."""

    def check(self) -> None:
        """Check the names in `skip_rules`.

        Raises:
            ValueError: A rule is unknown.
        """
        for reason in self.skip_rules:
            if reason not in REASONS:
                raise ValueError(f"screen.skip_rules: no rule is called {reason!r}; they are {', '.join(REASONS)}")


@dataclass
class Judgement:
    """Result for a row.

    Attributes:
        texts: Text and reverse text after the cuts.
        alike: Hash of `Text.alike` of each.
        cuts: Names of the cuts that removed something.
        long_texts: How many of the two texts were too long.
        reason: Why the row is rejected, one of `REASONS`. None: it passed.
        detail: What was found, and in which text.
    """

    texts: list[str] = field(default_factory=list)
    alike: list[int] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    long_texts: int = 0
    reason: str | None = None
    detail: str = ""


class Judge:
    """Apply cuts and rules to rows. A row is rejected if its text or its reverse text is.

    Args:
        options: Options of the rules.
        captions: Captions by image id. None: texts are not compared with captions.

    Attributes:
        reader: Reads texts for the rules.
        rules: Enabled rules for one text, by reason.
        rules_after_cutting: Enabled rules for a text that was shortened to the maximum number of tokens.
    """

    def __init__(self, options: RuleOptions, captions: LineIndex | None = None) -> None:
        self._options = options
        self._on = frozenset(REASONS).difference(options.skip_rules)
        self._captions = captions
        self._caption_words = lru_cache(maxsize=IMAGES_REMEMBERED)(self._read_captions)
        self._tokens = TokenCounter(options.tokenizer)
        self._limit = options.max_tokens or self._tokens.context_length
        leakage = talk.Leakage(options.leaked_phrases)
        triggers = {"cut": cuts.TRIGGERS, "markup": form.MARKUP_WORDS, "leakage": leakage.triggers, **talk.TRIGGERS}
        self.reader = Reader(triggers, {"markup": form.MARKUP_WORD, "placeholder": talk.GAP_MARK})
        self.rules = self._wanted(
            {
                "markup": form.markup,
                "non_text": lambda text: form.non_text(text, options.scripts),
                "foreign": talk.foreign,
                "placeholder": talk.placeholder,
                "leakage": leakage,
                "repetition": form.repetition,
                "too_short": form.too_short,
                **talk.PHRASES,
            }
        )
        self.rules_after_cutting = self._wanted(
            {
                "truncated": form.truncated,
                "mention": lambda text: form.mention(text, options.mentions),
                "one_sided": lambda text: form.one_sided(text) if options.mentions == "both" else None,
            }
        )

    def _wanted(self, rules: Mapping[str, Rule]) -> dict[str, Rule]:
        return {reason: rule for reason, rule in rules.items() if reason in self._on}

    def judge(self, row: Row, where: str) -> Judgement:
        """Judge a row of differences.

        Args:
            row: The row.
            where: File and line, for messages.

        Raises:
            ValueError: An image has no captions.
        """
        judgement = Judgement()
        texts: list[Text] = []
        for side in TEXTS:
            found = self._judge_text(row[side], judgement, texts)
            if found is not None:
                judgement.reason, detail = found
                judgement.detail = f"{side}: {detail}"
                return judgement
        judgement.texts = [text.raw for text in texts]
        judgement.alike = [hash64(text.alike) for text in texts]
        words = None
        if self._captions is not None:
            words = (self._words_of(row, "first", where), self._words_of(row, "second", where))
        found = self._judge_both(texts, words)
        if found is not None:
            judgement.reason, judgement.detail = found
        return judgement

    def _judge_text(self, raw: str, judgement: Judgement, texts: list[Text]) -> tuple[str, str] | None:
        if not raw.strip():  # cannot be disabled: shards need a text
            return "empty", "no text"
        text = self.reader.read(raw.strip())
        if cuts.may_cut(text):
            left, done = cuts.cut(text.raw)
            judgement.cuts += done
            if not left:
                return "chat", "nothing but talk"
            text = self.reader.read(left)
        for reason, rule in self.rules.items():
            if (detail := rule(text)) is not None:
                return reason, detail
        joined = " ".join(text.written)
        if (tokens := self._tokens.count(joined)) > self._limit:
            judgement.long_texts += 1
            if "too_long" in self._on:
                joined = self._tokens.shorten(joined, self._limit)
                if not joined:
                    return "too_long", f"{tokens} tokens"
                judgement.cuts.append("long_text")
        texts.append(text if joined == text.raw else self.reader.read(joined))
        return None

    def _judge_both(
        self, texts: Sequence[Text], words: tuple[CaptionWords, CaptionWords] | None
    ) -> tuple[str, str] | None:
        text, reverse_text = texts
        both = (("text", text), ("reverse_text", reverse_text))
        if words is not None and "caption_copy" in self._on:
            for (name, one), (own, other) in zip(both, (words, words[::-1]), strict=True):
                if (detail := captions.caption_copy(one, own, other)) is not None:
                    return "caption_copy", f"{name}: {detail}"
        for name, one in both:
            for reason, rule in self.rules_after_cutting.items():
                if (detail := rule(one)) is not None:
                    return reason, f"{name}: {detail}"
        if "direction" in self._on and (detail := contradiction(text, reverse_text)) is not None:
            return "direction", detail
        if words is None:
            return None
        stems = (words[0].stems, words[1].stems)
        said = captions.said_by_both(text, reverse_text)
        if "exchanged" in self._on:
            for (name, one), of_images in zip(both, (stems, stems[::-1]), strict=True):
                if (detail := captions.exchanged(one, *of_images)) is not None:
                    return "exchanged", f"{name}: {detail}"
        if "other_images" in self._on:
            compares = text.compares or reverse_text.compares
            if (detail := captions.other_images(said, stems, compares)) is not None:
                return "other_images", detail
        return None

    def _words_of(self, row: Row, side: str, where: str) -> CaptionWords:
        words = self._caption_words(row[side])
        if words is None:
            raise ValueError(
                f"{where}: `{side}` is {row[side]!r}, but screen.captions has no such image; give the captions of these pairs"
            )
        return words

    def _read_captions(self, image: str) -> CaptionWords | None:
        row = None if self._captions is None else self._captions.get(image)
        return None if row is None else CaptionWords([str(text) for text in row["captions"]], self.reader)
