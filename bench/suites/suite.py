"""A suite: which runs there are to be, declared in TOML and checked where it is read."""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.renamed import warn_of_old_names
from bench.schema import validated
from bench.suites.contrasts import Contrast, check_contrasts
from bench.suites.grid import Grid, check_grid, field_of, point_name, points
from bench.suites.marks import Marks, check_marks, declared_keys
from bench.suites.space import Budget, Dimension, check_space

__all__ = ["Entry", "Suite", "known_suites", "load_suite", "parse_overrides", "suite_path"]

# as in architectures, which needs torch
Family = Literal["cnn", "transformer", "hybrid"]
_SUITES = Path(__file__).parent


def _renamed(rename: Callable[[dict[str, Any]], dict[str, Any]]) -> BeforeValidator:
    return BeforeValidator(lambda table: rename(table) if isinstance(table, dict) else table)


class Settings(Marks):
    """What a suite sets, for all or for one family, and where that comes from."""

    sample_rate: PositiveInt | None = None
    train: Annotated[dict[str, Any], _renamed(lambda table: warn_of_old_names(table, "train"))] = {}


class Entry(Settings):
    """An architecture with overrides, and the question that it answers; or an ablation of another entry, its base."""

    # begins its runs' folders
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)]
    # of an ablation: its base's
    architecture: str = ""
    base: str = ""
    config: dict[str, Any] = {}
    question: str = ""
    # the entry whose weights are the start
    init: str = ""

    @model_validator(mode="after")
    def _architecture_or_base(self) -> Self:
        if bool(self.architecture) == bool(self.base):
            raise ValueError(f"{self.name}: give either architecture or base (whose architecture it is)")
        return self

    def on(self, base: "Entry") -> "Entry":
        """Return what is declared here over all that the base declares, which has no base of its own any more."""
        merged = {name: getattr(base, name) | getattr(self, name) for name in ("config", "train")}
        merged |= self.marked_over(base, declared_keys(self.train, self.sample_rate))
        rate = self.sample_rate or base.sample_rate
        return self.model_copy(update=merged | {"architecture": base.architecture, "sample_rate": rate})


class Suite(Settings):
    """A declaration of runs: one recipe, family by family where that is needed, for architectures and seeds.

    `runs` are entries of their own; with them, `architectures` are only those named. A `grid` crosses lists of values
    over every entry. With a `space`, each entry's recipe is searched first, within the same `budget`, and its best one
    becomes an entry beside it. `contrasts` are what the report tests of several entries together.
    """

    title: str
    # a line for who chooses among suites
    description: str = ""
    task: str = "tagging"
    # which part of the data is held out, in data sets that come in folds
    fold: NonNegativeInt | None = None
    architectures: Literal["all"] | Annotated[list[str], Field(min_length=1)] | None = None
    seeds: PositiveInt = 1
    first_seed: NonNegativeInt = 0
    family: dict[Family, Settings] = {}
    runs: list[Entry] = []
    contrasts: list[Contrast] = []
    grid: Grid = {}
    # files with architectures or tasks, which are loaded before the suite is planned
    plugins: list[Path] = []
    space: Annotated[dict[str, Dimension], _renamed(lambda table: warn_of_old_names(table, "[space]"))] = {}
    budget: Budget | None = None
    search_seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _names_differ_and_bases_are_entries(self) -> Self:
        named = self.architectures if isinstance(self.architectures, list) else []
        names = [*named, *(entry.name for entry in self.runs)]
        if twice := sorted({name for name in names if names.count(name) > 1} - set(named)):
            raise ValueError(f"two entries are called {twice[0]!r}: each of [[runs]] needs a name of its own")
        for entry in self.runs:
            self.resolved(entry)
        return self

    @model_validator(mode="after")
    def _grid_stands_alone(self) -> Self:
        if both := [name for name in self.grid if field_of(name) in self.space]:
            raise ValueError(f"{both[0]} is both in [grid] and in [space]: leave one of the two out")
        if self.grid and (ablations := [entry.name for entry in self.runs if entry.base]):
            raise ValueError(f"{ablations[0]}: base and [grid] exclude each other: give it an architecture instead")
        return self

    def resolved(self, entry: Entry) -> Entry:
        """Return the entry over all its bases; raise ValueError if one is no entry, or the entry itself."""
        known, chain = {other.name: other for other in self.runs}, [entry]
        while base := chain[-1].base:
            if base not in known and (self.architectures == "all" or base in self.named):
                known[base] = Entry(name=base, architecture=base)
            if base not in known:
                raise ValueError(f"{chain[-1].name}: base={base!r} is no entry of this suite")
            if any(base == other.name for other in chain):
                raise ValueError(f"{entry.name}: is its own base, by {' and '.join(other.name for other in chain)}")
            chain.append(known[base])
        return reduce(lambda base, entry: entry.on(base), reversed(chain))

    def crossed(self, entry: Entry) -> list[Entry]:
        """Return a resolved entry at each point of the grid, or alone where there is no grid. Raises UserError."""
        return [self._at(point, entry) for point in points(self.grid)] if self.grid else [entry]

    def _at(self, point: Mapping[str, Any], entry: Entry) -> Entry:
        values: dict[str, Any] = {name: getattr(entry, name) for name in ("architecture", "question", "init")}
        for table in ("train", "config"):
            values[table] = {field_of(name): value for name, value in point.items() if name.startswith(f"{table}.")}
        values |= {"name": f"{entry.name}-{point_name(point)}", "sample_rate": point.get("sample_rate")}
        return validated(Entry, values, f"suite {self.title!r}, [grid], whose fields and values name entries").on(entry)

    @property
    def named(self) -> Literal["all"] | list[str]:
        """The architectures that are entries as they are."""
        return self.architectures or ([] if self.runs else "all")

    def settings(self, entry: Entry, family: str, overrides: Mapping[str, Any]) -> tuple[int, Recipe, Marks]:
        """Return sample rate, recipe and sources of a resolved entry's settings; `overrides` (--set) go last.

        Raises UserError for values that can't be, and for overrides of what the grid sets.
        """
        if taken := [name for name in overrides if f"train.{name}" in self.grid]:
            # two entries would be the same
            reason = "which --set or --quick sets for all: leave one of the two out"
            raise UserError(f"suite {self.title!r} has a [grid] over train.{taken[0]}, {reason}")
        of_family = self.family.get(family, Settings())  # type: ignore[call-overload]
        train = self.train | of_family.train | entry.train | dict(overrides)
        recipe = validated(Recipe, train, f"suite {self.title!r}, {entry.name}, train")
        marks = Marks(**of_family.marked_over(self))
        marks = Marks(**entry.marked_over(marks, declared_keys(entry.train, entry.sample_rate)))
        # what the user sets, no source speaks of
        marks = Marks(**Marks().marked_over(marks, declared_keys(overrides)))
        return entry.sample_rate or of_family.sample_rate or self.sample_rate or 16_000, recipe, marks


