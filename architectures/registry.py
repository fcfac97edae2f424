"""Who takes part: names mapped to a config, a class and, where there is one, the published row."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError
from torch import nn

Family = Literal["cnn", "transformer", "hybrid"]
FAMILIES: tuple[Family, ...] = get_args(Family)
ModelClass = TypeVar("ModelClass", bound=type[nn.Module])


class ConfigError(ValueError):
    """An unknown architecture, or a field that is unknown or has an impossible value; one line, for the user."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """What every contestant is told about its data. Subclasses add widths and depths, and check them when made."""

    sample_rate: int = 16_000
    num_classes: int = 200


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of a paper's table: macro mAP on FSD50K's eval split, and the protocol under which it was obtained."""

    map: float
    parameters: float
    source: str
    sample_rate: int
    chunks: str
    aggregation: str
    selection: str
    note: str = ""


@dataclass(frozen=True)
class Architecture:
    """An entry of the registry."""

    name: str
    family: Family
    config: ArchitectureConfig
    model: type[nn.Module]
    published: Published | None = None
    contestant: bool = True
    inferred: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The first line of the class's docstring."""
        return (self.model.__doc__ or "").strip().split("\n")[0]


_architectures: dict[str, Architecture] = {}


def register(
    name: str,
    *,
    family: Family,
    config: ArchitectureConfig,
    published: Published | None = None,
    contestant: bool = True,
    inferred: Mapping[str, str] | None = None,
) -> Callable[[ModelClass], ModelClass]:
    """Enter a class into the benchmark under `name`; a class may be entered several times, with other configs.

    Args:
        config: an instance; its values are the defaults of this variant.
        contestant: whether suites that run 'all' run it.
        inferred: config fields that no source documents, with what the chosen value rests on. Tables footnote them.

    Raises:
        ConfigError: the name is taken, the family unknown, or `inferred` names a field that the config lacks.
    """

    def enter(model: ModelClass) -> ModelClass:
        if name in _architectures:
            taken_by = _architectures[name].model
            raise ConfigError(
                f"architecture {name!r} is registered twice: {taken_by.__module__} and {model.__module__}"
            )
        if family not in FAMILIES:
            raise ConfigError(f"{name}: family {family!r} should be one of {', '.join(FAMILIES)}")
        unknown = set(inferred or {}) - field_names(config)
        if unknown:
            raise ConfigError(f"{name}: inferred names fields that the config lacks: {', '.join(sorted(unknown))}")
        _architectures[name] = Architecture(name, family, config, model, published, contestant, inferred or {})
        return model

    return enter


def list_architectures(*, contestants_only: bool = False) -> list[str]:
    """All names, in the order of registration within each family: cnn, transformer, hybrid."""
    entries = sorted(_architectures.values(), key=lambda entry: FAMILIES.index(entry.family))
    return [entry.name for entry in entries if entry.contestant or not contestants_only]


def get_architecture(name: str) -> Architecture:
    """The entry of that name. Raises ConfigError for an unknown one, with the nearest known name."""
    if name not in _architectures:
        raise ConfigError(f"no architecture {name!r}{did_you_mean(name, _architectures)}; `bench list` shows all")
    return _architectures[name]


def configure(name: str, **overrides: Any) -> ArchitectureConfig:
    """The variant's config with some fields replaced, every field's type checked. Raises ConfigError."""
    config = get_architecture(name).config
    for key in overrides:
        if key not in field_names(config):
            raise ConfigError(f"{name} has no field {key!r}{did_you_mean(key, field_names(config))}")
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)} | overrides
    try:
        return TypeAdapter(type(config)).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise ConfigError(f"{name}: {where + ': ' if where else ''}{what}") from None


def create(name: str, **overrides: Any) -> nn.Module:
    """Build a contestant; weights are drawn from torch's global generator. Raises ConfigError."""
    return get_architecture(name).model(configure(name, **overrides))


def field_names(config: ArchitectureConfig) -> set[str]:
    return {f.name for f in dataclasses.fields(config)}


def did_you_mean(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
