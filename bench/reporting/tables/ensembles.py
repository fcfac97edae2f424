"""The tables of ensembles: a line a system, and a line a pair of them."""

from typing import Any

from bench.reporting.ensembles import Ensembles, Member, Mixture
from bench.reporting.tables.table import Column, Record, Table, number, words

__all__ = ["ensemble_pair_table", "ensemble_table"]


def ensemble_table(found: Ensembles) -> Table:
    """Return a line a system: one checkpoint, all its seeds, two of its own, and two with its best partner."""
    metric = found.metric.label
    columns = (
        words("entry"),
        number(f"{metric}, one checkpoint", "score"),
        number("seeds", "seeds", "{:.0f}"),
        number("mean of all seeds", "all_seeds"),
        number("gain", "gain", "{:+.3f}"),
        number("two of its own", "own"),
        words("best partner", "partner"),
        number("two with it", "with_partner"),
        Column("gain over the better", "partner_gain", _partner_gain),
    )
    records = tuple(_member_record(found, member) for member in found.members)
    return Table("ensembles", "Ensembles (these checkpoints only)", columns, records)


def ensemble_pair_table(found: Ensembles) -> Table:
    """Return a line a pair of systems, and a system with itself: two checkpoints' mean scores, the best first."""
    columns = (
        words("first"),
        words("second"),
        number(f"{found.metric.label}, two checkpoints", "score"),
        number("compared with", "baseline"),
        number("of checkpoints", "baseline_checkpoints", "{:.0f}"),
        number("gain", "gain", "{:+.3f}"),
        words("seeds", "combinations"),
    )
    owns = [member.own for member in found.members if member.own]
    ranked = sorted([*owns, *found.pairs], key=lambda mixture: found.metric.key(mixture.score))
    records = tuple(_pair_record(mixture) for mixture in ranked)
    return Table("ensemble_pairs", "Two checkpoints (of these only), pair by pair", columns, records)


def _member_record(found: Ensembles, member: Member) -> dict[str, Any]:
    partner, mixture = found.best_partner(member) or (None, None)
    return {
        "entry": member.system.label,
        "score": member.system.score,
        "seeds": len(member.system.runs),
        "all_seeds": member.all_seeds,
        "gain": member.gain,
        "own": member.own.score if member.own else None,
        "partner": partner.label if partner else None,
        "with_partner": mixture.score if mixture else None,
        "partner_gain": mixture.gain if mixture else None,
        "baseline_checkpoints": mixture.baseline_checkpoints if mixture else None,
    }


def _partner_gain(record: Record) -> str:
    if record["partner_gain"] is None:
        return ""
    return f"{record['partner_gain']:+.3f}" + (" (over one)" if record["baseline_checkpoints"] == 1 else "")


def _pair_record(mixture: Mixture) -> dict[str, Any]:
    return {
        "first": mixture.first.label,
        "second": mixture.second.label,
        "score": mixture.score,
        "baseline": mixture.baseline,
        "baseline_checkpoints": mixture.baseline_checkpoints,
        "gain": mixture.gain,
        "combinations": ", ".join(f"{a}+{b}" for a, b in mixture.combinations),
    }
