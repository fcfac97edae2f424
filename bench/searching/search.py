"""The same search for every architecture: one space, one budget, scored on val; eval is not read."""

import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import optuna
import torch
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import Trial

from architectures import ConfigError, config_values, configure, create, failure, get_architecture
from bench.data.pack import Pack
from bench.errors import UserError, one_line
from bench.protocol.build import build
from bench.protocol.precision import fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.task import Task, task_of
from bench.protocol.train import Status, train
from bench.runner.cost import count_parameters
from bench.runner.display import Display, Relay, in_turn
from bench.runner.executors.base import Executor, at_once, require_code
from bench.runner.memory import require_memory
from bench.runner.provenance import code_of, provenance
from bench.schema import digest, validated
from bench.searching.database import check_trials
from bench.searching.probe import ACT_ON_ALL, without_effect
from bench.searching.study import Sampler, Worker, counted, place, reached
from bench.store.record import Provenance
from bench.suites.plan import Run
from bench.suites.space import Budget, Dimension

__all__ = [
    "Search", "TrialWork", "direction", "idle_dimensions", "no_effect", "open_study", "pruner_settings", "run_search",
    "score_of", "searches", "trials_spent", "work_at_once",
]  # fmt: skip

# what is on record of a study beside its trials
_WITHOUT_EFFECT = "without_effect"
# fields of an architecture's config that say what it hears: with others it would be told wrong
_OF_PACK = ("sample_rate", "num_classes")


@dataclass(frozen=True)
class Search:
    """One entry's search: the default recipe that it starts from, and what may be changed in it."""

    spec: RunSpec
    pack: Pack
    space: Mapping[str, Dimension]
    seed: int

    @property
    def task(self) -> Task:
        return task_of(self.spec)

    @property
    def default(self) -> dict[str, Any]:
        """The space's fields as the default recipe has them."""
        every = self.spec.recipe.model_dump() | self.spec.config
        return {name: every[name] for name in self.space}

    @property
    def study(self) -> str:
        """A name that only searches with comparable trials share."""
        identity = {
            "spec": self.spec.hash,
            "space": {name: dimension.model_dump(mode="json") for name, dimension in self.space.items()},
            "seed": self.seed,
            "code": code_of(self.spec)["source"],
        }
        return f"{self.spec.name}-{digest(identity)[:8]}"

    def variant(self, params: Mapping[str, Any]) -> RunSpec:
        """Return the run with these values; UserError for one that a field cannot have."""
        default, architecture = self.spec.recipe, self.spec.architecture
        fields = {name: value for name, value in params.items() if name in Recipe.model_fields}
        # as many chunks as the default recipe has, or a larger batch would buy more training
        chunks = default.max_steps * default.batch_size
        fields["max_steps"] = max(1, round(chunks / fields.get("batch_size", default.batch_size)))
        recipe = validated(Recipe, default.model_dump() | fields, "[space]")
        config = self.spec.config | {name: value for name, value in params.items() if name not in fields}
        try:
            made = config_values(configure(architecture, **config), get_architecture(architecture).config)
        except ConfigError as error:
            raise UserError(f"[space]: {error}") from None
        # what was searched is no paper's
        kinds = {kind: getattr(self.spec, kind) for kind in ("second_hand", "inferred")}
        marks = {
            kind: {key: reason for key, reason in marked.items() if key.removeprefix("train.") not in params}
            for kind, marked in kinds.items()
        }
        return self.spec.model_copy(update={"recipe": recipe, "config": made, **marks})

    def others(self, name: str) -> list[Any]:
        """Return other values of a dimension than the default: all choices, or the ends of a range, the last first."""
        # which is the farthest from the default, as a rule, and shows a change soonest
        return [value for value in reversed(self.space[name].ends) if value != self.default[name]]


def searches(runs: Sequence[Run], space: Mapping[str, Dimension], seed: int, overrides: Container[str]) -> list[Search]:
    """Return a search for each entry, by one space for all less what the user set (--set); UserError if it's unfit."""
    left = {name: dimension for name, dimension in space.items() if name not in overrides}
    if not left:
        raise UserError("nothing to search: [space] has no field that --set leaves open")
    # of an entry's runs the first one stands for all
    first = {run.spec.name: run for run in reversed(runs)}
    made = [Search(run.spec.model_copy(update={"seed": 0}), run.pack, left, seed) for run in reversed(first.values())]
    for search in made:
        _check(search)
    return made


def _check(search: Search) -> None:
    """Raise UserError if the space has an unknown field, lacks a default value, or holds one that no trial can have."""
    spec = search.spec
    known = spec.recipe.model_dump() | spec.config
    for name, dimension in search.space.items():
        where = f"[space] {name}"
        if name in _OF_PACK:
            raise UserError(f"{where}: follows from the pack; leave it out")
        if name not in known:
            raise UserError(f"{where}: neither a field of [train] nor of {spec.architecture}'s config")
        for value in dimension.samples:
            _check_value(search, name, value)
        if not dimension.holds(known[name]):
            lack = f"lacks {spec.name}'s default, {known[name]!r}, and trial 0 is the default recipe"
            raise UserError(f"{where}: {lack}: widen it, or set another default")
        if name in spec.config and len({_parameters(search, name, value) for value in dimension.ends}) > 1:
            raise UserError(f"{where}: changes the size of {spec.architecture}, which makes it another architecture")


