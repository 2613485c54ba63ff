"""Report of `screen`: the number of rejected rows and examples for each reason."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from data_prep.files import Row
from data_prep.parts import hash64
from data_prep.rules.judge import REASONS, Judgement

EXAMPLES = 5  # in the report, for each reason and each cut


class ScreeningReport:
    """Counts of judgements, and examples for each reason and each cut."""

    def __init__(self) -> None:
        self._examples: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._counts: Counter[str] = Counter()  # by their keys in the manifest

    @property
    def rows(self) -> int:
        """Number of counted rows."""
        return self._counts["rows"]

    @property
    def passed(self) -> int:
        """Number of rows that passed."""
        return self.rows - sum(self._counts[f"rejected.{reason}"] for reason in REASONS)

    def add(self, row: Row, judgement: Judgement) -> None:
        """Count a row and its judgement."""
        self._counts["rows"] += 1
        self._counts["long_texts"] += judgement.long_texts
        if judgement.reason is not None:
            self._counts[f"rejected.{judgement.reason}"] += 1
            self._offer(judgement.reason, row, f"{quoted(judgement.detail)}  \n  ")
            return
        for name in dict.fromkeys(judgement.cuts):
            self._counts[f"cut.{name}"] += 1
            left = "  \n  reverse: ".join(map(quoted, judgement.texts))
            self._offer(f"cut {name}", row, "", f"  \n  left: {left}")

    def _offer(self, kind: str, row: Row, before: str, after: str = "") -> None:
        """Keep an example if its hash is among the smallest, which gives a uniform sample."""
        kept, key = self._examples[kind], hash64(f"{kind}/{row['pair_id']}")
        if len(kept) == EXAMPLES and key >= kept[-1][0]:
            return
        both = f"text: {quoted(row['text'])}  \n  reverse: {quoted(row['reverse_text'])}"
        self._examples[kind] = sorted([*kept, (key, f"`{row['pair_id']}`: {before}{both}{after}")])[:EXAMPLES]

    def counts(self) -> dict[str, int]:
        """Return the counts for the manifest."""
        rejected = [f"rejected.{reason}" for reason in REASONS]
        found = {key: self._counts[key] for key in [*rejected, *self._cuts()] if self._counts[key]}
        return {"rows": self.rows, "passed": self.passed, **found, "long_texts": self._counts["long_texts"]}

    def _cuts(self) -> list[str]:
        return sorted(key for key in self._counts if key.startswith("cut."))

    def markdown(self) -> str:
        """Return the report as Markdown."""
        rejected = {reason: self._counts[f"rejected.{reason}"] for reason in REASONS}
        cuts = {key.removeprefix("cut."): self._counts[key] for key in self._cuts()}
        lines = [
            "# Screened difference texts",
            "",
            f"{self.passed} of {self.rows} rows passed{self._share(self.passed)}. "
            f"{self._counts['long_texts']} texts were longer than allowed.",
            "",
            "| rejected because | rows | share | meaning |",
            "|---|---|---|---|",
            *(
                f"| {reason} | {rejected[reason]} |{self._share(rejected[reason])} | {REASONS[reason]} |"
                for reason in REASONS
            ),
            "",
            "| cut from rows that passed | rows |",
            "|---|---|",
            *(f"| {name} | {count} |" for name, count in cuts.items()),
        ]
        for kind in [*REASONS, *(f"cut {name}" for name in cuts)]:
            if self._examples[kind]:
                lines += ["", f"## {kind}", "", *(f"- {example}" for _, example in self._examples[kind])]
        return "\n".join(lines) + "\n"

    def _share(self, count: int) -> str:
        return f" {count / self.rows:.2%}" if self.rows else ""


def quoted(text: str) -> str:
    """Escape a text for one line of Markdown."""
    return f"`` {dumps(text[:400])} ``"


def dumps(value: str | Row) -> str:
    """Return JSON. Unpaired surrogates are escaped, since UTF-8 cannot encode them."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()
