"""What is run: recipes, runs and suites; typed, checked where they are made, and hashed. Knows no torch."""

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from bench.errors import UserError

Family = Literal["cnn", "transformer", "hybrid"]  # as in architectures._registry, which needs torch
SUITES = Path(__file__).parent / "suites"

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Recipe(Strict):
    """How a contestant is trained and how its chunks are cut; the same fields for all."""

    loss: Literal["bce", "huber"] = "bce"
    learning_rate: PositiveFloat = 5e-4
    weight_decay: NonNegativeFloat = 0.0  # decoupled (AdamW, arXiv:1711.05101), of matrices and kernels only
    batch_size: PositiveInt = 64
    updates: PositiveInt = 10_000
    schedule: Literal["cosine", "plateau"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # of the updates
    # val is scored this many times, evenly spread; the best of these is kept
    evaluations: PositiveInt = 10
    # evaluations without a better val mAP until the rate is halved (plateau) and until training ends (0: never)
    patience: PositiveInt = 3
    early_stop: NonNegativeInt = 0
    # how clips are cut, for training and evaluation; clips shorter than a chunk are repeated
    chunk_seconds: Annotated[float, Field(ge=0.1, le=30)] = 1.0
    hop_seconds: Annotated[float, Field(ge=0.01)] = 1.0  # from one chunk of a clip to the next
    test_hop_seconds: Annotated[float, Field(ge=0.01)] | None = None  # on val and eval; None: hop_seconds
    chunks: Literal["all", "one"] = "all"  # an epoch: every chunk of every clip, or one of each clip, drawn anew
    aggregate: Literal["scores", "logits"] = "scores"  # a clip's score: mean of scores, or score of the mean logit
    # of training; evaluation is always fp32. auto: bf16 where the device computes in it, else fp32
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    channels_last: bool = False  # memory layout of convolutions: speed, not arithmetic
    # augmentation of training chunks, as PaSST does it (arXiv:2110.05069); nothing at 0, see augment.py
    gain_db: NonNegativeFloat = 0.0  # louder or softer by up to this much
    time_shift: Annotated[float, Field(ge=0, le=1)] = 0.0  # shifted in a circle by up to this share of the chunk
    mixup: NonNegativeFloat = 0.0  # chunks and labels mixed in pairs, by shares from Beta(mixup, mixup)

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        for name in ("hop_seconds", "test_hop_seconds"):
            if (getattr(self, name) or 0) > self.chunk_seconds:
                raise ValueError(f"{name}={getattr(self, name)} is more than chunk_seconds={self.chunk_seconds}")
        return self

    @property
    def test_hop(self) -> float:
        """Seconds from one chunk of a clip to the next, in evaluation."""
        return self.test_hop_seconds or self.hop_seconds

    def test_chunks(self, seconds: float) -> int:
        """How many chunks evaluation cuts a clip of that length into."""
        return 1 + math.ceil(round(max(0.0, seconds - self.chunk_seconds) / self.test_hop, 6))

    def on(self, *, bf16: bool) -> "Recipe":
        """What `auto` means on a device that computes in bf16, or does not."""
        if self.precision != "auto":
            return self
        return self.model_copy(update={"precision": "bf16" if bf16 else "fp32"})

    def evaluation_updates(self) -> set[int]:
        """After which updates (counted from 1) val is scored."""
        return {-(-self.updates * i // self.evaluations) for i in range(1, self.evaluations + 1)}


class RunSpec(Strict):
    """One architecture, one recipe, one seed, one pack: all that decides a run's numbers."""

    name: str  # of the row in the table
    architecture: str
    config: dict[str, Any]  # every field, defaults included
    recipe: Recipe  # its precision settled: not auto
    seed: NonNegativeInt
    pack: str  # fingerprint
    inferred: dict[str, str] = {}  # field -> what its value rests on, where no source documents it
    source: str = ""  # digest of the architecture's text, if it is from outside the project
    base: str = ""  # the row that this one is compared with, if it is an ablation
    question: str = ""  # that it is to answer

    @model_serializer(mode="wrap")
    def _no_empty_extras(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return {k: v for k, v in values.items() if v or k not in ("source", "base", "question")}

    @property
    def hash(self) -> str:
        """Eight hex digits of everything that decides the numbers (name and footnotes do not)."""
        return digest(self.model_dump(mode="json", exclude={"name", "inferred", "base", "question"}))[:8]

    @property
    def folder(self) -> str:
        return f"{self.name}-s{self.seed}-{self.hash}"


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


class Dimension(Strict):
    """What a search may choose one field from: a range, even or even in the logarithm, or a list of values."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: Annotated[tuple[bool | int | float | str, ...], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("either low and high, or choices")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("write {low = .., high = ..}, low below high, or {choices = [..]}")
        elif self.log and self.low <= 0:
            raise ValueError("with log, low must be above 0")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that are allowed if all of the dimension is."""
        return self.choices or (self.low, self.high)

    def holds(self, value: Any) -> bool:
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None
        assert self.high is not None
        return isinstance(value, int | float) and self.low <= value <= self.high


class Budget(Strict):
    """What each contestant's search may spend: finished trials, or hours of compute measured over all workers."""

    trials: PositiveInt | None = None
    hours: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.trials is None) == (self.hours is None):
            raise ValueError("give either trials or hours")
        return self

    def __str__(self) -> str:
        return f"{self.trials} trials" if self.trials else f"{self.hours:g} hours of compute"


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


# what a trial costs, and what its learning curve is read at, must be the same for all trials of a search
NOT_SEARCHED = (
    "updates", "evaluations", "precision", "channels_last",
    "chunk_seconds", "hop_seconds", "test_hop_seconds", "chunks", "aggregate",
)  # fmt: skip


def _check_space(space: Mapping[str, Dimension], path: Path) -> None:
    """Recipe fields only; those of architectures are checked where these are known."""
    for name, dimension in space.items():
        if name in NOT_SEARCHED:
            raise UserError(f"{path}, [space]: {name} is the same for all trials; set it in [train]")
        for value in dimension.ends if name in Recipe.model_fields else ():
            validated(Recipe, {name: value}, f"{path}, [space]")


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
