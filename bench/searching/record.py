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
from bench.searching.finals import Finalist, best_trials
from bench.searching.search import Search, no_effect, pruner_settings
from bench.searching.study import cause, counted, sampler_settings, seconds_spent, status, steps_spent
from bench.store import ResultsFolder
from bench.store.files import write_text
from bench.store.search_record import FOR_IMPORTANCE
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
    # the best of them trained anew, which chooses among them; none where there was no choice
    finalists: list[Finalist]
    # dimensions of the space that change nothing in the architecture
    no_effect: list[str]

    @classmethod
    def of(cls, search: Search, study: Study, budget: Budget, finalists: list[Finalist]) -> "SearchResult":
        idle = no_effect(study)
        acting = [name for name in search.space if name not in idle]
        return cls(search, budget, counted(study.get_trials()), _importance(study, acting), finalists, idle)

    @property
    def default(self) -> FrozenTrial | None:
        return next((trial for trial in self._complete if trial.params == self.search.default), None)

    @property
    def best(self) -> FrozenTrial | None:
        """The trial that is chosen: of the finalists the best, without any the best complete trial."""
        if winner := self.winner:
            return winner.trial
        return next(iter(best_trials(self.search, self.trials, 1)), None)

    @property
    def winner(self) -> Finalist | None:
        """The best finalist by its mean; None if there are none, or trainings of all of them failed."""
        key = self.search.task.primary.key
        known = {mean: finalist for finalist in reversed(self.finalists) if (mean := finalist.mean) is not None}
        return known[min(known, key=key)] if known else None

    @property
    def chosen_by(self) -> str:
        """How the best recipe was chosen, in words."""
        if not self.winner:
            return "the best on val"
        seeds = len(self.winner.retrained)
        return f"the best of {len(self.finalists)} finalists, mean of {seeds} seed{'s' * (seeds > 1)} on val"

    @property
    def _complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def best_name(self) -> str:
        """The name of the best recipe's entry: it says what the recipe cost, in whichever table it stands."""
        return f"{self.search.spec.name}_best_{self.budget.name}"

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
        "sampler": sampler_settings(),
        "space": {k: d.model_dump(mode="json", exclude_defaults=True) for k, d in first.search.space.items()},
        "entries": [_entry_record(result) for result in found],
    }
    lines = pd.DataFrame([line for result in found for line in _trial_lines(result)])
    trials = [record for result in found for record in _trial_records(result)]
    results.write_search(record, lines, trials)


def _score(trial: FrozenTrial) -> float | None:
    return trial.value if trial.state == TrialState.COMPLETE else None


def _trial_lines(result: SearchResult) -> Iterator[dict[str, Any]]:
    seconds, steps, primary = 0.0, 0, result.search.task.primary
    for place, trial in enumerate(result.trials):
        seconds += trial.user_attrs.get("seconds", 0.0)
        steps += trial.user_attrs.get("steps", 0)
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
            "steps": trial.user_attrs.get("steps"),
            # by the end of this trial, over all workers
            "spent_seconds": round(seconds, 3),
            "spent_steps": steps,
            "evaluations": len(curve),
            "cause": cause(trial) or ("budget spent" if "out_of_budget" in trial.user_attrs else None),
            "worker": trial.user_attrs.get("worker"),
            **trial.params,
        }


def _trial_records(result: SearchResult) -> Iterator[dict[str, Any]]:
    """Yield the trials that the budget was spent on, then those that chose among the finalists."""
    search = result.search
    for trial in result.trials:
        yield _trial_record(search.study, search.variant(trial.params), trial)
    for finalist in result.finalists:
        spec = search.variant(finalist.trial.params)
        for seed, trial in finalist.retrained.items():
            of_seed = spec.model_copy(update={"seed": seed})
            yield _trial_record(finalist.study, of_seed, trial) | {"retrains": finalist.trial.number}


def _trial_record(study: str, spec: RunSpec, trial: FrozenTrial) -> dict[str, Any]:
    steps = sorted(spec.recipe.evaluation_steps())
    curve = sorted(trial.intermediate_values.items())
    return {
        "study": study,
        "number": trial.number,
        "state": status(trial),
        "spec": spec.model_dump(mode="json"),
        "family": get_architecture(spec.architecture).family,
        "val_score": _score(trial),
        "history": [{"step": steps[place - 1], "val_score": value} for place, value in curve],
        "error": cause(trial) or None,
        "cost": _spent([trial]),
        "provenance": trial.user_attrs.get("provenance", {}),
    }


def _spent(trials: Sequence[FrozenTrial]) -> dict[str, Any]:
    return {"seconds": round(seconds_spent(trials), 3), "steps": steps_spent(trials)}


def _entry_record(result: SearchResult) -> dict[str, Any]:
    states = [status(trial) for trial in result.trials]
    return {
        "entry": result.search.spec.name,
        "study": result.search.study,
        "finished": len(states),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        **_spent(result.trials),
        "pruner": {"name": "MedianPruner", **pruner_settings(result.search)},
        "without_effect": result.no_effect,
        "default": _recipe_record(result, result.default),
        "best": _best_record(result),
        "chosen_by": result.chosen_by,
        # beside the budget
        "finalists": [_finalist_record(finalist) for finalist in result.finalists],
        "importance": result.importance,
    }


def _finalist_record(finalist: Finalist) -> dict[str, Any]:
    return {
        "study": finalist.study,
        "trial": finalist.trial.number,
        "params": finalist.trial.params,
        "val_score": finalist.trial.value,
        "seeds": list(finalist.retrained),
        "val_scores": finalist.scores,
        "mean_val_score": finalist.mean,
        **_spent(list(finalist.retrained.values())),
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


def _best_record(result: SearchResult) -> dict[str, Any] | None:
    record = _recipe_record(result, result.best)
    return record | {"mean_val_score": result.winner.mean} if record and result.winner else record


def _importance(study: Study, names: Sequence[str]) -> dict[str, float]:
    """Return each parameter's share in what separates the best tenth of the trials (PED-ANOVA, arXiv:2304.10255).

    There is none of too few complete trials, and none if no parameter separates them.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FOR_IMPORTANCE or not names:
        return {}
    with warnings.catch_warnings():
        # its warnings say that the best tenth is of equal trials, for which there is no answer
        warnings.simplefilter("error", UserWarning)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(names))
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
            trials = f"{len(result.trials)} trials (budget {result.budget})"
            text = f"{result.chosen_by}, of {trials}: trial {best.number} of {search.study}"
            entries.append(_entry(search.variant(best.params), result.best_name, rate, text))
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
        task_settings=spec.task_settings,
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