def _check_value(search: Search, name: str, value: Any) -> None:
    """Raise UserError if a field can't have a value, or takes it for another one, which trials would then be of."""
    variant = search.variant({name: value})
    made = (variant.recipe.model_dump() | variant.config)[name]
    # true is 1 to Python, and 8.0 is 8
    if made != value or isinstance(made, bool) != isinstance(value, bool):
        raise UserError(f"[space] {name}={value!r}: the field would be {made!r}; write it so")
    if name == "loss" and value not in search.task.losses:
        raise UserError(f"[space] loss={value!r}: task {search.task.name} has {', '.join(search.task.losses)}")
    # sizes, of a batch or of a layer
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            require_memory(variant, search.pack, torch.device("cpu"))
        except UserError as error:
            raise UserError(f"[space] {name}={value!r}: {error}") from None


def _parameters(search: Search, name: str, value: Any) -> int:
    """Return how many parameters an architecture has with this value; UserError if it doesn't run with it."""
    spec = search.variant({name: value})
    try:
        model = create(spec.architecture, **spec.config)
        size = search.task.size(spec.recipe, search.pack.sample_rate)
        # in training mode: of two inputs, since batch norm takes no single one
        with torch.no_grad():
            model(search.task.example(2, size, spec.config["num_classes"])[0])
    except Exception as error:
        reason = failure(spec.architecture, error)
        raise UserError(f"[space] {name}={value!r}: {spec.architecture} does not run with it: {reason}") from None
    return count_parameters(model)


def pruner_settings(search: Search) -> dict[str, Any]:
    """Return what a search's trials are pruned by: worse than the median at the same point, in steps of evaluations."""
    # Successive halving and Hyperband stop most trials at a small part of their training, which under warm-up and
    # cosine says little (a high rate pays off last), and with few trials leave next to none complete
    warmup = search.spec.recipe.evaluations // 3
    return {"n_startup_trials": 5, "n_warmup_steps": warmup, "interval_steps": 1, "n_min_trials": 1}


def open_study(search: Search, storage: RDBStorage) -> Study:
    """Return the search's study, made if it is new."""
    return optuna.create_study(
        storage=storage,
        study_name=search.study,
        direction=direction(search.task),
        load_if_exists=True,
        sampler=Sampler(search.seed, search.default),
        pruner=optuna.pruners.MedianPruner(**pruner_settings(search)),
    )


def direction(task: Task) -> Literal["maximize", "minimize"]:
    """Return which way a task's primary metric is better, in Optuna's words."""
    return "maximize" if task.primary.higher_is_better else "minimize"


def trials_spent(search: Search, storage: RDBStorage, recorded: Sequence[Mapping[str, Any]] = ()) -> int:
    """Return how many trials the search's budget was spent on so far; UserError if they can't be believed.

    `recorded` is what trials.json of the results folder says of earlier ones, which must be among them.
    """
    return len(counted(check_trials(storage, search.study, search.space, recorded, search.task.primary)))


def run_search(search: Search, storage: RDBStorage, budget: Budget, executor: Executor, display: Display) -> Study:
    """Work on one entry's study until its budget is spent, on as many trials at once as the executor has slots.

    All is asked and told here, whoever trains. Raises UserError if the storage does not answer.
    """
    study = open_study(search, storage)
    _say_what_has_no_effect(search, study, display)
    work_at_once(
        lambda: open_study(search, storage), storage, search.space, budget, executor, display,
        partial(_try_out, search, budget),
    )  # fmt: skip
    return study


def _say_what_has_no_effect(search: Search, study: Study, display: Display) -> None:
    if _WITHOUT_EFFECT not in study.user_attrs:
        study.set_user_attr(_WITHOUT_EFFECT, idle_dimensions(search))
    if idle := ", ".join(no_effect(study)):
        display.notice(f"{search.spec.name}: of [space] without effect on {search.spec.architecture}: {idle}")


def idle_dimensions(search: Search) -> list[str]:
    """Return the dimensions of the space that change nothing, whether the others are as by default or far from it."""
    others = {name: search.others(name) for name in search.space if name not in ACT_ON_ALL}
    far = {name: values[0] for name, values in others.items()}

    def idle(names: Iterable[str], beside: Mapping[str, Any]) -> list[str]:
        here = {**search.default, **beside}
        every = {name: [*others[name], search.default[name]] for name in names}
        variants = {
            name: [search.variant({**beside, name: value}) for value in values if value != here[name]]
            for name, values in every.items()
        }
        return without_effect(search.variant(beside), variants, search.pack)

    # second, since what does nothing alone may act together with another, as a gain does with mixup
    return idle(idle(others, {}), far)


