"""The ablations' table: each row beside its base, and what was changed from one to the other."""

from typing import Any

from bench.reporting.analysis import Ablation
from bench.reporting.tables.scores import Column, Table, interval, number, p_value, words


def ablation_table(ablations: tuple[Ablation, ...]) -> Table:
    """A line an ablation, in the suite's order."""
    return Table("ablations", "Ablations", _COLUMNS, tuple(_record(ablation) for ablation in ablations))


def _record(ablation: Ablation) -> dict[str, Any]:
    row, base, found = ablation.row, ablation.base, ablation.difference
    return {
        "question": row.first["spec"].get("question", ""),
        "row": row.label,
        "base": base.label,
        "changed": ", ".join(f"{name} {old} -> {new}" for name, (old, new) in ablation.changed.items()),
        "seeds": len(row.runs),
        "base_map": base.mean("metrics", "map"),
        "map": row.mean("metrics", "map"),
        "map_sd": row.spread("metrics", "map"),
        "difference": float(found.value),
        "low": float(found.low),
        "high": float(found.high),
        "p": float(found.p),
        "p_adjusted": ablation.adjusted_p,
        "verdict": ablation.verdict,
        "about": "architectures" if found.about_architectures else "these checkpoints only",
        "parameters_ratio": row.mean("cost", "parameters") / base.mean("cost", "parameters"),
    }


_COLUMNS = (
    Column("row", "row", words("row"), numeric=False),
    Column("question", "question", words("question"), numeric=False),
    Column("base", "base", words("base"), numeric=False),
    Column("changed", "changed", words("changed"), numeric=False),
    Column("mAP", "map", number("map", "{:.3f}")),
    Column("row - base", "difference", number("difference", "{:+.3f}")),
    Column("95% interval", "low", interval("low", "high", "{:+.3f}")),
    Column("p (Holm)", "p_adjusted", p_value("p_adjusted")),
    Column("verdict", "verdict", words("verdict"), numeric=False),
    Column("about", "about", words("about"), numeric=False),
    Column("seeds", "seeds", number("seeds", "{:.0f}")),
    Column("parameters", "parameters_ratio", number("parameters_ratio", "x {:.2f}")),
)
