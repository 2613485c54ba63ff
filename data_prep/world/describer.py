"""Describer of the embedded world. It stands in for a language model and writes how one scene differs from another.

A text names one or two noticeable differences, in one of many frames and either order of mention. Comparatives follow the
scenes' numbers, never their captions.
"""

import random
import re
from dataclasses import dataclass

from data_prep.world import frames
from data_prep.world.scene import Scene
from data_prep.world.vocabulary import (
    GRADED,
    background_phrase,
    grade,
    noun,
    noun_phrase,
    plural,
    position_phrase,
    with_article,
)

# Differences that people would call noticeable: ratio of sizes, numbers, grey levels, share of the picture's width.
LEAST = {"size": 1.12, "count": 1.0, "brightness": 0.12, "position": 0.12}
SLIGHT = {"size": 1.22, "count": 0.0, "brightness": 0.22, "position": 0.2}
STRONG = {"size": 1.45, "count": 3.0, "brightness": 0.5, "position": 0.4}

MORE = {
    "size": ("larger", "bigger"),
    "count": ("more",),
    "brightness": ("brighter", "lighter"),
    "position": ("further to the right", "further right", "more to the right", "closer to the right edge"),
}
LESS = {
    "size": ("smaller", "smaller", "tinier"),
    "count": ("fewer",),
    "brightness": ("darker", "dimmer"),
    "position": ("further to the left", "further left", "more to the left", "closer to the left edge"),
}
FIRST_LEADS = 0.75  # share of comparatives that speak of the first picture
APPEAR = ("appear", "occur", "stand", "stay")
HIGHER, LOWER = ("higher", "greater"), ("lower",)
NOUNS = (
    ("image", "image"),
    ("picture", "picture"),
    ("image", ""),
    ("picture", ""),
    ("", ""),
    ("image", "one"),
    ("picture", "one"),
)


def difference(first: Scene, second: Scene, attribute: str) -> float:
    """How much more of a graded attribute `first` has, in the unit of `LEAST`; negative for less."""
    a, b = getattr(first, attribute), getattr(second, attribute)
    if attribute == "size":
        return float(a / b if a >= b else -b / a)
    return float(a - b)


def noticeable(first: Scene, second: Scene) -> list[str]:
    """Attributes in which two scenes differ enough to speak of it."""
    graded = [name for name in GRADED if abs(difference(first, second, name)) >= LEAST[name]]
    return graded + [name for name in ("shape", "colour") if getattr(first, name) != getattr(second, name)]


def describe(rng: random.Random, first: Scene, second: Scene) -> str | None:
    """Write how `first` differs from `second`; None when they differ in nothing noticeable."""
    differing = noticeable(first, second)
    if not differing:
        return None
    # Shape and colour differ nearly always; the graded attributes are what the texts are for.
    wanted = rng.choices((1, 2), (0.85, 0.15))[0]
    keyed = sorted(differing, key=lambda name: rng.random() ** (1.0 if name in GRADED else 5.0), reverse=True)
    return Writer(rng, first, second).text(keyed[:wanted])


