"""A suite: which runs there are to be, declared in TOML and checked where it is read."""

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, model_validator

from bench.errors import UserError, one_line
from bench.protocol.recipe import SCORING, Recipe
from bench.protocol.task import get_task
from bench.renamed import warn_of_old_names
from bench.schema import Line, in_one_line, validated
from bench.suites.contrasts import Contrast, check_contrasts
from bench.suites.grid import Grid, check_grid, field_of, point_name, points
from bench.suites.marks import Marks, check_marks, declared_keys
from bench.suites.space import Budget, Dimension, check_space
from bench.text import printable

__all__ = [
    "DEFAULT_RATE", "MAX_RUNS", "Entry", "Suite", "entry_name", "known_suites", "load_suite", "parse_overrides",
    "parse_task_settings", "same_names", "suite_path",
]  # fmt: skip

# Nobody trains as many runs, or builds on as many bases: what asks for them is a slip, and would not end.
MAX_RUNS = 10_000
# Hz, where a suite says nothing
DEFAULT_RATE = 16_000
_MAX_BASES, _MAX_NESTING, _MAX_BYTES = 100, 32, 4_000_000

# as in architectures, which needs torch
Family = Literal["cnn", "transformer", "hybrid"]
_SUITES = Path(__file__).parent
# the generators that are seeded take 32 bits
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _renamed(rename: Callable[[dict[str, Any]], dict[str, Any]]) -> BeforeValidator:
    return BeforeValidator(lambda table: rename(table) if isinstance(table, dict) else table)


def entry_name(architecture: str) -> str:
    """Return what an architecture's entry and folders are called: timm-convnext_atto for timm:convnext_atto."""
    return architecture.replace(":", "-")


# as an entry is called, also where an architecture is written
_OfEntry = Annotated[str, AfterValidator(entry_name)]


class Settings(Marks):
    """What a suite sets, for all or for one family, and where that comes from."""

    sample_rate: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    train: Annotated[dict[str, Any], _renamed(lambda table: warn_of_old_names(table, "train"))] = {}
    # of the task: what tasks have any has `Task.settings_type`
    task_settings: dict[str, Any] = {}


class Entry(Settings):
    """An architecture with overrides, and the question that it answers; or an ablation of another entry, its base.

    What `rescores` another entry is an ablation of it that trains nothing: the weights of its runs, seed by seed, are
    scored in another way.
    """

    # begins its runs' folders
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)]
    # of an ablation: its base's
    architecture: str = ""
    base: _OfEntry = ""
    # instead of a base: the entry whose weights are scored
    rescores: _OfEntry = ""
    config: dict[str, Any] = {}
    question: Line = ""
    # what it is shown with, among others of this theme; no base's
    theme: Annotated[str, Field(max_length=80), AfterValidator(in_one_line)] = ""
    # the entry whose weights are the start, seed by seed
    init: _OfEntry = ""
    # of a pre-training: its own task, where the suite has another; its runs are no part of what is compared
    task: str = ""

    @model_validator(mode="after")
    def _architecture_or_base(self) -> Self:
        if sum(map(bool, (self.architecture, self.base, self.rescores))) != 1:
            raise ValueError(
                f"{self.name}: give either architecture or base (whose architecture it is), or rescores (whose weights)"
            )
        return self

    @model_validator(mode="after")
    def _rescoring_sets_nothing_else(self) -> Self:
        given = [name for name in ("config", "task_settings", "sample_rate", "init", "task") if getattr(self, name)]
        given += [f"train.{name}" for name in self.train if name not in SCORING]
        if self.rescores and given:
            raise ValueError(
                f"{self.name}: rescores weights that are there, which {given[0]} would be too late for: set only "
                f"{', '.join(SCORING)} in train, or write base instead of rescores, which trains"
            )
        return self

    @property
    def compared_with(self) -> str:
        """The entry that this one is an ablation of, or ''."""
        return self.base or self.rescores

    @property
    def follows(self) -> str:
        """The entry whose weights this one needs, to score them or to start from, or ''."""
        return self.rescores or self.init

    def on(self, base: "Entry") -> "Entry":
        """Return what is declared here over all that the base declares, which has no base of its own any more."""
        merged = {name: getattr(base, name) | getattr(self, name) for name in ("config", "train", "task_settings")}
        merged |= self.marked_over(base, declared_keys(self.train, self.sample_rate))
        merged["sample_rate"] = self.sample_rate or base.sample_rate
        # "" takes back what the base declares
        merged |= {name: getattr(self if name in self.model_fields_set else base, name) for name in ("init", "task")}
        if self.rescores:
            # what scores weights starts from none
            merged["init"] = ""
        return self.model_copy(update=merged | {"architecture": base.architecture})


