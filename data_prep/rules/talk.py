"""Rules about what a language model writes in place of a text: refusals, doubts, thoughts, gaps, the prompt's own words.

What stands in quotes is the picture's, not the writer's: a sign may say "I can't stop" or "Coming soon...". A rule looks at the
words first, which is many times faster than its pattern.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise

from data_prep.rules.words import tokens_of, unquoted, without_quotes, word_set, words_of

_SPOKEN = r"(?<!reading )(?<!reads )(?<!says )(?<!saying )(?<!said )(?<!words )(?<!that )"  # signs without quotes
_DO = (
    r"(?:\w+ly )?(?:access|analy[sz]e|answer|assist|compare|create|describe|determine|do|fulfil+|generate|give"
    r"|help|identify"
    r"|make|provide|say|see|tell|view|write)\b"
)
_CHAT = re.compile(
    r"\b(?:as an ai\b|as a (?:large )?language model|as a text-based|as requested|as you requested|happy to help"
    rf"|{_SPOKEN}i(?: cannot|'m unable| am unable|'m not able| am not able)(?: to)?\b|{_SPOKEN}i(?: can't"
    rf"| can not) {_DO}"
    rf"|{_SPOKEN}i(?:'m| am) (?:sorry|afraid)|{_SPOKEN}i(?: apologi[sz]e| hope\b|'d be happy| would be happy"
    rf"| see that you| need more)"
    rf"|{_SPOKEN}i (?:do not|don't) have (?:access|any|enough|the)|let me know\b|feel free to\b"
    r"|please (?:provide|share|upload)|could you (?:please )?provide|you(?:'ve| have) (?:not )?provided)"
    r"|^(?:great|good) question|^(?:sure|certainly|sorry|unfortunately|okay|thank you|thanks)\b(?=\s*(?:[,.!:]"
    r"|i\b|here\b|for\b|$))"
)
_CHAT_WORDS = frozenset(
    """ai language text-based text requested help i i'm i'd let feel please could you you've sure certainly sorry unfortunately
    okay thank thanks great good""".split()  # noqa: SIM905
)
_THINKING = re.compile(
    rf"\b(?:{_SPOKEN}(?:let's (?:see|think|compare|start|look|try|break|consider)|let me\b)|wait,|hmm+\b"
    rf"|the user\b|my answer\b"
    r"|the (?:instructions?|task|assignment|question|request) (?:is|are|asks?|says?|wants?|requires?)\b"
    r"|final answer\b"
    r"|(?:the )?(?:reverse|reversed|opposite)(?: (?:text|direction|version|description|sentence|one))?\s*(?::|,"
    r"| should| would| is:)"
    r"|(?:now |for |in )(?:the )?(?:reverse|reversed|opposite|other)(?: (?:direction|order|text"
    r"|way(?: (?:a)?round)?))\b"
    rf"|{_SPOKEN}(?:i|we)(?:'ll|'d|'ve| (?:need to|should|must|will|think|would|have to|want to|assume|believe"
    rf"|guess|notice|can(?: say| see| infer)))\b"
    rf"|{_SPOKEN}i (?:first |now )?(?:look|compare|conclude|describe|mention|swap|write)\b|\bnow revers(?:e"
    rf"|ing)\b|\bthe requirements\b"
    r"|\b(?:good|better|final|valid) (?:sentence|answer)\b|words? (?:count|limit)\b|should be the (?:first"
    r"|second) image\b|in (?:one|two|1|2) sentences?\b)"
    r"|[(\[]\s*(?:(?:about|approximately|total|count|word count)\W*)?\d+ (?:words?|tokens?|characters?)\b"
)
_THINKING_WORDS = frozenset(
    """let's let wait hmm hmmm user answer instruction instructions task assignment question request reverse reversed opposite
    other i we i'll i'd i've we'll we'd we've words word count limit should now
    requirements good better final valid sentence sentences tokens characters""".split()  # noqa: SIM905
)
_UNKNOWN = re.compile(
    r"\b(?:not possible|impossible|hard|difficult|unable) to (?:tell|say|determine|know|compare|identify"
    r"|describe|see (?:what|how|any))"
    r"|\bcan(?:not|'t| not) (?:be |clearly be |really be )?(?:determined?|compared?|inferred|told|tell|known"
    r"|identif(?:y|ied)"
    r"|describ(?:e|ed)|established|confirm(?:ed)?|said|ascertained)\b"
    r"|\b(?:it is|it's|is|are|remains?) (?:unclear|unknown|uncertain|unspecified)\b(?: (?:what|how|whether"
    r"|which|who|where|from|if|in)\b|[.,;])"
    r"|\b(?:is|are|was|were) (?:not|n't) (?:specified|mentioned|described|provided|given|stated|clear (?:what"
    r"|whether|how|from))\b"
    r"|\b(?:isn't|aren't|wasn't|weren't) (?:specified|mentioned|described|provided|given|stated|clear)\b"
    r"|\bno (?:\w+ )?(?:information|details?|description|context) (?:is|are|about|on|was|were|given|provided"
    r"|available|for)\b"
    r"|\b(?:not enough|insufficient|lacks? (?:any )?|missing) (?:information|details?|context|description)"
    r"|\bwithout (?:seeing|access to|(?:more|further|additional|any) (?:information|context|details?))\b"
    r"|\b(?:information|details?|description|text) (?:given|provided|available)\b|\b(?:given|provided"
    r"|available) (?:information|descriptions?)\b"
)
_UNKNOWN_WORDS = frozenset(
    """possible impossible hard difficult unable cannot can't can unclear unknown uncertain unspecified specified mentioned
    described provided given stated clear information detail details description descriptions context without isn't aren't
    wasn't weren't""".split()  # noqa: SIM905
)
_SAME = (
    r"(?:identical|indistinguishable|the (?:very )?same|alike|equal|interchangeable)(?=$|[.,;:]| and\b"
    r"| in (?:every|all|content)\b| with no\b)"
)
_NO_DIFFERENCE = re.compile(
    r"\b(?:no|without(?: any)?|not any|hardly any|little(?: or no)?) (?:\w+ ){0,3}(?:differences?|distinction)\b"
    r"|\b(?:do|does|did) not (?:really |significantly |visibly )?differ\b|\b(?:don't|doesn't) (?:really )?differ\b"
    r"|\bnot (?:\w+ )?different\b|\bindistinguishable\b"
    rf"|\b(?:images?|pictures?|photos?|photographs?|the first and (?:the )?second|they)(?: \w+)?(?: are| is"
    rf"| look| looks| appear| seem)(?: \w+){{0,3}}? {_SAME}"
    rf"|\b(?:they|both) (?:are|look|seem|appear)(?: \w+){{0,2}}? {_SAME}"
    r"|\bthe same (?:image|picture|photo|photograph|thing)\b"
)
_NO_DIFFERENCE_WORDS = frozenset(
    """difference differences distinction differ different indistinguishable identical same alike equal
    interchangeable""".split()  # noqa: SIM905
)
_IMAGES = ("image", "picture", "photo", "photograph")
_IMAGE = rf"(?:{'|'.join(_IMAGES)})"
_THIRD_IMAGE = re.compile(
    rf"\b(?:third|3rd|fourth|4th|fifth|last|final|next) {_IMAGE}\b(?! (?:on|in|at|frame|from|hangs?|hanging|of a)\b)"
    rf"|(?<!first )(?<!second )\b{_IMAGE} (?:#\s?)?(?:3|4|5|c|three (?:is|has|shows|depicts|features|contains))\b"
    rf"|\b(?:all|these|the) (?:three|four|3|4) (?:of (?:the|these) )?(?:{_IMAGE}s)\b"
    r"|(?:^|[,.;:] |\b(?:and|while|whereas|but) )(?:in )?the (?:third|fourth|last)(?: one)?"
    r" (?:shows?|depicts?|features?|contains?|displays?|presents?|captures?|portrays?|a|an|one has|some)\b"
)
_THIRD_WORDS = frozenset(
    "third 3rd fourth 4th fifth last final next 3 4 5 three four c".split()  # noqa: SIM905
)
# These words are common; two that follow one another are not.
_COMMON_WORDS = frozenset("can hard clear without last final next 3 4 5 three four c".split())  # noqa: SIM905
_PAIRS = frozenset(
    [("can", "not"), ("hard", "to"), ("not", "clear")]
    + [("without", word) for word in "seeing access more further additional any".split()]  # noqa: SIM905
    + [(before, word) for before in "last final next".split() for word in _IMAGES]  # noqa: SIM905
    + [
        (before, word)
        for before in (*_IMAGES, "#", "all", "these", "the")
        for word in ["last", "3", "4", "5", "three", "four", "c"]
    ]
)
_GAP = re.compile(
    r"\.\.\.|\u2026|_{2,}|\bx{2,}\b|\btbd\b|\btodo\b|\bn/a\b|\blorem ipsum\b|\bblah\b"
    r"|[(<\[]\s*(?:your|insert|describe|description|add|fill|details?|text|something|image|picture|what|object"
    r"|subject)\b[^()<>\[\]]*[)>\]]"
    r"|\b(?:shows|depicts|is|features|and|of|has|contains) (?:[xyzab]|x and y)(?=[.,;]|$)"
)
_GAP_WORDS = frozenset("( [ < x y z b xx xxx xxxx tbd todo n lorem blah".split())  # noqa: SIM905
_GAP_MARKS = ("...", "\u2026", "__")
_BRACKETS = re.compile(r"\[[^\[\]]*[^\W\d_A-Z][^\[\]]*\]|\[\s*\]")  # capitals alone are a sign's: [EXIT]
_TRIGGERS = _CHAT_WORDS | _THINKING_WORDS | _UNKNOWN_WORDS | _NO_DIFFERENCE_WORDS | _THIRD_WORDS
# Common words of other languages in Latin letters that are no English words and stand in few names.
_FOREIGN = frozenset(
    """und eine einen einem einer ist nicht zeigt bild auf w\u00e4hrend zweite zweiten zweites erste ersten erstes mit ein zwei
    est dans avec tandis montre deuxi\u00e8me premi\u00e8re seconde une des les sur qui il y deux
    una imagen muestra mientras segunda primera est\u00e1 un y perro hombre mujer el los las otra
    immagine mostra mentre seconda prima della nella uno gli che sono e
    imagem enquanto uma um n\u00e3o mostra primeira em
    een het afbeelding toont terwijl tweede eerste
    obraz pokazuje podczas gdy drugi pierwszy jest na
    och bilden visar medan andra f\u00f6rsta en ett
    gambar pertama kedua menunjukkan sedangkan seorang yang""".split()  # noqa: SIM905
)
_FOREIGN_TEXT = re.compile(r"[^\W\d_]+")
FOREIGN_WORDS = 3  # fewer are a name: "Plaza de la Reina y el Puerto"


def chat(text: str) -> str | None:
    """A refusal, or talk to the reader."""
    return _first(_CHAT, _CHAT_WORDS, text)


def thinking(text: str) -> str | None:
    """Thinking aloud, or counting words."""
    return _first(_THINKING, _THINKING_WORDS, text)


def unknown(text: str) -> str | None:
    """A statement that something cannot be determined or is not mentioned."""
    return _first(_UNKNOWN, _UNKNOWN_WORDS, text)


def no_difference(text: str) -> str | None:
    """That the images do not differ."""
    return _first(_NO_DIFFERENCE, _NO_DIFFERENCE_WORDS, text)


def third_image(text: str) -> str | None:
    """More images than two."""
    return _first(_THIRD_IMAGE, _THIRD_WORDS, text)


def placeholder(text: str) -> str | None:
    """Something left to be filled in: dots, brackets, "insert ... here"."""
    if _GAP_WORDS.isdisjoint(word_set(text)) and not any(map(text.__contains__, _GAP_MARKS)):
        return None
    if (found := _found(_GAP, text)) is not None:
        return found
    if "[" not in text:
        return None
    match = _BRACKETS.search(without_quotes(text))
    return repr(match.group()) if match else None


def foreign(text: str) -> str | None:
    """A passage in another language, by its most common words."""
    if len(word_set(text) & _FOREIGN) < 2:
        return None
    # Capitals are names: "Los Angeles", "Et Cetera"
    words = [word for word in _FOREIGN_TEXT.findall(without_quotes(text)) if word in _FOREIGN]
    return repr(" ".join(words)) if len(words) >= FOREIGN_WORDS and len(set(words)) > 1 else None


RULES: Mapping[str, Callable[[str], str | None]] = {
    "chat": chat,
    "thinking": thinking,
    "unknown": unknown,
    "no_difference": no_difference,
    "third_image": third_image,
}


class Leakage:
    """The rule about words of the prompt.

    Args:
        phrases: The phrases, in any case.
    """

    def __init__(self, phrases: Collection[str]) -> None:
        self._patterns = [
            (phrase, re.compile(rf"(?<![\w-]){re.escape(phrase.lower())}(?![\w-])")) for phrase in phrases
        ]
        self._words = frozenset(max(words_of(phrase), key=len, default="") for phrase in phrases)

    def __call__(self, text: str) -> str | None:
        """A phrase of the prompt, in whole words."""
        if self._words.isdisjoint(word_set(text)):
            return None
        return next((repr(phrase) for phrase, pattern in self._patterns if pattern.search(unquoted(text))), None)


def has_trigger(text: str) -> bool:
    """Whether a text has a word without which `RULES` find nothing."""
    return not _TRIGGERS.isdisjoint(word_set(text))


def _first(pattern: re.Pattern[str], triggers: frozenset[str], text: str) -> str | None:
    found = triggers & word_set(text)
    if not found or (found <= _COMMON_WORDS and not _has_pair(text)):
        return None
    return _found(pattern, text)


def _has_pair(text: str) -> bool:
    """Whether words follow one another without which the `_COMMON_WORDS` mean nothing."""
    return "'" in unquoted(text) or not _PAIRS.isdisjoint(pairwise(tokens_of(without_quotes(text))))


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(unquoted(text))
    return repr(match.group().strip()) if match else None