@dataclass
class Writer:
    """Writes one text about one ordered pair of scenes."""

    rng: random.Random
    first: Scene
    second: Scene

    def text(self, attributes: list[str]) -> str:
        """Write about all of `attributes`, in which the scenes must differ noticeably."""
        graded = [name for name in attributes if name in GRADED]
        kinds = [name for name in attributes if name not in GRADED]
        if graded and all(self._grades_agree(name) for name in graded) and self.rng.random() < 0.15:
            return self._finish([self._contrast(attributes)])
        parts = [self._contrast(kinds)] if kinds else []
        parts += self._compare(graded)
        self.rng.shuffle(parts)
        return self._finish(parts)

    def _grades_agree(self, attribute: str) -> bool:
        """Whether the words of the two grades differ in the direction in which the scenes do."""
        step = grade(self.first, attribute) - grade(self.second, attribute)
        return step * difference(self.first, self.second, attribute) > 0

    def _compare(self, graded: list[str]) -> list[str]:
        """Comparative clauses about all of `graded`, with "<1>" and "<2>" for the pictures."""
        if len(graded) < 2 or self.rng.random() < 0.15:
            return [self._single(name) for name in graded]
        if len(graded) == 2 and "position" not in graded and self.rng.random() < 0.4:
            return [self._crossed(*graded)]
        return [self._joint(graded)]

    def _sides(self) -> tuple[Scene, Scene, str, str]:
        """Which picture the comparative speaks of: (its scene, the other's, its mark, the other's)."""
        if self.rng.random() < FIRST_LEADS:
            return self.first, self.second, "<1>", "<2>"
        return self.second, self.first, "<2>", "<1>"

    def _single(self, attribute: str) -> str:
        x, y, x_mark, y_mark = self._sides()
        frame = frames.graded(self.rng, attribute)
        return _mark(frame.format(**self._fields(x, y, attribute)), x_mark, y_mark)

    def _fields(self, x: Scene, y: Scene, attribute: str) -> dict[str, str]:
        """Words for the fields of a frame that says how `x` differs from `y` in a graded attribute."""
        shape = self._common_noun(x, y)
        word, opposite_word = self._comparative(x, y, attribute), self._plain_comparative(y, x, attribute)
        fields = {
            "word": word,
            "opposite_word": opposite_word,
            "thing": self._thing(x, attribute, word, shape),
            "thing_is": "is" if x.count == 1 else "are",
            "opposite": self._thing(y, attribute, opposite_word, shape),
            "opposite_is": "is" if y.count == 1 else "are",
            "singled": f"the {word} {noun(x, shape)}",
            "subject": shape,
            "common": plural(shape),
            "common_is": "are",
            "those": f"those in <X> are {word}",
            "described": f"{self._some(x, shape)} {word}",
            "other": f"{self._some(y, shape)} {opposite_word}",
        }
        verbs = {"is": "is", "looks": "looks", "gets": "gets", "that": "that", "it": "it", "does": "does"}
        if attribute == "count":
            higher, lower = self.rng.choice(HIGHER), self.rng.choice(LOWER)
            more = difference(x, y, "count") > 0
            fields |= {"word": higher if more else lower, "opposite_word": lower if more else higher}
            fields |= {"thing_is": "are", "opposite_is": "are", "singled": fields["thing"]}
            fields["those"] = f"the number of those in <X> is {fields['word']}"
            fields |= {
                "subject": f"number of {plural(shape)}",
                "described": fields["thing"],
                "other": fields["opposite"],
            }
            verbs["looks"] = "seems"
        elif attribute == "brightness":
            ground = self._ground()
            fields |= {"thing_is": "is", "opposite_is": "is", "singled": f"the {word} {ground}", "subject": ground}
            fields |= {"common": f"a {ground}", "common_is": "is", "those": f"that in <X> is {word}"}
            fields |= {"described": f"a {ground} that is {word}", "other": f"a {ground} that is {opposite_word}"}
        else:
            if attribute == "position":
                fields["singled"] = f"the {noun(x, shape)} placed {word}"
                verbs["looks"] = self.rng.choice(("sits", "lies"))
            verbs["that"] = "the one"
            if not x.count == y.count == 1:
                fields["subject"] = plural(shape)
                looks = verbs["looks"].removesuffix("s")
                verbs = {"is": "are", "looks": looks, "gets": "get", "that": "those", "it": "they", "does": "do"}
        fields["singled_lie"] = "lies" if fields["thing_is"] == "is" else "lie"
        verb = self.rng.choice(APPEAR)
        for name in ("thing", "opposite"):
            fields[f"{name}_appears"] = f"{verb}s" if fields[f"{name}_is"] == "is" else verb
        return fields | verbs

    def _crossed(self, one: str, other: str) -> str:
        x, y, x_mark, y_mark = self._sides()
        if self.rng.random() < 0.5:
            one, other = other, one
        shape = self._common_noun(x, y)
        frame = self.rng.choice(frames.CROSSED)
        thing = self._thing(x, one, self._comparative(x, y, one), shape)
        return _mark(
            frame.format(thing=thing, other=self._thing(y, other, self._comparative(y, x, other), shape)),
            x_mark,
            y_mark,
        )

    def _joint(self, graded: list[str]) -> str:
        x, y, x_mark, y_mark = self._sides()
        shape = self._common_noun(x, y)
        order = self.rng.sample(graded, len(graded))
        if "position" in graded or self.rng.random() < 0.4:
            clauses = [self._clause(x, y, name, shape) for name in order]
            return _mark(self.rng.choice(frames.JOINT_CLAUSES).format(clauses=_listed(clauses)), x_mark, y_mark)
        comparatives = {name: self._comparative(x, y, name) for name in order}
        things = []
        if "size" in comparatives and "count" in comparatives:
            link = "and" if (difference(x, y, "size") > 0) == (difference(x, y, "count") > 0) else "but"
            things.append(f"{comparatives.pop('count')} {link} {comparatives.pop('size')} {plural(shape)}")
        things += [self._thing(x, name, word, shape) for name, word in comparatives.items()]
        self.rng.shuffle(things)
        return _mark(self.rng.choice(frames.JOINT_THINGS).format(things=_listed(things)), x_mark, y_mark)

    def _clause(self, x: Scene, y: Scene, attribute: str, shape: str) -> str:
        word = self._comparative(x, y, attribute)
        if attribute == "count":
            return f"there are {word} {plural(shape)}"
        if attribute == "brightness":
            return f"the {self._ground()} is {word}"
        one = x.count == y.count == 1
        verb = "is" if one else "are"
        return f"the {shape if one else plural(shape)} {verb} {word}"

    def _contrast(self, attributes: list[str]) -> str:
        """Name `attributes` as each picture has them, without comparatives."""
        x, y, x_mark, y_mark = self._sides()
        shape = self._common_noun(x, y)
        if attributes == ["colour"] and self.rng.random() < 0.4:
            one = x.count == y.count == 1
            text = self.rng.choice(frames.COLOURED).format(
                this=x.colour,
                that=y.colour,
                shapes=shape if one else plural(shape),
                own=noun(x, shape),
                are="is" if one else "are",
                those="the one" if one else "those",
            )
            return _mark(text, x_mark, y_mark)
        named = set(attributes)
        if x.shape == y.shape and self.rng.random() < 0.6:
            named.add("shape")
        this, that = (self._view(scene, named) for scene in (x, y))
        text = self.rng.choice(frames.CONTRAST).format(this=this, that=that, this_are="is" if x.count == 1 else "are")
        text = text.replace("appear_s", "appears" if x.count == 1 else "appear")
        text = text.replace("appear_t", "appears" if y.count == 1 else "appear")
        return _mark(text, x_mark, y_mark)

    def _view(self, scene: Scene, named: set[str]) -> str:
        """A scene in a noun phrase, e.g. `two large stars on the left on a dark background`."""
        words = [noun_phrase(self.rng, scene, named)]
        if "position" in named:
            words.append(position_phrase(self.rng, scene))
        if "brightness" in named:
            words.append(f"on {background_phrase(self.rng, scene)}")
        return " ".join(words)

    def _common_noun(self, x: Scene, y: Scene) -> str:
        return x.shape if x.shape == y.shape and self.rng.random() < 0.6 else "shape"

    def _ground(self) -> str:
        return self.rng.choice(("background", "background", "backdrop"))

    def _thing(self, x: Scene, attribute: str, comparative: str, shape: str) -> str:
        """`larger stars`, `a larger star`, `more stars`, `a darker background`, `its star further left`."""
        if attribute == "count":
            return f"{comparative} {plural(shape)}"
        if attribute == "brightness":
            return f"a {comparative} {self._ground()}"
        if attribute == "position":
            return f"its {noun(x, shape)} {comparative}"
        phrase = f"{comparative} {noun(x, shape)}"
        return with_article(phrase) if x.count == 1 else phrase

    def _some(self, scene: Scene, shape: str) -> str:
        """`stars that are`, `a star that is`."""
        return f"{with_article(shape)} that is" if scene.count == 1 else f"{plural(shape)} that are"

    def _plain_comparative(self, x: Scene, y: Scene, attribute: str) -> str:
        return self.rng.choice((MORE if difference(x, y, attribute) > 0 else LESS)[attribute])

    def _comparative(self, x: Scene, y: Scene, attribute: str) -> str:
        """The comparative for `x` against `y`, sometimes with its degree."""
        word = self._plain_comparative(x, y, attribute)
        amount = abs(difference(x, y, attribute))
        if self.rng.random() < 0.6 or word.startswith("more to"):
            return word
        if amount >= STRONG[attribute]:
            if attribute == "count":
                return f"{'many' if word == 'more' else 'far'} {word}"
            return f"{self.rng.choice(('much', 'clearly', 'far') if attribute != 'position' else ('much', 'clearly'))} {word}"
        if amount <= SLIGHT[attribute]:
            return f"{self.rng.choice(('slightly', 'slightly', 'somewhat'))} {word}"
        return word

    def _finish(self, parts: list[str]) -> str:
        """Join the parts, name the pictures, and set capitals and full stops."""
        links = [". ", ". ", "; ", ", and "]
        if any("," in part for part in parts):  # a part's own comma or semicolon must not bind weaker than the link
            links.remove(", and ")
        if any(";" in part for part in parts):
            links = [". "]
        link = self.rng.choice(links)
        long, short = self.rng.choice(NOUNS)
        words = iter([long])

        def name(mark: re.Match[str]) -> str:
            return " ".join(filter(None, ("the", "first" if mark[1] == "1" else "second", next(words, short))))

        text = re.sub("<([12])>", name, link.join(parts))
        return re.sub(r"(^|\. )([a-z])", lambda start: start[1] + start[2].upper(), text) + "."


def _mark(text: str, x_mark: str, y_mark: str) -> str:
    return text.replace("<X>", x_mark).replace("<Y>", y_mark)


def _listed(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
