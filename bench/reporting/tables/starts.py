"""The table of starts: what systems heard before their training, and at whose cost."""

from statistics import fmean
from typing import Any

from bench.reporting.analysis import Analysis, Standing
from bench.reporting.systems import System
from bench.reporting.tables.table import Table, number, words

__all__ = ["start_table"]

# what a start may have heard, as records call it
_SOURCES = {"pack": "train split", "generated": "generated sounds"}


def start_table(analysis: Analysis) -> Table | None:
    """Return a line a system, best first, with what its weights are from; None where all are drawn."""
    if not any(standing.system.first.init for standing in analysis.standings):
        return None
    columns = (
        words("entry"),
        number(analysis.primary.label, analysis.primary.name),
        words("starts from", "start"),
        words("by task", "start_task"),
        words("heard", "start_source"),
        number("examples heard", "start_examples", "{:,.0f}"),
        number("steps before", "start_steps", "{:,.0f}"),
        number("s before", "start_seconds", "{:.0f}"),
        number("steps", "steps", "{:,.0f}"),
        number("train s", "train_seconds", "{:.0f}"),
        number("eval clips heard", "start_copied_clips", "{:,.0f}"),
        words("trained"),
        number("labels used", "label_share", "{:.0%}"),
    )
    records = tuple(_record(standing) for standing in analysis.standings)
    return Table("starts", "Starts, and what they cost", columns, records)


def _record(standing: Standing) -> dict[str, Any]:
    system, recipe = standing.system, standing.system.spec.recipe
    return {
        "entry": system.label,
        system.task.primary.name: system.score,
        **_start(system),
        "steps": fmean(run.record.steps for run in system.runs),
        "train_seconds": min(system.values("cost", "train_seconds")),
        "trained": "last layer" if recipe.freeze else "all",
        "label_share": recipe.label_share,
    }


def _start(system: System) -> dict[str, Any]:
    first = system.first
    init = first.init
    if not init:
        nothing = dict.fromkeys(("task", "source", "examples", "steps", "seconds", "copied_clips"))
        return {"start": "drawn weights", **{f"start_{name}": value for name, value in nothing.items()}}
    # of the pack's train split, as many as it shares with eval; a sound that is played anew is in no file
    copied = 0 if init["source"] == "generated" else first.data.get("copied_eval_clips")
    return {
        "start": init["entry"],
        "start_task": init["task"],
        # of a plugin's task, whatever it says
        "start_source": ", ".join(_SOURCES.get(source, source) for source in init["source"].split(" + ")),
        "start_examples": init["examples"],
        "start_steps": init["steps"],
        "start_seconds": min(run.record.init["train_seconds"] for run in system.runs),
        "start_copied_clips": copied,
    }
