"""run.json: what a finished run was, what came of it, and where it comes from."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema
from typing_extensions import TypedDict

from bench.protocol.spec import RunSpec
from bench.schema import LATER

__all__ = ["FORMAT", "Amount", "Count", "MetricValue", "Provenance", "RunRecord"]

# of all files of a results folder; older ones are read through format1.py
FORMAT = 2
# JSON has whole numbers of any length, and nothing else has; of two that are near the end of floats there is no mean
_LARGEST = 2**63 - 1


def _number(value: Any) -> Any:
    """Refuse what is no number; one that is not finite says that there is none, as null does."""
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise ValueError("should be a number or null")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is not None and abs(value) > _LARGEST:
        raise ValueError("too large")
    return value


def _amount(value: Any) -> Any:
    if value is None or _number(value) is None or value < 0:
        raise ValueError("should be a number of 0 or more")
    return value


def _none_is_nan(value: Any) -> Any:
    return math.nan if _number(value) is None else value


# a metric, None where it does not exist, such as the mean over no class
MetricValue = Annotated[float | int | None, BeforeValidator(_number)]
# a score that selects, which NaN is where it does not exist; null in JSON, as everywhere
_Score = Annotated[float, BeforeValidator(_none_is_nan)]
Count = Annotated[int, Field(strict=True, ge=0, le=_LARGEST)]
Amount = Annotated[int | float, BeforeValidator(_amount)]


class _Keys:
    """What a dictionary holds, for a field that stays a plain dictionary to those who use it."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler.generate_schema(self.kind)


class _Record(BaseModel):
    # a later version may say more
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Published(TypedDict):
    """An architecture's figures in the literature, each where it is known, with the protocol that they rest on."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    map: NotRequired[Amount | None]
    top5: NotRequired[Amount | None]
    parameters: NotRequired[Amount | None]
    source: NotRequired[str]
    sample_rate: NotRequired[Count | None]
    chunks: NotRequired[str]
    aggregation: NotRequired[str]
    selection: NotRequired[str]
    note: NotRequired[str]
    second_hand: NotRequired[dict[str, str]]
    inferred: NotRequired[dict[str, str]]


class _Cost(TypedDict):
    """What a run costs, beside its score: counts, bytes and seconds."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    parameters: Count
    # not measured everywhere
    macs: NotRequired[Amount | None]
    train_memory_bytes: NotRequired[Amount | None]
    latency_seconds: NotRequired[Amount | None]
    train_seconds: Amount
    samples_per_second: Amount
    # in training; not in older records
    epochs: NotRequired[Amount]
    seconds: Amount


class _Data(TypedDict):
    """What a run was trained and judged on; `dataset` is a digest of clips and labels, the same at every rate."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    sample_rate: NotRequired[Count]
    fingerprint: NotRequired[str]
    dataset: str
    # clips of eval that are, to the sample, in train or val, too; not in older records, nor known of older packs
    copied_eval_clips: NotRequired[Count | None]
    # a digest of what gives sounds the codes that are predicted, of tasks that make it
    codes: NotRequired[str]


class _Init(TypedDict):
    """Of the run whose weights were the start. Of examples, `steps` batches were drawn."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    entry: str
    system: str
    task: str
    task_settings: dict[str, Any]
    # a digest of them
    weights: str
    steps: Count
    examples: Count
    train_seconds: Amount
    source: str
    loaded: Count
    new: list[str]


def _if_any(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Ask for keys only where there is something: nothing is said of weights that the seed drew."""
    return value if value == {} else validate(value)


class Provenance(_Record):
    """Where a number comes from."""

    # of the code: git's commit, whether it had been changed since, and digests of what decides numbers
    commit: str | None
    dirty: Annotated[bool, Field(strict=True)]
    source: dict[str, str]
    command: str
    # when the run began, ISO 8601
    date: str
    versions: dict[str, str]
    device: str
    threads: Count = 0
    # the installed package that the architecture is from, with its version; '' for one of the project, or of a file
    package: str = ""

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(serialize(self), "package")


class RunRecord(_Record):
    """A finished run."""

    format: int = FORMAT
    spec: RunSpec
    hash: str
    family: str
    # the architecture's figures in the literature, where there are any
    published: Annotated[dict[str, Any] | None, _Keys(_Published | None)] = None
    # on eval: of the trained model, of the one that training began with, and without any learning
    metrics: dict[str, MetricValue]
    untrained: dict[str, MetricValue]
    floors: dict[str, _Score] = {}
    # the task's class metric by class name, where it exists
    class_scores: dict[str, MetricValue] = {}
    # the primary metric on val at the step that was kept, and how many steps were done
    val_score: _Score
    best_step: Count
    steps: Count
    cost: Annotated[dict[str, Any], _Keys(_Cost)]
    data: Annotated[dict[str, Any], _Keys(_Data)]
    provenance: Provenance
    # digest of scores.npz's array; '' in records from before there was one
    scores: str = ""
    # of the run whose weights were the start: its entry, task and settings, what it took, and which weights are new
    init: Annotated[dict[str, Any], _Keys(_Init), WrapValidator(_if_any), LATER] = {}

    @model_validator(mode="after")
    def _says_what_it_started_from(self) -> Self:
        if self.spec.init and not self.init:
            raise ValueError(f"init: missing, of a run that started from the weights of {self.spec.init} (spec.init)")
        return self

    @model_serializer(mode="wrap")
    def _without_nothing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(serialize(self), "scores", "init")

    @property
    def dataset(self) -> str:
        """A digest of the data set, the same at every sample rate."""
        return str(self.data["dataset"])

    @property
    def system(self) -> str:
        """What all seeds share, and no other run: of whose weights the start was, `RunSpec.system` says nothing."""
        return self.spec.system + str(self.init.get("system", ""))


def _without_empty(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a record without those of the named fields that say nothing.

    Trackers know a record by a digest of all that it says: those of before the field should not seem to be others.
    """
    return {key: value for key, value in values.items() if key not in names or value}
