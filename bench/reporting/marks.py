"""What is not the papers' own word: the marks † and ‡, at systems and published figures, and their footnotes."""

from collections.abc import Collection
from dataclasses import dataclass

from bench.reporting.analysis import no_ablations
from bench.reporting.systems import Results, System

__all__ = ["KINDS", "NO_BETTER", "Footnote", "Kind", "footnotes", "symbols"]


@dataclass(frozen=True)
class Kind:
    """A kind of source; `name` is the field of a run's spec, and of its published figures, that lists such settings."""

    name: str
    symbol: str
    # of the footnotes
    heading: str
    # what it marks, in the legend
    legend: str


KINDS = (
    Kind(
        "inferred",
        "†",
        "Inferred, since no source documents it:",
        "what no source documents, so that it is inferred",
    ),
    Kind(
        "second_hand",
        "‡",
        "Second-hand: known from somebody else's account of the paper, and not checked against it:",
        "what is known second-hand, from somebody else's account of a paper",
    ),
)

# at a system that is not shown to beat the best floor
NO_BETTER = "§"


@dataclass(frozen=True)
class Footnote:
    """A setting, with its value where a field has it; what it rests on; and the systems that have it."""

    setting: str
    reason: str
    systems: list[str]


def symbols(kinds: Collection[str]) -> str:
    """Return the marks of what is of these kinds: '', '†', '‡' or '†‡'."""
    return "".join(kind.symbol for kind in KINDS if kind.name in kinds)


def footnotes(results: Results, kind: Kind) -> list[Footnote]:
    """Return what is marked as of a kind, each once; of ablations only what their bases lack."""
    found: dict[tuple[str, str], list[System]] = {}
    for system in results.systems:
        marked: dict[str, str] = getattr(system.spec, kind.name)
        for field, reason in marked.items():
            # a choice that no field sets says in its reason what it is
            setting = f"{field} = {system.settings[field]}" if field in system.settings else field
            found.setdefault((setting, reason), []).append(system)
        for field, reason in (system.published or {}).get(kind.name, {}).items():
            found.setdefault((f"published {field}", reason), []).append(system)
    return [
        Footnote(setting, reason, [system.label for system in no_ablations(systems)])
        for (setting, reason), systems in found.items()
    ]
