"""A grid: fields with lists of values, crossed over every entry of a suite."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.schema import validated

__all__ = ["Grid", "check_grid", "field_of", "point_name", "point_of", "points", "value_text"]

_TABLES = ("train", "config", "task_settings")
# what leaves every value of a single field possible: how fields go together is checked entry by entry
_LENIENT = {"chunk_seconds": 30.0, "hop_seconds": 0.01}


def _flat(tables: Any) -> Any:
    """Return a [grid] as TOML has it with one name a field: train.learning_rate, config.depth, sample_rate."""
    if not isinstance(tables, dict):
        return tables
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        of_table = name in _TABLES and isinstance(value, dict)
        flat |= {f"{name}.{field}": values for field, values in value.items()} if of_table else {name: value}
    for name in flat:
        table, _, field = name.partition(".")
        if name != "sample_rate" and (table not in _TABLES or not field):
            raise ValueError(
                f"{name} is no field of a grid: write train.FIELD, config.FIELD, task_settings.FIELD or sample_rate"
            )
    if not flat:
        raise ValueError("it has no field: write train.FIELD = [VALUE, VALUE], or leave [grid] out")
    return flat


def _no_twice(values: list[Any]) -> list[Any]:
    seen = set()
    for value in values:
        if (key := _key(value)) in seen:
            raise ValueError(f"{value!r} is in the list twice: leave one out")
        seen.add(key)
    return values


def _key(value: Any) -> Any:
    """Return what values that are the same share: 1 and 1.0 do, and true is another one."""
    if isinstance(value, list):
        return tuple(map(_key, value))
    return (isinstance(value, bool), value if isinstance(value, int | float | str) else repr(value))


_Values = Annotated[list[Any], Field(min_length=1, max_length=1000), AfterValidator(_no_twice)]
Grid = Annotated[dict[str, _Values], BeforeValidator(_flat)]


def points(grid: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield every combination of a grid's values, by field; the last field changes fastest."""
    return (dict(zip(grid, values, strict=True)) for values in product(*grid.values()))


def field_of(name: str) -> str:
    """Return a field of a grid without its table."""
    return name.partition(".")[2] or name


def point_name(point: Mapping[str, Any]) -> str:
    """Return what a combination adds to an entry's name: learning_rate_0.0001-depth_3."""
    return "-".join(f"{field_of(name)}_{value_text(value)}" for name, value in point.items())


def point_of(name: str, grid: Mapping[str, list[Any]]) -> tuple[str, dict[str, Any]] | None:
    """Return the entry and the combination that an entry's name is made of; None where it is not of this grid."""
    point: dict[str, Any] = {}
    for field, values in reversed([*grid.items()]):
        ends = {f"-{point_name({field: value})}": value for value in values}
        end = next(filter(name.endswith, ends), None)
        if end is None:
            return None
        point = {field: ends[end]} | point
        name = name.removesuffix(end)
    return name, point


def value_text(value: Any) -> str:
    """Return a value as it stands in names: 0.0001, true, 32+64."""
    if isinstance(value, list):
        return "+".join(map(value_text, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_grid(grid: Mapping[str, list[Any]], where: str) -> None:
    """Raise UserError for a recipe field or sample rate that can't be; configs are checked where they are known."""
    for name, values in grid.items():
        for value in values:
            if name.startswith("train."):
                validated(Recipe, _LENIENT | {field_of(name): value}, f"{where} train")
            elif name == "sample_rate" and not (type(value) is int and value > 0):
                raise UserError(f"{where}: sample_rate={value!r}: should be a whole number of Hz above 0")
