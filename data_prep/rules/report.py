"""The report of `screen`: how many rows each reason took, with examples, so that people see what was thrown away."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict

from data_prep.files import Row
from data_prep.rules.judge import REASONS, Judgement


class Report:
    """Counts judgements and draws examples of each reason and each cut, the same ones in every run.

    Args:
        samples: Examples of each.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._rng = random.Random(0)
        self._examples: dict[str, list[str]] = defaultdict(list)
        self._reasons: Counter[str] = Counter()
        self._cuts: Counter[str] = Counter()
        self._long_texts = 0
        self.rows = 0

    @property
    def passed(self) -> int:
        """Rows that passed."""
        return self.rows - self._reasons.total()

    def add(self, row: Row, judgement: Judgement) -> None:
        """Count a row and what became of it."""
        self.rows += 1
        self._long_texts += judgement.long_texts
        both = f"text: {_quoted(row['text'])}  \n  reverse: {_quoted(row['reverse_text'])}"
        if judgement.reason is not None:
            self._reasons[judgement.reason] += 1
            found = f"`{row['pair_id']}`: {_quoted(judgement.detail)}  \n  {both}"
            self._draw(judgement.reason, self._reasons[judgement.reason], found)
            return
        for name in dict.fromkeys(judgement.cuts):
            self._cuts[name] += 1
            left = "  \n  reverse: ".join(map(_quoted, judgement.texts))
            self._draw(f"cut {name}", self._cuts[name], f"`{row['pair_id']}`: {both}  \n  left: {left}")

    def _draw(self, kind: str, count: int, example: str) -> None:
        """Keep an example so that in the end each had the same chance (reservoir sampling)."""
        kept = self._examples[kind]
        if len(kept) < self._samples:
            kept.append(example)
        elif (place := self._rng.randrange(count)) < self._samples:
            kept[place] = example

    def counts(self) -> dict[str, int]:
        """Counts for the manifest."""
        rejected = {f"rejected.{reason}": self._reasons[reason] for reason in REASONS if self._reasons[reason]}
        cuts = {f"cut.{name}": count for name, count in sorted(self._cuts.items())}
        return {"rows": self.rows, "passed": self.passed, **rejected, **cuts, "long_texts": self._long_texts}

    def markdown(self) -> str:
        """The report as Markdown."""
        lines = [
            "# Screened difference texts",
            "",
            f"{self.passed} of {self.rows} rows passed{self._share(self.passed)}. "
            f"{self._long_texts} texts were longer than allowed.",
            "",
            "| rejected because | rows | share | meaning |",
            "|---|---|---|---|",
            *(
                f"| {reason} | {self._reasons[reason]} |{self._share(self._reasons[reason])} | {meaning} |"
                for reason, meaning in REASONS.items()
            ),
            "",
            "| cut from rows that passed | rows |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in sorted(self._cuts.items())),
        ]
        for kind in [*REASONS, *(f"cut {name}" for name in sorted(self._cuts))]:
            if self._examples[kind]:
                lines += ["", f"## {kind}", "", *(f"- {example}" for example in self._examples[kind])]
        return "\n".join(lines) + "\n"

    def _share(self, count: int) -> str:
        return f" {count / self.rows:.2%}" if self.rows else ""


def _quoted(text: str) -> str:
    """A text on one line that a Markdown reader shows as it is."""
    quoted = json.dumps(text[:400], ensure_ascii=not _is_encodable(text))
    return f"`` {quoted} ``"


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def line_of(row: Row) -> str:
    """A row as one line of JSON; half characters, which UTF-8 cannot hold, are written as escapes."""
    line = json.dumps(row, ensure_ascii=False)
    return (line if _is_encodable(line) else json.dumps(row)) + "\n"