class Suite(Settings):
    """A declaration of runs: one recipe, family by family where that is needed, for architectures and seeds.

    `runs` are entries of their own; with them, `architectures` are only those named. A `grid` crosses lists of values
    over every entry. With a `space`, each entry's recipe is searched first, within the same `budget`, and its best one
    becomes an entry beside it. `contrasts` are what the report tests of several entries together.
    """

    title: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(in_one_line)]
    # a line for who chooses among suites
    description: Line = ""
    task: str = "tagging"
    # which part of the data is held out, in data sets that come in folds
    fold: NonNegativeInt | None = None
    architectures: Literal["all"] | Annotated[list[str], Field(min_length=1, max_length=MAX_RUNS)] | None = None
    seeds: Annotated[int, Field(gt=0, le=1_000_000_000_000)] = 1
    first_seed: Seed = 0
    family: dict[Family, Settings] = {}
    runs: Annotated[list[Entry], Field(max_length=MAX_RUNS)] = []
    contrasts: list[Contrast] = []
    grid: Grid = {}
    # files with architectures or tasks, which are loaded before the suite is planned
    plugins: list[Annotated[Path, Field(strict=False)]] = []
    space: Annotated[dict[str, Dimension], _renamed(lambda table: warn_of_old_names(table, "[space]"))] = {}
    budget: Budget | None = None
    search_seed: Seed = 0

    @model_validator(mode="after")
    def _names_differ_and_bases_are_entries(self) -> Self:
        own = [entry.name for entry in self.runs]
        # an entry may take the place of an architecture that is named
        named = set(self.architectures if isinstance(self.architectures, list) else []) - set(own)
        if twice := same_names([*sorted(named), *own]):
            raise ValueError(f"two entries are called {twice}: each of [[runs]] needs a name of its own")
        for entry in self.runs:
            self._check_base(entry)
            self._check_init(self._resolved[entry.name])
        return self

    def _check_base(self, entry: Entry) -> None:
        """Raise ValueError for an entry that would be a pre-training by its base alone, and so in no report."""
        base = self._resolved.get(entry.base)
        if base and self.is_pretraining(base) and "task" not in entry.model_fields_set:
            raise ValueError(
                f"{entry.name}: base={base.name!r} is of task {base.task}: write task = {base.task!r} for another "
                "pre-training, or give an architecture instead of the base"
            )

    def _check_init(self, entry: Entry) -> None:
        """Raise ValueError if what an entry starts from is unknown, has no weights, or starts from the entry itself."""
        named = set() if self.named == "all" else set(map(entry_name, self.named))
        seen = [entry.name]
        while entry.init:
            if entry.init in seen:
                raise ValueError(f"{seen[0]}: init={entry.init!r}: it would start from its own weights")
            seen.append(entry.init)
            if entry.init not in self._resolved:
                if self.named != "all" and entry.init not in named:
                    raise ValueError(f"{entry.name}: init={entry.init!r} is no entry of this suite")
                return
            start = self._resolved[entry.init]
            if start.rescores:
                fix = f"write init = {start.rescores!r}"
                raise ValueError(f"{entry.name}: init={start.name!r} scores the weights of {start.rescores}: {fix}")
            entry = start

    @model_validator(mode="after")
    def _grid_stands_alone(self) -> Self:
        if both := [name for name in self.grid if field_of(name) in self.space]:
            raise ValueError(f"{both[0]} is both in [grid] and in [space]: leave one of the two out")
        for entry in self.runs:
            how = "base" if entry.base else "rescores"
            if self.grid and entry.compared_with:
                raise ValueError(f"{entry.name}: {how} and [grid] exclude each other: give it an architecture instead")
            for name in ("rescores", "init", "task"):
                if self.space and getattr(entry, name):
                    raise ValueError(f"{entry.name}: {name} and [space] exclude each other: leave one of the two out")
        return self

    def resolved(self, entry: Entry) -> Entry:
        """Return one of `runs` over all its bases."""
        return self._resolved[entry.name]

    @cached_property
    def _resolved(self) -> dict[str, Entry]:
        known, made = {entry.name: entry for entry in self.runs}, dict[str, Entry]()
        for name in known:
            base = None
            for entry in reversed(self._chain(name, known)):
                if entry.name not in made:
                    made[entry.name] = entry.on(base) if base else entry
                base = made[entry.name]
        return made

    def _chain(self, name: str, known: Mapping[str, Entry]) -> list[Entry]:
        """Return an entry, its base, that one's base, and so on; raise ValueError if one is unknown, or comes again."""
        chain = {name: known[name]}
        named = {} if self.named == "all" else {entry_name(architecture): architecture for architecture in self.named}
        while base := chain[name].compared_with:
            if base in chain:
                raise ValueError(f"{next(iter(chain))}: is its own base, by {' and '.join(list(chain)[:5])}")
            if len(chain) > _MAX_BASES:
                raise ValueError(f"{next(iter(chain))}: its bases are more than {_MAX_BASES}: name one that is nearer")
            if base in known:
                chain[base] = known[base]
            elif self.architectures == "all" or base in named:
                chain[base] = Entry(name=base, architecture=named.get(base, base))
            else:
                how = "base" if chain[name].base else "rescores"
                raise ValueError(f"{name}: {how}={base!r} is no entry of this suite")
            if chain[name].rescores and chain[base].rescores:
                raise ValueError(f"{name}: {base} has no weights of its own: write rescores = {chain[base].rescores!r}")
            name = base
        return list(chain.values())

    def crossed(self, entry: Entry) -> list[Entry]:
        """Return a resolved entry at each point of the grid, or alone where there is no grid. Raises UserError.

        So is a pre-training. The grid's points are counted by `plan.entries`, before they are made.
        """
        if not self.grid or self.is_pretraining(entry):
            return [entry]
        return [self._at(point, entry) for point in points(self.grid)]

    @property
    def pretrainings(self) -> list[Entry]:
        """Those of `runs` that are pre-trainings, over all their bases."""
        return [entry for entry in self._resolved.values() if self.is_pretraining(entry)]

    def is_pretraining(self, entry: Entry) -> bool:
        """Return whether an entry has a task of its own, so that it is a start for others, and compared with none."""
        return entry.task not in ("", self.task)

    def _at(self, point: Mapping[str, Any], entry: Entry) -> Entry:
        kept = ("architecture", "question", "theme", "init")
        values: dict[str, Any] = {name: getattr(entry, name) for name in kept}
        start = self._resolved.get(entry.init)
        if entry.init and not (start and self.is_pretraining(start)):
            # which is crossed, too
            values["init"] = f"{entry.init}-{point_name(point)}"
        for table in ("train", "config", "task_settings"):
            values[table] = {field_of(name): value for name, value in point.items() if name.startswith(f"{table}.")}
        values |= {"name": f"{entry.name}-{point_name(point)}", "sample_rate": point.get("sample_rate")}
        return validated(Entry, values, f"suite {self.title!r}, [grid], whose fields and values name entries").on(entry)

    @property
    def named(self) -> Literal["all"] | list[str]:
        """The architectures that are entries as they are."""
        return self.architectures or ([] if self.runs else "all")

    def task_settings_of(self, entry: Entry, family: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is set of the task for a resolved entry; `overrides` take the place of what the suite sets.

        What an entry sets itself stays: it is what tells it from the others; of another task than the suite's it has
        nothing else. Raises UserError for overrides of what the grid sets.
        """
        if self.is_pretraining(entry):
            return entry.task_settings
        self._refuse_overrides("task_settings", overrides)
        of_family = self.family.get(family, Settings())  # type: ignore[call-overload]
        return self.task_settings | of_family.task_settings | dict(overrides) | entry.task_settings

    def settings(self, entry: Entry, family: str, overrides: Mapping[str, Any]) -> tuple[int, Recipe, Marks]:
        """Return sample rate, recipe and sources of a resolved entry's settings; `overrides` (--set) go last.

        What means nothing to a pre-training's task it has only of its own. Raises UserError for values that can't be,
        and for overrides of what the grid sets.
        """
        self._refuse_overrides("train", overrides)
        of_family = self.family.get(family, Settings())  # type: ignore[call-overload]
        others, set_for_all = self.train | of_family.train, dict(overrides)
        if self.is_pretraining(entry):
            idle = {"loss", *get_task(entry.task).without}
            others, set_for_all = (_without(values, idle) for values in (others, set_for_all))
        train = others | entry.train | set_for_all
        recipe = validated(Recipe, train, f"suite {self.title!r}, {entry.name}, train")
        marks = Marks(**of_family.marked_over(self))
        marks = Marks(**entry.marked_over(marks, declared_keys(entry.train, entry.sample_rate)))
        # what the user sets, no source speaks of
        marks = Marks(**Marks().marked_over(marks, declared_keys(overrides)))
        return entry.sample_rate or of_family.sample_rate or self.sample_rate or DEFAULT_RATE, recipe, marks

    def _refuse_overrides(self, table: str, overrides: Mapping[str, Any]) -> None:
        if taken := [name for name in overrides if f"{table}.{name}" in self.grid]:
            # two entries would be the same
            reason = "which --set or --quick sets for all: leave one of the two out"
            raise UserError(f"suite {self.title!r} has a [grid] over {table}.{taken[0]}, {reason}")


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def same_names(names: Sequence[str]) -> str:
    """Return two names that are one folder, also where case does not count (as on macOS), for a message; or ''."""
    seen: dict[str, str] = {}
    for name in names:
        if (folded := name.casefold()) in seen:
            alike = f"{seen[folded]!r} and {name!r}, which is one folder where case does not count"
            return alike if name != seen[folded] else repr(name)
        seen[folded] = name
    return ""


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
    suite = validated(Suite, _read_toml(_text(path), str(path)), str(path))
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


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: is no suite: more than {_MAX_BYTES // 10**6} MB")
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid TOML: {one_line(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _read_toml(text: str, where: str) -> dict[str, Any]:
    """Return what a TOML document says. Raises UserError if it is none, or nested without end."""
    too_deep = f"{where}: nested more than {_MAX_NESTING} deep"
    try:
        values = tomllib.loads(text)
    # of tomllib and, for a number of too many digits, of Python itself
    except ValueError as error:
        raise UserError(f"{where}: not valid TOML: {one_line(error)}") from None
    except RecursionError:
        raise UserError(too_deep) from None
    level: list[Any] = [values]
    for _ in range(_MAX_NESTING):
        level = [inner for value in level for inner in (value.values() if isinstance(value, dict) else value)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
    if level:
        raise UserError(too_deep)
    return values


def _plugin(suite: Path, plugin: Path) -> Path:
    """Return a plugin's path as it is for this process. Raises UserError if there is no such file."""
    path = suite.parent / plugin
    if not path.is_file():
        raise UserError(f"{suite}: plugins: {path}: no such file; paths are relative to the suite's file")
    return path


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Return recipe fields from `train.FIELD=VALUE` strings, as --set takes them, checked; values are read as TOML."""
    fields = warn_of_old_names(_fields(texts, "train", "max_steps=300"), "--set train")
    validated(Recipe, fields, "--set train")
    return fields


def parse_task_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return settings of the task from `task_settings.FIELD=VALUE` strings, unchecked: of which task is not known."""
    return _fields(texts, "task_settings", "context=400")


def _fields(texts: Sequence[str], table: str, example: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        found = re.fullmatch(rf"\s*{table}\.(\w+)\s*", key)
        if not (equals and found):
            raise UserError(f"--set {text!r}: write --set {table}.FIELD=VALUE, for example {table}.{example}")
        fields[found[1]] = _value(value.strip(" "), f"--set {text!r}")
    return fields


def _value(text: str, where: str) -> Any:
    # with a line break it could set other fields, too
    if text != printable(text):
        raise UserError(f"{where}: write one TOML value in one line")
    try:
        return _read_toml(f"value = {text}", where)["value"]
    except UserError:
        if text[:1] in ("[", "{"):
            raise
    try:
        # TOML has neither .5 nor 5.
        return float(text)
    except ValueError:
        # a bare word is a string
        return text
