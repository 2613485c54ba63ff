"""The report of `screen`: how many rows each reason took, with examples, so that people see what was thrown away."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from data_prep.files import Row
from data_prep.parts import hash64
from data_prep.rules.judge import REASONS, Judgement


class ScreeningReport:
    """Counts judgements and keeps examples of each reason and each cut, the same ones however the rows are shared out.

    Args:
        samples: Examples of each.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._examples: dict[str, list[tuple[int, str]]] = defaultdict(list)
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
        if judgement.reason is not None:
            self.drop(row, judgement)
            return
        for name in dict.fromkeys(judgement.cuts):
            self._cuts[name] += 1
            left = "  \n  reverse: ".join(quoted(text.raw) for text in judgement.texts)
            self._offer(f"cut {name}", row, "", f"  \n  left: {left}")

    def drop(self, row: Row, judgement: Judgement) -> None:
        """Count a row that was added already as rejected."""
        assert judgement.reason is not None
        self._reasons[judgement.reason] += 1
        self._offer(judgement.reason, row, f"{quoted(judgement.detail)}  \n  ")

    def merge(self, other: ScreeningReport) -> None:
        """Count all that another has counted."""
        self.rows += other.rows
        self._long_texts += other._long_texts
        self._reasons.update(other._reasons)
        self._cuts.update(other._cuts)
        for kind, examples in other._examples.items():
            self._examples[kind] = sorted(self._examples[kind] + examples)[: self._samples]

    def _offer(self, kind: str, row: Row, before: str, after: str = "") -> None:
        """Keep an example if its hash is among the smallest: each row has the same chance."""
        kept, key = self._examples[kind], hash64(f"{kind}/{row['pair_id']}")
        if len(kept) == self._samples and (not kept or key >= kept[-1][0]):
            return
        both = f"text: {quoted(row['text'])}  \n  reverse: {quoted(row['reverse_text'])}"
        self._examples[kind] = sorted([*kept, (key, f"`{row['pair_id']}`: {before}{both}{after}")])[: self._samples]

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
                lines += ["", f"## {kind}", "", *(f"- {example}" for _, example in self._examples[kind])]
        return "\n".join(lines) + "\n"

    def _share(self, count: int) -> str:
        return f" {count / self.rows:.2%}" if self.rows else ""


def quoted(text: str) -> str:
    """A text on one line that a Markdown reader shows as it is."""
    quoted = json.dumps(text[:400], ensure_ascii=not _is_encodable(text))
    return f"`` {quoted} ``"


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_encode = json.JSONEncoder(ensure_ascii=False).encode


def line_of(row: Row) -> str:
    """A row as one line of JSON; half characters, which UTF-8 cannot hold, are written as escapes."""
    line = _encode(row)
    return (line if _is_encodable(line) else json.dumps(row)) + "\n"
