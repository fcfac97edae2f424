"""The same search for every contestant: one space, one budget, val mAP; eval is not read."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
import torch
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import Trial

from architectures import ConfigError, configure, create, get_architecture
from bench.cli.progress import SuiteDisplay
from bench.data.pack import Pack
from bench.errors import UserError, one_line
from bench.protocol.batches import chunks_of
from bench.protocol.build import build, fp32_means_fp32
from bench.protocol.recipe import Recipe
from bench.protocol.spec import RunSpec
from bench.protocol.train import Status, train
from bench.runner.cost import count_parameters
from bench.runner.provenance import code, provenance
from bench.schema import digest, validated
from bench.searching.study import Sampler, Worker, finished, spent
from bench.suites.space import Budget, Dimension

STARTUP = 5  # complete trials before any is pruned


@dataclass(frozen=True)
class Search:
    """One row's search: the default recipe that it starts from, and what may be changed in it."""

    spec: RunSpec
    pack: Pack
    space: Mapping[str, Dimension]
    seed: int

    @property
    def default(self) -> dict[str, Any]:
        """The space's fields as the default recipe has them."""
        every = self.spec.recipe.model_dump() | self.spec.config
        return {name: every[name] for name in self.space}

    @property
    def study(self) -> str:
        """A name that only searches with comparable trials share."""
        told = {
            "spec": self.spec.hash,
            "space": {name: dimension.model_dump(mode="json") for name, dimension in self.space.items()},
            "seed": self.seed,
            "code": code(get_architecture(self.spec.architecture).model.__module__)["source"],
        }
        return f"{self.spec.name}-{digest(told)[:8]}"

    def variant(self, params: Mapping[str, Any]) -> RunSpec:
        """The run with these values. Trained on as many chunks as the default recipe, whatever the batch: otherwise a
        larger batch would buy more training. Raises UserError for a value that a field cannot have."""
        default = self.spec.recipe
        fields = {name: value for name, value in params.items() if name in Recipe.model_fields}
        chunks = default.updates * default.batch_size
        fields["updates"] = max(1, round(chunks / fields.get("batch_size", default.batch_size)))
        recipe = validated(Recipe, default.model_dump() | fields, "[space]")
        config = self.spec.config | {name: value for name, value in params.items() if name not in fields}
        try:
            made = asdict(configure(self.spec.architecture, **config))
        except ConfigError as error:
            raise UserError(f"[space]: {error}") from None
        return self.spec.model_copy(update={"recipe": recipe, "config": made})


def searches(
    runs: Sequence[tuple[RunSpec, Pack]], space: Mapping[str, Dimension], seed: int, sets: Mapping[str, Any]
) -> list[Search]:
    """A search for each row, by one space for all; what the user set (--set) is not searched.

    Raises:
        UserError: the space has an unknown field, lacks a default value, or would change a contestant's size.
    """
    left = {name: dimension for name, dimension in space.items() if name not in sets}
    if not left:
        raise UserError("nothing to search: [space] has no field that --set leaves open")
    first = {spec.name: (spec, pack) for spec, pack in reversed(runs)}
    made = [
        Search(first[name][0].model_copy(update={"seed": 0}), first[name][1], left, seed) for name in reversed(first)
    ]
    for search in made:
        _check(search)
    return made


def _check(search: Search) -> None:
    spec = search.spec
    for name, dimension in search.space.items():
        known = spec.recipe.model_dump() | spec.config
        if name not in known:
            raise UserError(f"[space] {name}: neither a field of [train] nor of {spec.architecture}'s config")
        if not dimension.holds(known[name]):
            raise UserError(
                f"[space] {name}: lacks {spec.name}'s default, {known[name]!r}, and trial 0 is the default recipe: "
                "widen it, or set another default"
            )
        variants = [search.variant({name: value}) for value in dimension.ends]
        if name in spec.config and len({_size(variant) for variant in variants}) > 1:
            raise UserError(
                f"[space] {name}: changes the size of {spec.architecture}, which makes it another contestant"
            )


def _size(spec: RunSpec) -> int:
    return count_parameters(create(spec.architecture, **spec.config))


def open_study(search: Search, storage: RDBStorage) -> Study:
    """The search's study, made if it is new.

    Pruned is what is worse than the median of the complete trials at the same point of their training. Successive
    halving and Hyperband stop most trials at a small part of it, which under warm-up and cosine says little (a high
    rate pays off last), and with few trials leave next to none complete.
    """
    return optuna.create_study(
        storage=storage,
        study_name=search.study,
        direction="maximize",
        load_if_exists=True,
        sampler=Sampler(search.seed, search.default),
        pruner=optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=search.spec.recipe.evaluations // 3),
    )


def run_search(
    search: Search, storage: RDBStorage, budget: Budget, device: torch.device, display: SuiteDisplay
) -> Study:
    """Work on one row's study until its budget is spent, together with whoever else does.

    Raises:
        UserError: the storage does not answer.
    """
    fp32_means_fp32()
    study = open_study(search, storage)
    data, val = (chunks_of(search.pack, split, search.spec.recipe, device) for split in ("train", "val"))

    def work(trial: Trial, params: dict[str, Any]) -> float:
        started = time.perf_counter()
        spec = search.variant(params)
        trial.set_user_attr("provenance", provenance(get_architecture(spec.architecture).model.__module__, device))
        evaluations = sorted(spec.recipe.evaluation_updates())
        is_default = params == search.default

        def note_seconds() -> None:
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))

        def watch(status: Status) -> None:
            display.run_status(status)
            if status.update not in evaluations or status.val_map is None:
                return
            note_seconds()
            trial.report(status.val_map, evaluations.index(status.update) + 1)
            if is_default:  # what all others are compared with
                return
            if trial.should_prune():
                raise optuna.TrialPruned
            if budget.hours and spent(study.get_trials(deepcopy=False)) >= 3600 * budget.hours:
                trial.set_user_attr("out_of_budget", True)
                raise optuna.TrialPruned

        done = len(finished(study.get_trials(deepcopy=False)))
        display.started(f"{search.spec.name}, trial {done + 1}, budget {budget}", spec.recipe.updates)
        try:
            state = train(build(spec, device), data, val, spec.recipe, seed=spec.seed, report=watch)
        except optuna.TrialPruned:
            display.ended("pruned")
            raise
        except Exception as error:
            display.ended(f"failed: {type(error).__name__}: {one_line(error)}")
            note_seconds()
            raise
        note_seconds()
        display.ended(f"val mAP {state.best_map:.3f}")
        return state.best_map

    Worker(study, storage, search.space, budget).run(work)
    return study
