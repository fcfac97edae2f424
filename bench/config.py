"""What is run: recipes, runs and suites; typed, checked where they are made, and hashed. Knows no torch."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from bench.errors import UserError

Family = Literal["cnn", "transformer", "hybrid"]  # as in architectures.registry, which needs torch
SUITES = Path(__file__).parent / "suites"

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(Strict):
    """How a contestant is trained and how its chunks are cut; the same fields for all."""

    loss: Literal["bce", "huber"] = "bce"
    learning_rate: PositiveFloat = 5e-4
    batch_size: PositiveInt = 64
    updates: PositiveInt = 10_000
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # of the updates
    # val is scored this many times, evenly spread; the best of these is kept
    evaluations: PositiveInt = 10
    # evaluations without a better val mAP until the rate is halved (plateau) and until training ends (0: never)
    patience: PositiveInt = 3
    early_stop: NonNegativeInt = 0
    hop_seconds: Annotated[float, Field(ge=0.01, le=1)] = 1.0  # from one chunk of a clip to the next
    precision: Literal["fp32", "bf16"] = "fp32"  # of training; evaluation is always fp32
    channels_last: bool = False  # memory layout of convolutions: speed, not arithmetic

    def evaluation_updates(self) -> set[int]:
        """After which updates (counted from 1) val is scored."""
        return {-(-self.updates * i // self.evaluations) for i in range(1, self.evaluations + 1)}


class RunSpec(Strict):
    """One architecture, one recipe, one seed, one pack: all that decides a run's numbers."""

    name: str  # of the row in the table
    architecture: str
    config: dict[str, Any]  # every field, defaults included
    recipe: Recipe
    seed: NonNegativeInt
    pack: str  # fingerprint
    inferred: dict[str, str] = {}  # field -> what its value rests on, where no source documents it

    @property
    def hash(self) -> str:
        """Eight hex digits of everything that decides the numbers (name and footnotes do not)."""
        return digest(self.model_dump(mode="json", exclude={"name", "inferred"}))[:8]

    @property
    def folder(self) -> str:
        return f"{self.name}-s{self.seed}-{self.hash}"


class Overrides(Strict):
    """What a suite sets, for all or for one family. `inferred` marks settings that no source documents."""

    sample_rate: PositiveInt | None = None
    train: dict[str, Any] = {}
    inferred: dict[str, str] = {}


class Suite(Overrides):
    """A declaration of runs: one recipe, family by family where that is needed, for contestants and seeds."""

    title: str
    architectures: Literal["all"] | Annotated[list[str], Field(min_length=1)] = "all"
    seeds: PositiveInt = 1
    family: dict[Family, Overrides] = {}

    def settings(self, family: str, sets: Mapping[str, Any]) -> tuple[int, Recipe, dict[str, str]]:
        """Sample rate, recipe and inferred settings of a family; `sets` (--set) goes last.

        Raises:
            UserError: a recipe field is unknown or out of range.
        """
        own = self.family.get(family, Overrides())  # type: ignore[call-overload]
        recipe = validated(Recipe, self.train | own.train | dict(sets), f"suite {self.title!r}, train")
        # what the user set is no inference of ours
        inferred = {k: v for k, v in (self.inferred | own.inferred).items() if k.removeprefix("train.") not in sets}
        return own.sample_rate or self.sample_rate or 16_000, recipe, inferred


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
        for key in suite.inferred | own.inferred:
            if key.removeprefix("train.") not in Recipe.model_fields or not key.startswith("train."):
                raise UserError(f"{path}: inferred names {key!r}, which is no field of [train] (write train.FIELD)")
    return suite


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


def validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build a model; what is wrong with the values becomes one line that names the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {'; '.join(_explain(e, model) for e in error.errors()[:3])}") from None


def _explain(error: Any, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(error["loc"]) == 1 else "see bench/suites for examples"
        return f"unknown field {field!r} (known: {known})"
    return f"{field}={error['input']!r}: {error['msg']}" if field else str(error["msg"])


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
