"""The one door through which every command reads its flags: tyro, after checks that it lacks."""

import argparse
import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

T = TypeVar("T")

_REGISTRY = tyro.constructors.ConstructorRegistry()
_NAME_BYTES, _PATH_BYTES = 255, 4000  # of Linux, less what is written below a folder


@_REGISTRY.primitive_rule
def _whole_numbers(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec[int] | None:
    """Whole numbers as tyro reads them, but that 1e4 is told how it is written."""
    if info.type is not int:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: _whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )


def _whole_number(word: str) -> int:
    try:
        return int(word)
    except ValueError:
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(word)
        hint = f": write {value:.0f}" if value.is_integer() else ""
        raise ValueError(f"{word!r} is no whole number in digits{hint}") from None


def read_flags(
    cls: type[T], argv: Sequence[str] | None, program: str, default: T | None = None
) -> T:
    """Reads a command line into a dataclass; paths have their `~` expanded.

    Args:
        cls: A dataclass whose fields are the flags.
        argv: The command line; None for the process's own.
        program: What `--help` calls the command.
        default: The defaults, where they are not those of the type.

    Raises:
        ValueError: If a value is empty, a flag is given twice with different values, or a path
            cannot be one.
        SystemExit: With status 2 on unreadable flags, with status 0 after `--help`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if not {"-h", "--help"} & set(words):
        given_flags(words)
    found = tyro.cli(cls, args=words, default=default, prog=program, registry=_REGISTRY)
    return dataclasses.replace(  # type: ignore[type-var]
        found,  # pyright: ignore[reportArgumentType]
        **{
            entry.name: _paths(entry.name, getattr(found, entry.name))
            for entry in dataclasses.fields(found)  # pyright: ignore[reportArgumentType]
            if entry.init
        },
    )


def read_first(argv: Sequence[str] | None, *flags: str) -> list[str | None]:
    """Values of some flags, read before the others; None for flags that are left out."""
    words = sys.argv[1:] if argv is None else argv
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in flags:
        first.add_argument(flag, nargs="?")
    with contextlib.suppress(argparse.ArgumentError):
        found = vars(first.parse_known_args(list(map(_dashes, words)))[0])
        return [found[flag.removeprefix("--").replace("-", "_")] for flag in flags]
    return [None] * len(flags)


def _dashes(word: str) -> str:
    """A flag as tyro names it, which takes `--first_order` as well."""
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value if word.startswith("--") else word


def check_evaluation(episodes: int, seed: int) -> None:
    """Raises ValueError for a count of episodes, or a seed of them, that cannot be.

    Args:
        episodes: Of `--episodes`.
        seed: Of `--seed`.
    """
    if episodes < 1:
        raise ValueError(f"--episodes {episodes} must be at least 1")
    check_seed(seed)


def check_seed(seed: int, flag: str = "--seed", bits: int = 32) -> None:
    """Raises ValueError for a seed that random keys do not take, or a command does not.

    Args:
        seed: The seed.
        flag: Where it comes from.
        bits: The largest one has so many.
    """
    if not 0 <= seed < 2**bits:
        raise ValueError(f"{flag} {seed} must be from 0 to 2**{bits} - 1")


def given_flags(words: Sequence[str]) -> dict[str, list[str]]:
    """The flags that a command line names, `no-` taken off, and their values.

    Raises:
        ValueError: If a value is empty or holds a NUL, or a flag has two different values.
    """
    values: dict[str, list[str]] = {}
    forms: dict[str, tuple[str, list[str]]] = {}
    flag, own = "", list[str]()
    for word in [*words, "--"]:
        if "\0" in word:
            raise ValueError(f"{flag} {word!r} holds a NUL character: no name can".strip())
        if not word.startswith("--"):
            own.append(word)
        else:
            _note(flag, own, forms, values)
            flag, equals, value = word.partition("=")
            own = [value] if equals else []
        if "" in own:
            raise ValueError(f"{flag} '' is empty: give it a value, or leave it out".strip())
    return values


def _note(
    flag: str,
    own: list[str],
    forms: dict[str, tuple[str, list[str]]],
    values: dict[str, list[str]],
) -> None:
    """Notes one flag and its values."""
    name = flag.removeprefix("--").replace("_", "-")
    if not name:
        return
    key = name.removeprefix("no-")
    form = (name, own)
    if forms.setdefault(key, form) != form:
        (other, before) = forms[key]
        one, two = (" ".join(["--" + n, *v]) for n, v in ((other, before), form))
        raise ValueError(f"{one} and {two} contradict each other: give one of them")
    values[key] = own


def _paths(name: str, value: Any) -> Any:
    """Expands what is a path."""
    if isinstance(value, Path):
        return check_path(f"--{name.replace('_', '-')}", value)
    if isinstance(value, tuple) and any(isinstance(entry, Path) for entry in value):
        return tuple(_paths(name, entry) for entry in value)
    return value


def check_path(flag: str, path: Path) -> Path:
    """A path with its `~` expanded.

    Raises:
        ValueError: If no file or folder can have this name.
    """
    if "\0" in str(path):
        raise ValueError(f"{flag} {str(path)!r} holds a NUL character: no name can")
    try:
        expanded = path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{flag} {path}: there is no home folder {path.parts[0]}") from error
    longest = max((len(os.fsencode(part)) for part in expanded.parts), default=0)
    if longest > _NAME_BYTES:
        raise ValueError(
            f"{flag} {path.parts[0][:20]}... holds a name of {longest} bytes: a file system takes "
            f"at most {_NAME_BYTES}"
        )
    if len(os.fsencode(expanded.absolute())) > _PATH_BYTES:
        raise ValueError(f"{flag} {str(path)[:20]}... is longer than {_PATH_BYTES} bytes")
    return expanded
