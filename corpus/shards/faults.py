"""What a check of a set finds, as it is told."""

from dataclasses import dataclass

LONGEST = 400


@dataclass(frozen=True)
class Fault:
    """Something that is not as it has to be.

    Attributes:
        file: of the set.
        key: of the sample, "" where no single one is meant.
        member: of the sample, likewise.
    """

    file: str
    what: str
    key: str = ""
    member: str = ""

    def __str__(self) -> str:
        sample = f", sample {self.key}" if self.key else ""
        member = f", {self.member}" if self.member else ""
        return plain(f"{self.file}{sample}{member}: {self.what}")

    def to_json(self) -> dict[str, str]:
        return {name: plain(value) for name, value in vars(self).items()}


def plain(text: str) -> str:
    """Names and texts come from elsewhere: they command no terminal and fill no page."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
