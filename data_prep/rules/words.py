"""Words that the rules know: the names of the two images, comparatives, fillers; and stems."""

WORDS_KEPT = 1 << 16  # in caches

# (scale, words for more, words for less)
_SCALES = (
    ("size", "larger bigger greater huger", "smaller tinier lesser"),
    ("brightness", "brighter lighter paler", "darker dimmer"),
    ("height", "taller higher", "shorter lower"),
    ("length", "longer", ""),
    ("width", "wider broader thicker", "narrower thinner slimmer"),
    ("weight", "heavier", ""),
    ("age", "older", "younger newer"),
    ("nearness", "closer nearer", "farther further"),
    ("warmth", "warmer hotter sunnier", "colder cooler"),
    ("speed", "faster quicker", "slower"),
    ("noise", "louder busier livelier", "quieter calmer emptier"),
    ("number", "more", "fewer less"),
    ("clarity", "sharper clearer", "blurrier hazier"),
)
COMPARATIVES = {  # word: (scale, 1 for more or -1 for less)
    word: (scale, sign)
    for scale, more, less in _SCALES
    for words, sign in ((more, 1), (less, -1))
    for word in words.split()
}

SIDES = ("first", "second")
OTHER = {"first": "second", "second": "first"}
FILLERS = frozenset(  # words that say nothing about what an image shows
    """a an and are as at be but by can compared contain contains depict depicts does feature features first for from has
    have image images in instead is it its look looks next of on one or other photo photos picture pictures scene second
    see seen show showing shown shows than that the them there these they this those to unlike we whereas which while with
    you much slightly somewhat far bit little lot even rather more less fewer most""".split()  # noqa: SIM905
)
_ENDINGS = ("ings", "ing", "ies", "ied", "ers", "ed", "es", "er", "s", "e", "y")


def stem(word: str) -> str:
    """Return the approximate stem of a word: runs, running and runner become run."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            word = word[: -len(ending)]
            break
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word
