"""Rules about what a language model writes instead of a text: refusals, doubts, reasoning, placeholders, prompt phrases.

Quoted parts are ignored, because a sign in the picture may say "I can't stop" or "Coming soon...". A pattern can match only
a text with one of its trigger words. Checking for trigger words first is many times faster.
"""

import re
from collections.abc import Callable, Collection
from functools import partial

from data_prep.rules.reading import Text, tokens_of, without_quotes

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
    """possible impossible difficult unable cannot can't unclear unknown uncertain unspecified specified mentioned described
    provided given stated information detail details description descriptions context isn't aren't wasn't
    weren't can hard clear without""".split()  # noqa: SIM905
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
_IMAGE = "(?:image|picture|photo|photograph)"
_THIRD_IMAGE = re.compile(
    rf"\b(?:third|3rd|fourth|4th|fifth|last|final|next) {_IMAGE}\b(?! (?:on|in|at|frame|from|hangs?|hanging|of a)\b)"
    rf"|(?<!first )(?<!second )\b{_IMAGE} (?:#\s?)?(?:3|4|5|c|three (?:is|has|shows|depicts|features|contains))\b"
    rf"|\b(?:all|these|the) (?:three|four|3|4) (?:of (?:the|these) )?(?:{_IMAGE}s)\b"
    r"|(?:^|[,.;:] |\b(?:and|while|whereas|but) )(?:in )?the (?:third|fourth|last)(?: one)?"
    r" (?:shows?|depicts?|features?|contains?|displays?|presents?|captures?|portrays?|a|an|one has|some)\b"
)
_THIRD_WORDS = frozenset("third 3rd fourth 4th fifth last final next 3 4 5 three four c".split())  # noqa: SIM905
_GAP = re.compile(
    r"\.\.\.|\u2026|_{2,}|\bx{2,}\b|\btbd\b|\btodo\b|\bn/a\b|\blorem ipsum\b|\bblah\b"
    r"|[(<\[]\s*(?:your|insert|describe|description|add|fill|details?|text|something|image|picture|what|object"
    r"|subject)\b[^()<>\[\]]*[)>\]]"
    r"|\b(?:shows|depicts|is|features|and|of|has|contains) (?:[xyzab]|x and y)(?=[.,;]|$)"
)
_GAP_WORDS = frozenset("( [ < x y z b xx xxx xxxx tbd todo n lorem blah \u2026".split())  # noqa: SIM905
_BRACKETS = re.compile(r"\[[^\[\]]*[^\W\d_A-Z][^\[\]]*\]|\[\s*\]")  # capitals alone are a sign's: [EXIT]
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


PATTERNS = {
    "chat": _CHAT,
    "thinking": _THINKING,
    "unknown": _UNKNOWN,
    "no_difference": _NO_DIFFERENCE,
    "third_image": _THIRD_IMAGE,
}
TRIGGERS = {
    "foreign": _FOREIGN,
    "placeholder": _GAP_WORDS,
    "chat": _CHAT_WORDS,
    "thinking": _THINKING_WORDS,
    "unknown": _UNKNOWN_WORDS,
    "no_difference": _NO_DIFFERENCE_WORDS,
    "third_image": _THIRD_WORDS,
}
GAP_MARK = re.compile(r"\.\.\.|__")


def _phrase(reason: str, text: Text) -> str | None:
    found = PATTERNS[reason].search(text.unquoted) if reason in text.signs else None
    return repr(found.group().strip()) if found else None


PHRASES: dict[str, Callable[[Text], str | None]] = {reason: partial(_phrase, reason) for reason in PATTERNS}


def placeholder(text: Text) -> str | None:
    """Find a placeholder: dots, brackets, "insert ... here"."""
    if "placeholder" not in text.signs:
        return None
    found = _GAP.search(text.unquoted) or _BRACKETS.search(without_quotes(text.raw))
    return repr(found.group().strip()) if found else None


def foreign(text: Text) -> str | None:
    """Find a passage in another language by its most common words."""
    if "foreign" not in text.signs:
        return None
    # Capitals are names: "Los Angeles", "Et Cetera"
    words = [word for word in _FOREIGN_TEXT.findall(without_quotes(text.raw)) if word in _FOREIGN]
    return repr(" ".join(words)) if len(words) >= FOREIGN_WORDS and len(set(words)) > 1 else None


class Leakage:
    """Rule against phrases of the prompt.

    Args:
        phrases: The phrases, in upper or lower case.

    Attributes:
        triggers: Trigger words. Every text with a phrase contains at least one of them.
    """

    def __init__(self, phrases: Collection[str]) -> None:
        self._patterns = [
            (phrase, re.compile(rf"(?<![\w-]){re.escape(phrase.lower())}(?![\w-])")) for phrase in phrases
        ]
        self.triggers = frozenset(max(tokens_of(phrase.lower()), key=len, default="") for phrase in phrases)

    def __call__(self, text: Text) -> str | None:
        """Find a phrase as whole words."""
        if "leakage" not in text.signs:
            return None
        return next((repr(phrase) for phrase, pattern in self._patterns if pattern.search(text.unquoted)), None)
