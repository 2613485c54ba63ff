"""Parts of an input: each key in exactly one, and the same one on every machine."""

import pytest

from data_prep.parts import Part, hash64

KEYS = [f"image {i}" for i in range(4000)] + ["", "käse", "\ud83d"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_key_is_in_exactly_one_of_parts_of_about_equal_size(count: int) -> None:
    assert Part.parse(None, "x") == Part(0, 1)
    parts = [Part.parse(f"{k}/{count}", "x") for k in range(1, count + 1)]
    assert all(sum(part.holds(key) for part in parts) == 1 for key in KEYS)
    sizes = [sum(part.holds(key) for key in KEYS) for part in parts]
    assert min(sizes) > 0.85 * len(KEYS) / count


def test_the_part_of_a_key_never_changes() -> None:
    assert [hash64(key) % 4 for key in KEYS[:8]] == [1, 1, 0, 3, 3, 3, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/4", " 1/4", "1.0/4", "a/b", "1/4\n", "1/" + "9" * 5000]
)
def test_bad_parts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"describe\.part"):
        Part.parse(text, "describe.part")
