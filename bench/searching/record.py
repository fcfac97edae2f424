"""What the searches found, on disk: trials.csv, trials.json and search.json on record, best.toml to run."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from architectures import get_architecture
from bench.errors import UserError
from bench.protocol.spec import RunSpec
from bench.searching.search import Search
from bench.searching.study import cause, counted, seconds_spent, status
from bench.store import ResultsFolder
from bench.store.files import write_text
from bench.suites.plan import contrasts
from bench.suites.space import Budget
from bench.suites.suite import Entry, Suite

__all__ = ["SearchResult", "export", "write_record"]

# the first seed of retraining: no search has seen it
_FRESH = 100


@dataclass(frozen=True)
class SearchResult:
    """What a search came to."""

    search: Search
    budget: Budget
    # those that the budget was spent on, as they ended
    trials: list[FrozenTrial]
    importance: dict[str, float]

    @classmethod
    def of(cls, search: Search, study: Study, budget: Budget) -> "SearchResult":
        return cls(search, budget, counted(study.get_trials()), _importance(study))

    @property
    def default(self) -> FrozenTrial | None:
        return next((trial for trial in self._complete if trial.params == self.search.default), None)

    @property
    def best(self) -> FrozenTrial | None:
        """The best complete trial, of equal ones the first."""
        key = self.search.task.primary.key
        return min(self._complete, key=lambda trial: key(trial.value or 0.0), default=None)

    @property
    def _complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best_name(self) -> str:
        """The name of the best recipe's entry: it says what the recipe cost, in whichever table it stands."""
        budget = f"of_{self.budget.trials}" if self.budget.trials else f"in_{self.budget.hours:g}h"
        return f"{self.search.spec.name}_best_{budget}"

    def name_of(self, trial: FrozenTrial) -> str:
        """Return the name of a recipe's entry: the default one's where it is the best."""
        return self.search.spec.name if trial.params == self.search.default else self.best_name


def write_record(results: ResultsFolder, suite: Suite, found: Sequence[SearchResult]) -> None:
    """Write search.json, trials.csv (a line a trial) and trials.json (all of it, with its learning curve)."""
    # reports and tracking need no more than these, so neither Optuna nor the database
    first = found[0]
    record = {
        "title": suite.title,
        "task": suite.task,
        "budget": str(first.budget),
        "objective": f"val {first.search.task.primary.label}",
        "seed": first.search.seed,
        "space": {k: d.model_dump(mode="json", exclude_defaults=True) for k, d in first.search.space.items()},
        "entries": [_entry_record(result) for result in found],
    }
    lines = pd.DataFrame([line for result in found for line in _trial_lines(result)])
    trials = [_trial_record(result, trial) for result in found for trial in result.trials]
    results.write_search(record, lines, trials)


def _score(trial: FrozenTrial) -> float | None:
    return trial.value if trial.state == TrialState.COMPLETE else None


def _trial_lines(result: SearchResult) -> Iterator[dict[str, Any]]:
    seconds, primary = 0.0, result.search.task.primary
    for place, trial in enumerate(result.trials):
        seconds += trial.user_attrs.get("seconds", 0.0)
        curve = list(trial.intermediate_values.values())
        yield {
            "entry": result.search.spec.name,
            "study": result.search.study,
            "trial": place,
            # in the database, where repetitions have numbers of their own
            "number": trial.number,
            "state": status(trial),
            "val_score": _score(trial),
            # of pruned trials too, by their evaluations
            "best_seen": min(curve, key=primary.key, default=None),
            "default": trial.params == result.search.default,
            "seconds": trial.user_attrs.get("seconds"),
            # by the end of this trial, over all workers
            "spent_seconds": round(seconds, 3),
            "evaluations": len(curve),
            "cause": cause(trial) or ("budget spent" if "out_of_budget" in trial.user_attrs else None),
            "worker": trial.user_attrs.get("worker"),
            **trial.params,
        }


def _trial_record(result: SearchResult, trial: FrozenTrial) -> dict[str, Any]:
    spec = result.search.variant(trial.params)
    steps = sorted(spec.recipe.evaluation_steps())
    curve = sorted(trial.intermediate_values.items())
    return {
        "study": result.search.study,
        "number": trial.number,
        "state": status(trial),
        "spec": spec.model_dump(mode="json"),
        "family": get_architecture(spec.architecture).family,
        "val_score": _score(trial),
        "history": [{"step": steps[place - 1], "val_score": value} for place, value in curve],
        "error": cause(trial) or None,
        "cost": {"seconds": trial.user_attrs.get("seconds", 0.0)},
        "provenance": trial.user_attrs.get("provenance", {}),
    }