def no_effect(study: Study) -> list[str]:
    """Return the dimensions of a search's space that were found to change nothing."""
    return list(study.user_attrs.get(_WITHOUT_EFFECT, []))


def work_at_once(
    open_again: Callable[[], Study],
    storage: RDBStorage,
    space: Mapping[str, Dimension],
    budget: Budget,
    executor: Executor,
    display: Display,
    try_out: Callable[[Trial, dict[str, Any], Executor, Relay], float],
) -> None:
    """Have as many workers at once as the executor has slots work on a study, until its budget is spent."""
    lock = threading.RLock()

    def work(is_over: threading.Event) -> None:
        # a study of its own: a sampler draws for one trial at a time
        mine = open_again()
        try:
            Worker(mine, storage, space, budget).run(
                lambda trial, params: try_out(trial, params, executor, in_turn(display.lane(), lock)), is_over
            )
        finally:
            storage.remove_session()

    at_once(executor, work)


def _try_out(
    search: Search, budget: Budget, trial: Trial, params: Mapping[str, Any], executor: Executor, shown: Relay
) -> float:
    """Return the score on val of a trial's recipe, trained by the executor."""

    def is_over() -> bool:
        # what all others are compared with
        if params == search.default:
            return False
        if trial.should_prune():
            return True
        is_spent = not budget.trials and reached(budget, trial.study.get_trials(deepcopy=False))
        if is_spent:
            trial.set_user_attr("out_of_budget", True)
        return is_spent

    heading = f"{search.spec.name}, trial {place(trial.study, trial.number)}, budget {budget}"
    return score_of(search, search.variant(params), heading, trial, executor, shown, is_over)


def score_of(
    search: Search,
    spec: RunSpec,
    heading: str,
    trial: Trial,
    executor: Executor,
    shown: Relay,
    is_over: Callable[[], bool] = lambda: False,
) -> float:
    """Return the score on val of a recipe of a search, trained by the executor for a trial, which notes what it took.

    Args:
        is_over: Says at each evaluation whether training is to end there, pruned.
    """
    work = TrialWork(spec, search.pack, search.spec.recipe, heading, code_of(spec)["source"])
    watch = _Watch(work, trial, shown, is_over)
    try:
        score = executor.do(work, watch)
    except optuna.TrialPruned:
        shown.ended("pruned")
        raise
    except Exception as error:
        # its process may have died before
        if not watch.has_begun:
            shown.started(heading, spec)
        shown.ended(f"failed: {type(error).__name__}: {one_line(error)}")
        watch.note_spent()
        raise
    watch.note_spent()
    shown.ended(f"val {search.task.primary.label} {score:.3f}")
    return score


@dataclass(frozen=True)
class TrialWork:
    """Trains one recipe of a search, and returns its score on val.

    Attributes:
        default: The recipe by which all trials' data are cut.
        source: The digests of the code that the command has loaded, which has to be the code that trains.
    """

    spec: RunSpec
    pack: Pack
    default: Recipe
    heading: str
    source: Mapping[str, Any]

    def __call__(self, device: torch.device, display: Display) -> float:
        spec, task = self.spec, task_of(self.spec)
        require_code(spec, self.source)
        fp32_means_fp32()
        display.started(self.heading, spec)
        display.origin(provenance(spec, device))
        data, val = (task.data(self.pack, split, self.default, device) for split in ("train", "val"))
        state = train(
            build(spec, device), data, val, task, spec.recipe,
            seed=spec.seed, report=display.training, notice=display.notice,
        )  # fmt: skip
        assert state.best_score is not None
        return state.best_score


class _Watch(Relay):
    """Shows a trial, and reports each evaluation to its study. Raises TrialPruned where it is to end."""

    def __init__(self, work: TrialWork, trial: Trial, shown: Relay, is_over: Callable[[], bool]) -> None:
        super().__init__(shown.tell)
        self.trial, self.is_over = trial, is_over
        self.evaluations = sorted(work.spec.recipe.evaluation_steps())
        # as steps of the default recipe's batch, since a large batch takes fewer steps
        self.weight = work.spec.recipe.batch_size / work.default.batch_size
        self.step, self.started_at = 0, time.perf_counter()

    def note_spent(self) -> None:
        self.trial.set_user_attr("seconds", round(time.perf_counter() - self.started_at, 3))
        self.trial.set_user_attr("steps", round(self.step * self.weight))

    def origin(self, provenance: Provenance) -> None:
        self.trial.set_user_attr("provenance", provenance.model_dump(mode="json"))

    def training(self, status: Status) -> None:
        super().training(status)
        self.step = status.step
        if status.step not in self.evaluations or status.val_score is None:
            return
        self.note_spent()
        self.trial.report(status.val_score, self.evaluations.index(status.step) + 1)
        # after the last one there is nothing left to save
        if status.step != self.evaluations[-1] and self.is_over():
            raise optuna.TrialPruned
