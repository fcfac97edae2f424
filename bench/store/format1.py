"""Files of format 1, which name no format, as this version would have written them: kept runs are read for good."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.renamed import current_recipe
from bench.store.record import FORMAT

__all__ = ["is_format1", "upgrade_run", "upgrade_search", "upgrade_spec", "upgrade_table", "upgrade_trial"]

_COLUMNS = {"update": "step", "val_map": "val_score", "row": "entry"}
_SOURCES = {"referee": "protocol", "contestant": "architecture"}


def is_format1(values: Mapping[str, Any]) -> bool:
    """Return whether a JSON object was written before formats had numbers."""
    return "format" not in values


def upgrade_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a run.json."""
    made = values["provenance"]
    source = {_SOURCES.get(name, name): digest for name, digest in made["source"].items()}
    return {
        **values,
        "format": FORMAT,
        "spec": upgrade_spec(values["spec"]),
        "floors": {"chance": values["chance_map"]},
        "class_scores": values.get("class_ap", {}),
        "val_score": values["val_map"],
        "best_step": values["best_update"],
        "steps": values["updates"],
        "provenance": {**made, "source": source},
    }


def upgrade_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's spec; what it was hashed to then is not what it is hashed to now."""
    return {**spec, "task": "tagging", "recipe": current_recipe(spec["recipe"])}


def upgrade_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a history.csv, or a trials.csv; others are left as they are."""
    return table.rename(columns=_COLUMNS)


def upgrade_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return one trial of a trials.json."""
    history = [{_COLUMNS.get(key, key): value for key, value in point.items()} for point in trial["history"]]
    return {**trial, "spec": upgrade_spec(trial["spec"]), "history": history, "val_score": trial["val_map"]}


def upgrade_search(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a search.json."""

    def result(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if found is None:
            return None
        return {**found, "val_score": found["val_map"], "recipe": current_recipe(found["recipe"])}

    entries = [
        {**old, "entry": old["row"], "default": result(old["default"]), "best": result(old["best"])}
        for old in values["rows"]
    ]
    return {**values, "format": FORMAT, "task": "tagging", "entries": entries}
