"""What the searches found, on disk: trials.csv, trials.json and search.json on record, best.toml to run."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from filelock import FileLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from architectures import get_architecture
from bench.disk import write_json
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.searching.search import Search
from bench.searching.study import cause, fate, finished
from bench.suites.space import Budget
from bench.suites.suite import Entry, Suite

FRESH = 100  # the first seed of retraining: no search has seen it


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    search: Search
    budget: Budget
    trials: list[FrozenTrial]  # those that the budget was spent on, as they ended
    importance: dict[str, float]

    @classmethod
    def after(cls, search: Search, study: Study, budget: Budget) -> "Found":
        return cls(search, budget, finished(study.get_trials()), importance(study))

    @property
    def default(self) -> FrozenTrial | None:
        """The complete trial of the default recipe."""
        return next((t for t in self._complete if t.params == self.search.default), None)

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial, of equal ones the first."""
        return max(self._complete, key=lambda trial: trial.value or 0.0, default=None)

    @property
    def _complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best_name(self) -> str:
        """Of the best recipe's row: it says what the recipe cost, in whichever table it stands."""
        budget = f"of_{self.budget.trials}" if self.budget.trials else f"in_{self.budget.hours:g}h"
        return f"{self.search.spec.name}_best_{budget}"


def write_record(out: Path, suite: Suite, founds: Sequence[Found]) -> None:
    """search.json, trials.csv (a line a trial) and trials.json (all of it, with its learning curve).

    Reports and tracking need no more, so neither Optuna nor the database.
    """
    record = {
        "title": suite.title,
        "budget": str(founds[0].budget),
        "objective": "val mAP",
        "seed": founds[0].search.seed,
        "space": {k: d.model_dump(mode="json", exclude_defaults=True) for k, d in founds[0].search.space.items()},
        "rows": [_row(found) for found in founds],
    }
    lines = [line for found in founds for line in _trial_lines(found)]
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "search.lock"):  # two workers may share a folder
        temporary = out / "trials.csv.partial"
        pd.DataFrame(lines).to_csv(temporary, index=False, lineterminator="\n")
        temporary.replace(out / "trials.csv")
        trials = [_trial_record(found, trial) for found in founds for trial in found.trials]
        write_json(out / "trials.json", {"trials": trials})
        write_json(out / "search.json", record)


def _trial_lines(found: Found) -> list[dict[str, Any]]:
    lines, seconds = [], 0.0
    for place, trial in enumerate(found.trials):
        seconds += trial.user_attrs.get("seconds", 0.0)
        curve = list(trial.intermediate_values.values())
        lines.append(
            {
                "row": found.search.spec.name,
                "study": found.search.study,
                "trial": place,
                "number": trial.number,  # in the database, where repetitions have numbers of their own
                "state": fate(trial),
                "val_map": trial.value if trial.state == TrialState.COMPLETE else None,
                "best_seen": max(curve, default=None),  # of pruned trials too, by their evaluations
                "default": trial.params == found.search.default,
                "seconds": trial.user_attrs.get("seconds"),
                "spent_seconds": round(seconds, 3),  # by the end of this trial, over all workers
                "evaluations": len(curve),
                "cause": cause(trial) or ("budget spent" if "out_of_budget" in trial.user_attrs else None),
                "worker": trial.user_attrs.get("worker"),
                **trial.params,
            }
        )
    return lines


def _trial_record(found: Found, trial: FrozenTrial) -> dict[str, Any]:
    """A trial as run.json tells of a run: what was trained, by what code, and what came of it."""
    spec = found.search.variant(trial.params)
    updates = sorted(spec.recipe.evaluation_updates())
    return {
        "study": found.search.study,
        "number": trial.number,
        "state": fate(trial),
        "spec": spec.model_dump(),
        "family": get_architecture(spec.architecture).family,
        "val_map": trial.value if trial.state == TrialState.COMPLETE else None,
        "history": [
            {"update": updates[place - 1], "val_map": value}
            for place, value in sorted(trial.intermediate_values.items())
        ],
        "error": cause(trial) or None,
        "cost": {"seconds": trial.user_attrs.get("seconds", 0.0)},
        "provenance": trial.user_attrs.get("provenance", {}),
    }


