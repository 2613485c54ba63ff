"""Test sentences about the world. Their words occur in training texts, their frames do not.

In each sentence the first image has more of the attribute. More position is further right.
"""

# (frame, word for more, word for less). Texts have the first word at {0} and the second at {1}; reverse texts exchange them.
WORDINGS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "size": (
        ("The shapes that you can see in the first picture are {0}.", "larger", "smaller"),
        ("It is in the first image that the shapes look {0}.", "bigger", "smaller"),
        ("We see {0} shapes in the first picture than we do in the second.", "larger", "smaller"),
        ("In both pictures we see shapes, but the {0} are those in the first.", "larger", "smaller"),
        ("The first of the two pictures contains {0} shapes.", "bigger", "smaller"),
        ("{0} shapes lie in the first image; {1} shapes lie in the second.", "larger", "smaller"),
    ),
    "count": (
        ("The first picture is the one that shows {0} shapes.", "more", "fewer"),
        ("It is in the first image that there are {0} shapes.", "more", "fewer"),
        ("We see {0} shapes in the first picture than we do in the second.", "more", "fewer"),
        ("In both pictures we see shapes, but there are {0} of those in the first.", "more", "fewer"),
        ("The number of shapes that the first image contains is {0}.", "greater", "lower"),
        ("{0} shapes lie in the first image; {1} shapes lie in the second.", "more", "fewer"),
    ),
    "brightness": (
        ("The background that you can see in the first picture is {0}.", "brighter", "darker"),
        ("It is in the first image that the background looks {0}.", "lighter", "darker"),
        ("We see a {0} background in the first picture than we do in the second.", "brighter", "darker"),
        ("In both pictures we see a background, but the {0} is that in the first.", "brighter", "darker"),
        ("The first of the two pictures contains a {0} background.", "lighter", "darker"),
        ("A {0} backdrop is in the first image; a {1} backdrop is in the second.", "brighter", "dimmer"),
    ),
    "position": (
        ("The shapes that you can see in the first picture are {0}.", "further to the right", "further to the left"),
        ("It is in the first image that the shapes lie {0}.", "further right", "further left"),
        (
            "We see the shapes {0} in the first picture than we do in the second.",
            "further to the right",
            "further to the left",
        ),
        (
            "In both pictures we see shapes, but those in the first are placed {0}.",
            "more to the right",
            "more to the left",
        ),
        (
            "The first of the two pictures contains shapes that are {0}.",
            "closer to the right edge",
            "closer to the left edge",
        ),
        (
            "The first image has shapes that lie {0}; the second has shapes that lie {1}.",
            "further to the right",
            "further to the left",
        ),
    ),
}
# Sentences that mention the second image first, like few training texts. A model that relies on the order of mention fails.
SECOND_LEADS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "size": (
        ("The second picture shows shapes that are {1} than those of the first.", "bigger", "smaller"),
        ("The second image, next to the first, contains {1} shapes.", "bigger", "smaller"),
    ),
    "count": (
        ("In the second picture {1} shapes can be found than in the first.", "more", "fewer"),
        ("The second image, next to the first, contains {1} shapes.", "more", "fewer"),
    ),
    "brightness": (
        ("The second picture shows a background that is {1} than that of the first.", "lighter", "darker"),
        ("The second image, next to the first, contains a {1} background.", "brighter", "dimmer"),
    ),
    "position": (
        (
            "The second picture shows shapes that are {1} than those of the first.",
            "further to the right",
            "further to the left",
        ),
        ("The second image, next to the first, contains shapes that lie {1}.", "further right", "further left"),
    ),
}

# Ordinary prompts (for more, for less) in words of captions. Their difference is the baseline of attribute ranking.
PROMPTS: dict[str, tuple[tuple[str, str], ...]] = {
    "size": (
        ("a picture of large shapes", "a picture of small shapes"),
        ("huge shapes", "tiny shapes"),
        ("a very large shape", "a very small shape"),
    ),
    "count": (
        ("a picture of four shapes", "a picture of one shape"),
        ("four shapes", "a single shape"),
        ("three shapes", "one shape"),
    ),
    "brightness": (
        ("shapes on a very bright background", "shapes on a very dark background"),
        ("a picture with a light background", "a picture with a dark background"),
        ("a pale backdrop", "an almost black backdrop"),
    ),
    "position": (
        ("a picture of shapes on the far right", "a picture of shapes on the far left"),
        ("shapes on the right side", "shapes on the left side"),
        ("shapes close to the right edge", "shapes close to the left edge"),
    ),
}


def attribute_texts(
    wordings_of: dict[str, tuple[tuple[str, str, str], ...]],
) -> dict[str, dict[str, list[dict[str, str]]]]:
    """Return sentences and prompts in the format of attribute ranking: {attribute: {"wordings", "prompts"}}."""
    return {
        attribute: {
            "wordings": [
                {"text": _capital(frame.format(more, less)), "reverse": _capital(frame.format(less, more))}
                for frame, more, less in wordings
            ],
            "prompts": [{"more": more, "less": less} for more, less in PROMPTS[attribute]],
        }
        for attribute, wordings in wordings_of.items()
    }


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
