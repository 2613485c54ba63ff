"""What `data.train_weights` says: how many groups of each folder are in a batch."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd

from pcclip.data.folders import expand


def shares(
    folders: Sequence[str], weights: Mapping[str, int], groups_per_batch: int
) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Return the folders of each weight, and how many groups of them are in a batch. The order is that of `folders`.

    Raises:
        ValueError: A weight is not of folders of `data.train`, a folder has no weight or two, or the groups of a batch cannot
            be divided.
    """
    total = sum(weights.values())
    found: list[tuple[tuple[str, ...], int]] = []
    for entry, weight in weights.items():
        names = expand([entry])
        if unknown := set(names) - set(folders):
            raise ValueError(f"data.train_weights: {min(unknown)} is no folder of data.train: {', '.join(folders)}")
        if groups_per_batch * weight % total:
            raise ValueError(
                f"data.train_weights: {groups_per_batch} groups (data.groups_per_batch) cannot be divided by the weights "
                f"{', '.join(map(str, weights.values()))}; use a multiple of {total // gcd(*weights.values())}"
            )
        found.append((tuple(sorted(names, key=folders.index)), groups_per_batch * weight // total))
    counts = Counter(name for names, _ in found for name in names)
    for name in folders if weights else ():
        if counts[name] != 1:
            raise ValueError(f"data.train_weights: {name} needs one weight, found {counts[name]}")
    return tuple(sorted(found, key=lambda share: folders.index(share[0][0])))
