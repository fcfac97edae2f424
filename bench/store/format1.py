"""Files of format 1, which name no format, as this version would have written them: kept runs are read for good."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.renamed import current_recipe
from bench.store.record import FORMAT

__all__ = [
    "is_format1", "name_of_format1", "upgrade_run", "upgrade_search", "upgrade_spec", "upgrade_table", "upgrade_trial",
]  # fmt: skip

_COLUMNS = {"update": "step", "val_map": "val_score", "row": "entry"}
_RUN = {"class_ap": "class_scores", "val_map": "val_score", "best_update": "best_step", "updates": "steps"}
_SOURCES = {"referee": "protocol", "contestant": "architecture"}


def is_format1(values: Mapping[str, Any]) -> bool:
    """Return whether a JSON object was written before formats had numbers."""
    return "format" not in values


def upgrade_run(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a run.json, as far as they are there: what is missing is told by who validates it."""
    new = {_RUN.get(name, name): value for name, value in values.items()} | {"format": FORMAT}
    if "chance_map" in values:
        new["floors"] = {"chance": values["chance_map"]}
    if isinstance(spec := values.get("spec"), Mapping):
        new["spec"] = upgrade_spec(spec)
    made = values.get("provenance")
    if isinstance(made, Mapping) and isinstance(source := made.get("source"), Mapping):
        new["provenance"] = {**made, "source": {_SOURCES.get(name, name): digest for name, digest in source.items()}}
    return {"published": None, "class_scores": {}, **new}


def name_of_format1(name: str) -> str:
    """Return what a key of a run.json was called then."""
    return next((old for old, new in _RUN.items() if new == name), "chance_map" if name == "floors" else name)


def upgrade_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's spec; what it was hashed to then is not what it is hashed to now."""
    recipe = spec.get("recipe")
    return {**spec, "task": "tagging"} | ({"recipe": current_recipe(recipe)} if isinstance(recipe, Mapping) else {})


def upgrade_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a history.csv, or a trials.csv; others are left as they are."""
    return table.rename(columns=_COLUMNS)


def upgrade_trial(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return one trial of a trials.json."""
    history = [{_COLUMNS.get(key, key): value for key, value in point.items()} for point in trial["history"]]
    return {**trial, "spec": upgrade_spec(trial["spec"]), "history": history, "val_score": trial["val_map"]}


def upgrade_search(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a search.json, as far as they are there."""

    def result(found: Any) -> Any:
        if not isinstance(found, Mapping):
            return found
        new = {_RUN.get(name, name): value for name, value in found.items()}
        recipe = found.get("recipe")
        return new | ({"recipe": current_recipe(recipe)} if isinstance(recipe, Mapping) else {})

    def entry(old: Any) -> Any:
        if not isinstance(old, Mapping):
            return old
        new = {_COLUMNS.get(name, name): value for name, value in old.items()}
        return {name: result(value) if name in ("default", "best") else value for name, value in new.items()}

    rows = values.get("rows")
    entries = {"entries": [entry(old) for old in rows]} if isinstance(rows, list) else {}
    return {**values, "format": FORMAT, "task": "tagging", **entries}
