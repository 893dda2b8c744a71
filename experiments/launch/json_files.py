"""Files of JSON, whose shape is checked as they are read: whoever wrote them may be wrong."""

import dataclasses
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

#: A type, or a record of shapes by name; a name that ends with "?" may be missing.
Shape = Any

_DEEPEST = 40  # no file of ours is half as deep, and recursion ends somewhere
_BRIEF = 60
_LARGEST = 1e300  # whole numbers of JSON have no end, floats do


class DamagedFileError(ValueError):
    """A file that is not what its name says; the message names it and the problem."""


def read(path: Path, shape: Shape = Any) -> Any:
    """Reads a file of JSON.

    Args:
        path: The file.
        shape: What it has to hold, see `check`.

    Raises:
        FileNotFoundError: If there is none.
        DamagedFileError: If it cannot be read, is no JSON, or has another shape.
    """
    try:
        if path.exists() and not path.is_file():
            raise DamagedFileError(f"{path} is no file")
        return parse(path.read_text(encoding="utf-8"), shape)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} does not exist") from error
    except DamagedFileError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedFileError(f"{path} is damaged: {brief(error, 200)}") from error


def parse(text: str | bytes, shape: Shape = Any) -> Any:
    """The value of a text of JSON.

    Raises:
        ValueError: If it is no JSON, or has another shape.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    _check_depth(value)
    check(value, shape)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            entry
            for one in level
            if isinstance(one, dict | list)
            for entry in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_DEEPEST} levels")


def check(value: Any, shape: Shape, name: str = "") -> None:
    """Checks a value of JSON.

    Args:
        value: The value.
        shape: `Any`, `Literal`, `None`, `bool`, `int`, `float` (or a whole number), `str`, `A | B`,
            `list[A]`, `tuple[A, ...]` and `tuple[A, B]` (lists in JSON), `dict[str, A]`, a
            dataclass, or a record `{name: shape}`. Of a dataclass and a record, names that the
            value has beyond these are not looked at; of a dataclass, any may be missing.
        name: What messages call the value.

    Raises:
        ValueError: Naming the part, what it is, and what it should be.
    """
    origin, arguments = get_origin(shape), get_args(shape)
    if origin in (Union, types.UnionType):
        _check_union(value, arguments, name)
    elif isinstance(shape, Mapping) or dataclasses.is_dataclass(shape):
        _check_record(value, shape, name)
    elif origin in (list, tuple):
        _require(isinstance(value, list), value, "a list", name)
        if origin is tuple and arguments[-1] is not Ellipsis:
            _require(len(value) == len(arguments), value, f"{len(arguments)} values", name)
            kinds = arguments
        else:
            kinds = arguments[:1] * len(value)
        for index, (entry, kind) in enumerate(zip(value, kinds, strict=True)):
            check(entry, kind, f"{name}[{index}]")
    elif origin is dict or origin is Mapping:
        _require(isinstance(value, dict), value, "an object", name)
        for key, entry in value.items():
            check(entry, arguments[1], _below(name, key))
    elif origin is Literal:
        _require(value in arguments, value, " or ".join(map(repr, arguments)), name)
    elif shape is not Any:
        _require(_is_plain(value, shape), value, _in_words(shape), name)


def _check_union(value: Any, shapes: tuple[Any, ...], name: str) -> None:
    if value is None and type(None) in shapes:
        return
    problems = []
    for shape in shapes:
        if shape is type(None) or get_origin(shape) is Callable:
            continue  # JSON holds no functions
        try:
            check(value, shape, name)
            return
        except ValueError as error:
            problems.append(error)
    if len(problems) == 1:
        raise problems[0]
    _require(False, value, " or ".join(map(_in_words, shapes)), name)


def _check_record(value: Any, shape: Any, name: str) -> None:
    _require(isinstance(value, dict), value, "an object", name)
    if dataclasses.is_dataclass(shape):
        hints = get_type_hints(shape)
        shape = {f"{entry.name}?": hints[entry.name] for entry in dataclasses.fields(shape)}
    for key, kind in shape.items():
        entry = key.removesuffix("?")
        if entry in value:
            check(value[entry], kind, _below(name, entry))
        elif entry == key:
            raise ValueError(f"{name or 'it'} has no {entry!r}")


def _is_plain(value: Any, shape: Any) -> bool:
    if shape in (None, type(None)):
        return value is None
    if shape is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) < _LARGEST
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, shape)


def _require(holds: bool, value: Any, wanted: str, name: str) -> None:
    if not holds:
        raise ValueError(f"{name or 'it'} is {brief(json.dumps(value))}, and not {wanted}")


def _below(name: str, key: str) -> str:
    return brief(f"{name}.{key}" if name else key)


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    type(None): "null",
}


def _in_words(shape: Any) -> str:
    return _WORDS.get(shape) or getattr(shape, "__name__", None) or str(shape)


def brief(value: Any, longest: int = _BRIEF) -> str:
    """A value for a message: its beginning, where it is long."""
    text = str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