def known_suites() -> list[str]:
    """Return the names of the suites that come with the project."""
    return sorted(path.stem for path in _SUITES.glob("*.toml"))


def suite_path(name: str | Path) -> Path:
    """Return the file of a suite that comes with the project, by name, or of any, by path; raise UserError for none."""
    if str(name).endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{path}: no such file; `bench suites` lists the suites that need none")
        return path
    known = known_suites()
    if str(name) not in known:
        near = "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(str(name), known, n=1))
        raise UserError(f"no suite {str(name)!r}{near}: use one of {', '.join(known)}, or the path of a .toml file")
    return _SUITES / f"{name}.toml"


def load_suite(name: str | Path) -> Suite:
    """Return a suite that comes with the project, by name, or any TOML file, by path; check it, or raise UserError."""
    path = suite_path(name)
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    suite = validated(Suite, values, str(path))
    _check(suite, path)
    return suite.model_copy(update={"plugins": [_plugin(path, plugin) for plugin in suite.plugins]})


def _check(suite: Suite, path: Path) -> None:
    check_marks(suite, str(path))
    for family in get_args(Family):
        validated(Recipe, suite.train, f"{path}, [train]")
        of_family = suite.family.get(family, Settings())
        validated(Recipe, suite.train | of_family.train, f"{path}, [family.{family}.train]")
        check_marks(of_family, f"{path}, [family.{family}]")
    for entry in suite.runs:
        resolved, where = suite.resolved(entry), f"{path}, [[runs]] {entry.name}"
        validated(Recipe, suite.train | resolved.train, f"{where}, train")
        check_marks(entry, where)
    check_space(suite.space, f"{path}, [space]")
    check_grid(suite.grid, f"{path}, [grid]")
    check_contrasts(suite.contrasts, get_args(Family), f"{path}, [[contrasts]]")


def _plugin(suite: Path, plugin: Path) -> Path:
    """Return a plugin's path as it is for this process. Raises UserError if there is no such file."""
    path = suite.parent / plugin
    if not path.is_file():
        raise UserError(f"{suite}: plugins: {path}: no such file; paths are relative to the suite's file")
    return path


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Return recipe fields from `train.FIELD=VALUE` strings, as --set takes them, checked; values are read as TOML."""
    fields: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        table, dot, field = key.strip().partition(".")
        if not (equals and dot and table == "train"):
            raise UserError(f"--set {text}: write --set train.FIELD=VALUE, for example train.max_steps=300")
        try:
            fields[field] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # a bare word is a string
            fields[field] = value.strip()
    fields = warn_of_old_names(fields, "--set train")
    validated(Recipe, fields, "--set train")
    return fields