def _row(found: Found) -> dict[str, Any]:
    fates = [fate(trial) for trial in found.trials]
    return {
        "row": found.search.spec.name,
        "study": found.search.study,
        "finished": len(fates),
        "pruned": fates.count("pruned"),
        "failed": fates.count("failed"),
        "seconds": round(sum(trial.user_attrs.get("seconds", 0.0) for trial in found.trials), 3),
        "default": _result(found, found.default, found.search.spec.name),
        "best": _result(found, found.best, found.best_name),
        "importance": found.importance,
    }


def _result(found: Found, trial: FrozenTrial | None, name: str) -> dict[str, Any] | None:
    if trial is None:
        return None
    spec = found.search.variant(trial.params)
    is_default = trial.params == found.search.default
    return {
        "name": found.search.spec.name if is_default else name,
        "val_map": trial.value,
        "params": trial.params,
        "recipe": spec.recipe.model_dump(mode="json"),
        "config": json.loads(json.dumps(spec.config)),
    }


def importance(study: Study) -> dict[str, float]:
    """Share of each parameter in what separates the best tenth of the complete trials from all (PED-ANOVA,
    arXiv:2304.10255); empty where there are too few."""
    with warnings.catch_warnings():
        # its warnings say that there are too few trials for an answer
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            shares = optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError, UserWarning):
            return {}
    return {name: round(share, 6) for name, share in shares.items()}


def export(path: Path, suite: Suite, founds: Sequence[Found], packs: Mapping[str, int], seeds: int) -> None:
    """A suite of every row's default recipe and, where another one was better, its best; on seeds the search had not.

    `packs` tells the sample rate of each pack by its fingerprint.

    Raises:
        UserError: no trial of any search was complete.
    """
    entries: list[Entry] = []
    for found in founds:
        best, default = found.best, found.search.spec
        entries.append(_entry(default, default.name, packs, "the default recipe"))
        if best is not None and best.params != found.search.default:
            text = f"the best on val of {len(found.trials)} trials (budget {found.budget}), trial {best.number}"
            entries.append(
                _entry(found.search.variant(best.params), found.best_name, packs, f"{text} of {found.search.study}")
            )
    if not any(found.best for found in founds):
        raise UserError("no trial of any search was complete, so there is no best recipe; see the causes in trials.csv")
    lines = [
        "# The best recipe of each search beside the default one, retrained on seeds that no search has seen.",
        "#",
        f"#     bench run {path.name} --data PACK",
        "",
        f"title = {_toml(suite.title)}",
        f"seeds = {seeds}",
        f"first_seed = {suite.first_seed or FRESH}",
    ]
    for entry in entries:
        lines += ["", "[[runs]]"]
        lines += [f"{key} = {_toml(value)}" for key, value in entry.model_dump(exclude_defaults=True).items()]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def _entry(spec: RunSpec, name: str, packs: Mapping[str, int], question: str) -> Entry:
    usual = asdict(get_architecture(spec.architecture).config)
    follows = ("sample_rate", "num_classes")  # from the pack
    return Entry(
        name=name,
        architecture=spec.architecture,
        question=question,
        sample_rate=packs[spec.pack],
        config={k: v for k, v in spec.config.items() if k not in follows and v != usual[k]},
        train=spec.recipe.model_dump(mode="json", exclude_none=True),  # TOML has no word for it
        inferred={k: why for k, why in spec.inferred.items() if k.startswith("train.")},
    )


def _toml(value: Any) -> str:
    """The standard library reads TOML only; beside tables, JSON is written alike."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
