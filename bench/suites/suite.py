"""What is run: recipes, runs and suites; typed, checked where they are made, and hashed. Knows no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.schema import Strict, validated
from bench.suites.space import Budget, Dimension, _check_space

Family = Literal["cnn", "transformer", "hybrid"]  # as in architectures._registry, which needs torch
SUITES = Path(__file__).parent


class Overrides(Strict):
    """What a suite sets, for all or for one family. `inferred` marks settings that no source documents."""

    sample_rate: PositiveInt | None = None
    train: dict[str, Any] = {}
    inferred: dict[str, str] = {}


class Entry(Overrides):
    """A row of its own: an architecture with overrides, and the question that the row is to answer.

    Or an ablation: the base is another row of the suite, and the overrides are what differs from that.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", max_length=80)]  # begins its runs' folders
    architecture: str = ""  # of an ablation: its base's
    base: str = ""
    config: dict[str, Any] = {}
    question: str = ""

    @model_validator(mode="after")
    def _architecture_or_base(self) -> Self:
        if bool(self.architecture) == bool(self.base):
            raise ValueError(f"{self.name}: give either architecture or base (whose architecture it is)")
        return self

    def on(self, base: "Entry") -> "Entry":
        """What is declared here, over all that the base declares, which has no base of its own any more."""
        merged = {name: getattr(base, name) | getattr(self, name) for name in ("config", "train", "inferred")}
        # what is declared here is no inference of the base's
        merged["inferred"] = {
            k: v
            for k, v in merged["inferred"].items()
            if k in self.inferred or k.removeprefix("train.") not in self.train
        }
        rate = self.sample_rate or base.sample_rate
        return self.model_copy(update=merged | {"architecture": base.architecture, "sample_rate": rate})


class Suite(Overrides):
    """A declaration of runs: one recipe, family by family where that is needed, for contestants and seeds.

    `runs` are rows of their own; with them, `architectures` are only those named. With a `space`, each row's recipe is
    searched first, within the same `budget`, and its best one becomes a row beside it.
    """

    title: str
    architectures: Literal["all"] | Annotated[list[str], Field(min_length=1)] | None = None
    seeds: PositiveInt = 1
    first_seed: NonNegativeInt = 0
    family: dict[Family, Overrides] = {}
    runs: list[Entry] = []
    space: dict[str, Dimension] = {}
    budget: Budget | None = None
    search_seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        named = self.architectures if isinstance(self.architectures, list) else []
        names = [*named, *(entry.name for entry in self.runs)]
        twice = sorted({name for name in names if names.count(name) > 1} - set(named))
        if twice:
            raise ValueError(f"two rows are called {twice[0]!r}: each of [[runs]] needs a name of its own")
        return self

    @model_validator(mode="after")
    def _bases_are_rows(self) -> Self:
        for entry in self.runs:
            self.resolved(entry)
        return self

    def resolved(self, entry: Entry) -> Entry:
        """The row with all that it takes from its base, and that from its own, written out.

        Raises:
            ValueError: a base is no other row of the suite, or in the end the row itself.
        """
        known, chain = {other.name: other for other in self.runs}, [entry]
        while base := chain[-1].base:
            if base not in known and (self.architectures == "all" or base in self.contestants):
                known[base] = Entry(name=base, architecture=base)
            if base not in known:
                raise ValueError(f"{chain[-1].name}: base={base!r} is no row of this suite")
            if any(base == other.name for other in chain):
                raise ValueError(f"{entry.name}: is its own base, by {' and '.join(other.name for other in chain)}")
            chain.append(known[base])
        made = chain.pop()
        while chain:
            made = chain.pop().on(made)
        return made

    @property
    def contestants(self) -> Literal["all"] | list[str]:
        return self.architectures or ([] if self.runs else "all")

    def settings(self, entry: Entry, family: str, sets: Mapping[str, Any]) -> tuple[int, Recipe, dict[str, str]]:
        """Sample rate, recipe and inferred settings of a resolved row; `sets` (--set) goes last.

        Raises:
            UserError: a recipe field is unknown or out of range.
        """
        of_family = self.family.get(family, Overrides())  # type: ignore[call-overload]
        train = self.train | of_family.train | entry.train | dict(sets)
        recipe = validated(Recipe, train, f"suite {self.title!r}, {entry.name}, train")
        inferred = self.inferred | of_family.inferred
        # what the row or the user set is no inference of the suite's
        own = set(entry.train) | set(sets)
        inferred = {k: v for k, v in inferred.items() if k.removeprefix("train.") not in own} | entry.inferred
        return entry.sample_rate or of_family.sample_rate or self.sample_rate or 16_000, recipe, inferred


def load_suite(name: str) -> Suite:
    """A suite that comes with the project, by name, or any TOML file, by path.

    Raises:
        UserError: no such suite, no valid TOML, or an unknown key, with file and key.
    """
    path = Path(name) if name.endswith(".toml") else SUITES / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in SUITES.glob("*.toml")))
        raise UserError(f"no suite {name!r}: use one of {known}, or the path of a .toml file")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from None
    suite = validated(Suite, values, str(path))
    for family in get_args(Family):
        validated(Recipe, suite.train, f"{path}, [train]")
        own = suite.family.get(family, Overrides())
        validated(Recipe, suite.train | own.train, f"{path}, [family.{family}.train]")
        _check_inferred(suite.inferred | own.inferred, path)
    for entry in map(suite.resolved, suite.runs):
        validated(Recipe, suite.train | entry.train, f"{path}, [[runs]] {entry.name}, train")
        _check_inferred(entry.inferred, path)
    _check_space(suite.space, path)
    return suite


def _check_inferred(inferred: Mapping[str, str], path: Path) -> None:
    for key in inferred:
        if key.removeprefix("train.") not in Recipe.model_fields or not key.startswith("train."):
            raise UserError(f"{path}: inferred names {key!r}, which is no field of [train] (write train.FIELD)")


def parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    """`train.FIELD=VALUE` strings to recipe fields; values are read as TOML. Raises UserError."""
    fields: dict[str, Any] = {}
    for text in sets:
        key, equals, value = text.partition("=")
        table, dot, field = key.strip().partition(".")
        if not (equals and dot and table == "train"):
            raise UserError(f"--set {text}: write --set train.FIELD=VALUE, for example train.updates=300")
        try:
            fields[field] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            fields[field] = value.strip()  # a bare word is a string
    validated(Recipe, fields, "--set train")
    return fields
