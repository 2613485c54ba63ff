"""Judging rows of difference texts: all rules in their order, on texts that the cuts have been at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from data_prep.files import Row
from data_prep.line_index import LineIndex
from data_prep.rules import evidence, talk
from data_prep.rules import text as rules
from data_prep.rules.copying import CaptionWords, caption_copy
from data_prep.rules.cuts import cut
from data_prep.rules.direction import contradiction
from data_prep.rules.length import TokenCounter

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
IMAGES_REMEMBERED = 1024  # rows come group by group, so that a group's captions are read once


@dataclass
class RuleOptions:
    """Options of the rules.

    Attributes:
        skip_rules: Reasons not to reject for.
        scripts: Scripts that letters may come from, as Unicode names begin (LATIN, CYRILLIC, CJK). Empty: all.
        min_letters: Least share of letters among the characters of a text, white space aside.
        min_words: Least number of words.
        min_characters: Least number of characters.
        tokenizer: The model whose text tower will read the texts: an open_clip name, `local-dir:` or `hf-hub:`.
        max_tokens: Most tokens of a text, begin and end included. Null: what the tower reads.
        long_texts: What to do with longer ones: `cut` (at a sentence's end where there is one), `reject` or `keep`.
        mentions: Which images a text must mention: `both` or `one`.
        leaked_phrases: Words of the prompt that no text about two images would say.
        min_overlap: Share of a text's words in one caption from which on it is a copy.
        max_repeats: How many texts may be alike but for case, punctuation and articles; those beyond are rejected.
            Null: any number.
    """

    skip_rules: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=lambda: ["LATIN"])
    min_letters: float = 0.7
    min_words: int = 5
    min_characters: int = 30
    tokenizer: str = "ViT-L-14"
    max_tokens: int | None = None
    long_texts: str = "cut"
    mentions: str = "both"
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
    min_overlap: float = 0.9
    max_repeats: int | None = 100

    def check(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: An option out of range.
        """
        for name, least in (("min_words", 1), ("min_characters", 1), ("max_repeats", 1), ("max_tokens", 3)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"screen.{name} must be at least {least}, found {value}")
        for name in ("min_letters", "min_overlap"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"screen.{name} must be a share from 0 to 1, found {getattr(self, name)}")
        for name, known in (("long_texts", ("cut", "reject", "keep")), ("mentions", ("both", "one"))):
            if getattr(self, name) not in known:
                raise ValueError(f"screen.{name} must be one of {', '.join(known)}, found {getattr(self, name)!r}")
        for reason in self.skip_rules:
            if reason not in REASONS:
                raise ValueError(f"screen.skip_rules: no rule is called {reason!r}; they are {', '.join(REASONS)}")


@dataclass
class Judgement:
    """What became of a row.

    Attributes:
        texts: Text and reverse text, without what was cut.
        cuts: Names of the cuts that found something.
        long_texts: How many of the two were longer than allowed.
        reason: Why the row is rejected, one of `REASONS`; None: it passed.
        detail: What was found, and in which text.
    """

    texts: list[str] = field(default_factory=list)
    cuts: list[str] = field(default_factory=list)
    long_texts: int = 0
    reason: str | None = None
    detail: str = ""


class Judge:
    """Applies cuts and rules to rows; a row is rejected when either direction is.

    Args:
        options: Options of the rules.
        captions: The captions by image id; None: nothing is compared with captions.
    """

    def __init__(self, options: RuleOptions, captions: LineIndex | None = None) -> None:
        self._options = options
        self._captions = captions
        self._caption_words = lru_cache(maxsize=IMAGES_REMEMBERED)(self._read_captions)
        self._tokens = TokenCounter(options.tokenizer)
        self._limit = options.max_tokens or self._tokens.context_length
        rules_of_one: dict[str, Callable[[str], str | None]] = {
            "markup": rules.markup,
            "non_text": lambda text: rules.non_text(text, options.scripts, options.min_letters),
            "foreign": talk.foreign,
            "placeholder": talk.placeholder,
            "leakage": talk.Leakage(options.leaked_phrases),
            "repetition": rules.repetition,
            "too_short": lambda text: rules.too_short(text, options.min_words, options.min_characters),
        }
        rules_after_cutting: dict[str, Callable[[str], str | None]] = {
            "truncated": rules.truncated,
            "mention": lambda text: rules.mention(text, options.mentions),
            "one_sided": lambda text: evidence.one_sided(text) if options.mentions == "both" else None,
        }
        self._rules = self._wanted(rules_of_one)
        self._talk_rules = self._wanted(talk.RULES)
        self._rules_after_cutting = self._wanted(rules_after_cutting)

    def _wanted(self, known: Mapping[str, Callable[[str], str | None]]) -> dict[str, Callable[[str], str | None]]:
        return {reason: rule for reason, rule in known.items() if self._is_on(reason)}

    def judge(self, row: Row, where: str) -> Judgement:
        """Judge a row of differences.

        Args:
            row: The row.
            where: File and line, for messages.

        Raises:
            ValueError: An image that the captions do not have.
        """
        judgement = Judgement()
        for side in TEXTS:
            found = self._judge_text(row[side], judgement)
            if found is not None:
                judgement.reason, detail = found
                judgement.detail = f"{side}: {detail}"
                return judgement
        found = self._judge_row(row, judgement, where)
        if found is not None:
            judgement.reason, judgement.detail = found
        return judgement

    def _judge_text(self, raw: str, judgement: Judgement) -> tuple[str, str] | None:
        if (detail := rules.empty(raw)) is not None:  # never to be skipped: an empty text cannot be packed
            return "empty", detail
        text, cuts = cut(raw)
        judgement.cuts += cuts
        if not text:
            return "chat", "nothing but talk"
        for reason, rule in self._rules.items():
            if (detail := rule(text)) is not None:
                return reason, detail
        for reason, rule in self._talk_rules.items() if talk.has_trigger(text) else ():
            if (detail := rule(text)) is not None:
                return reason, detail
        words = text.split()
        text = " ".join(words)
        if not self._tokens.fits(words, self._limit):
            judgement.long_texts += 1
            shortened = self._tokens.shorten(text, self._limit) if self._options.long_texts == "cut" else text
            if self._is_on("too_long") and (self._options.long_texts == "reject" or not shortened):
                return "too_long", f"{self._tokens.count(text)} tokens"
            if shortened != text:
                judgement.cuts.append("long_text")
                text = shortened
        judgement.texts.append(text)
        return None

    def _judge_row(self, row: Row, judgement: Judgement, where: str) -> tuple[str, str] | None:
        text, reverse_text = judgement.texts
        captions = None
        if self._captions is not None:
            captions = [self._words_of(row[side], side, where) for side in ("first", "second")]
        if captions is not None and self._is_on("caption_copy"):
            first, second = captions
            for name, one, own, other in (("text", text, first, second), ("reverse_text", reverse_text, second, first)):
                if (detail := caption_copy(one, own, other, self._options.min_overlap)) is not None:
                    return "caption_copy", f"{name}: {detail}"
        for name, one in zip(TEXTS, judgement.texts, strict=True):
            for reason, rule in self._rules_after_cutting.items():
                if (detail := rule(one)) is not None:
                    return reason, f"{name}: {detail}"
        if self._is_on("direction") and (detail := contradiction(text, reverse_text)) is not None:
            return "direction", detail
        if captions is not None:
            stems, swapped = (captions[0].stems, captions[1].stems), (captions[1].stems, captions[0].stems)
            for name, one, of_images in (("text", text, stems), ("reverse_text", reverse_text, swapped)):
                if self._is_on("exchanged") and (detail := evidence.exchanged(one, *of_images)) is not None:
                    return "exchanged", f"{name}: {detail}"
            if self._is_on("other_images"):
                detail = evidence.other_images(text, reverse_text, *stems)
                return None if detail is None else ("other_images", detail)
        return None

    def _is_on(self, reason: str) -> bool:
        return reason not in self._options.skip_rules

    def _words_of(self, image: str, side: str, where: str) -> CaptionWords:
        words = self._caption_words(image)
        if words is None:
            raise ValueError(
                f"{where}: `{side}` is {image!r}, which the captions do not have; give those of these pairs"
            )
        return words

    def _read_captions(self, image: str) -> CaptionWords | None:
        row = None if self._captions is None else self._captions.get(image)
        return None if row is None else CaptionWords([str(text) for text in row["captions"]])