def _entry_record(result: SearchResult) -> dict[str, Any]:
    states = [status(trial) for trial in result.trials]
    return {
        "entry": result.search.spec.name,
        "study": result.search.study,
        "finished": len(states),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "seconds": round(seconds_spent(result.trials), 3),
        "default": _recipe_record(result, result.default),
        "best": _recipe_record(result, result.best),
        "importance": result.importance,
    }


def _recipe_record(result: SearchResult, trial: FrozenTrial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    spec = result.search.variant(trial.params)
    return {
        "name": result.name_of(trial),
        "val_score": trial.value,
        "params": trial.params,
        "recipe": spec.recipe.model_dump(mode="json"),
        "config": spec.config,
    }


def _importance(study: Study) -> dict[str, float]:
    """Return each parameter's share in what separates the best tenth of the trials (PED-ANOVA, arXiv:2304.10255)."""
    with warnings.catch_warnings():
        # its warnings say that there are too few trials for an answer, which then is empty
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            shares = optuna.importance.get_param_importances(study)
        except (ValueError, RuntimeError, UserWarning):
            return {}
    return {name: round(share, 6) for name, share in shares.items()}


def export(path: Path, suite: Suite, found: Sequence[SearchResult], seeds: int) -> None:
    """Write a suite of every entry's default recipe and, where that is another one, its best; UserError without any.

    The suite's contrasts become those of the best recipes.
    """
    if not any(result.best for result in found):
        raise UserError("no trial of any search was complete, so there is no best recipe; see the causes in trials.csv")
    entries: list[Entry] = []
    for result in found:
        search, best, rate = result.search, result.best, result.search.pack.sample_rate
        entries.append(_entry(search.spec, search.spec.name, rate, "the default recipe"))
        if best and best.params != search.default:
            text = f"the best on val of {len(result.trials)} trials (budget {result.budget}), trial {best.number}"
            entries.append(_entry(search.variant(best.params), result.best_name, rate, f"{text} of {search.study}"))
    lines = [
        "# The best recipe of each search beside the default one, retrained on seeds that no search has seen.",
        "#",
        f"#     bench run {path.name} --data PACK",
        "",
        f"title = {_toml(suite.title)}",
        f"task = {_toml(suite.task)}",
        f"seeds = {seeds}",
        f"first_seed = {suite.first_seed or _FRESH}",
    ]
    for entry in entries:
        settings = entry.model_dump(exclude_defaults=True)
        lines += ["", "[[runs]]", *(f"{key} = {_toml(value)}" for key, value in settings.items())]
    lines += _contrast_lines(suite, found)
    write_text(path, "\n".join(lines) + "\n")


def _contrast_lines(suite: Suite, found: Sequence[SearchResult]) -> Iterator[str]:
    """Yield the suite's contrasts over the best recipes; of one with an entry that has none only that this is so."""
    best = {result.search.spec.name: result.name_of(result.best) for result in found if result.best}
    for planned in contrasts(suite):
        yield ""
        if lacks := [entry for entry in planned.entries if entry not in best]:
            yield f"# no contrast {planned.name!r}: no best recipe of {', '.join(lacks)} was found by this command"
            continue
        record = planned.renamed(best).record()
        settings = {"entries" if key == "weights" else key: value for key, value in record.items() if value}
        yield from ("[[contrasts]]", *(f"{key} = {_toml(value)}" for key, value in settings.items()))


def _entry(spec: RunSpec, name: str, sample_rate: int, question: str) -> Entry:
    usual = asdict(get_architecture(spec.architecture).config)
    return Entry(
        name=name,
        architecture=spec.architecture,
        question=question,
        sample_rate=sample_rate,
        # those two follow from the pack
        config={k: v for k, v in spec.config.items() if k not in ("sample_rate", "num_classes") and v != usual[k]},
        # TOML has no word for None
        train=spec.recipe.model_dump(mode="json", exclude_none=True),
        second_hand=_of_recipe(spec.second_hand),
        inferred=_of_recipe(spec.inferred),
    )


def _of_recipe(marks: Mapping[str, str]) -> dict[str, str]:
    return {field: reason for field, reason in marks.items() if field.startswith("train.")}


def _toml(value: Any) -> str:
    """Return a value in TOML, which the standard library only reads; beside tables, JSON is written alike."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
