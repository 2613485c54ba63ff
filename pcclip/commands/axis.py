"""Options that name an axis, shared by `rank`, `classify` and `compare`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcclip.tools.attributes import Attribute


@dataclass(kw_only=True)
class AxisOptions:
    """An axis: by two texts, or by the name of an attribute."""

    more: str | list[str] = ""
    """Text that is true of (first, second) if the first has more; several, as [TEXT, TEXT], are averaged."""
    less: str | list[str] = ""
    """Its opposite, one for each of `--more`."""
    attribute: str | list[str] | None = None
    """In place of both, the name of an attribute, such as size."""
    attributes: str | None = None
    """YAML file of attributes; by default those that are shipped."""

    def axes(self) -> "list[Attribute]":
        """Return the attributes that are named, or the one that the two texts make.

        Raises:
            FileNotFoundError: The file of attributes does not exist.
            ValueError: Both or neither are given, or as `wordings` and `read_attribute` raise it.
        """
        from pcclip.tools.attributes import SHIPPED, Attribute, read_attribute, wordings

        if bool(self.more or self.less) == bool(self.attribute):
            raise ValueError("give either --more and --less, or --attribute")
        if not self.attribute:
            return [Attribute("axis", "more", "less", wordings(self.more or [], self.less or []))]
        names = [self.attribute] if isinstance(self.attribute, str) else self.attribute
        return [read_attribute(name, self.attributes or SHIPPED) for name in dict.fromkeys(names)]
