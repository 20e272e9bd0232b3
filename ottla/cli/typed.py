"""Commands made of functions: what `Annotated` says of a parameter becomes an option or an argument of click's.

`Option` and `Argument` take click's own keywords, and `min` and `max` for numbers. A parameter without a default must
be given; a list may be given several times, and is the default where it was not.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

Function = TypeVar("Function", bound=Callable[..., None])
_RANGES: dict[Any, Any] = {int: click.IntRange, float: click.FloatRange}


class Option:
    """How an option is written, and what click is to know of it."""

    def __init__(self, *names: str, min: float | None = None, max: float | None = None, **more: Any) -> None:
        self.names = names
        self.bounds = {"min": min, "max": max}
        self.more = more


class Argument(Option):
    """The same of what stands without a name; `metavar` is what it is called."""


class Group(click.Group):
    """Commands below one word; without one of them it shows its help."""

    def __init__(self, help: str, **more: Any) -> None:
        super().__init__(help=help, no_args_is_help=True, **more)

    def list_commands(self, _: click.Context) -> list[str]:
        """In the order in which they are written down."""
        return list(self.commands)

    def verb(self, name: str | None = None) -> Callable[[Function], Function]:
        """Takes the function in; under its own name if it is given no other."""

        def take(function: Function) -> Function:
            self.add_command(command(name or function.__name__, function))
            return function

        return take


def command(name: str, function: Callable[..., None]) -> click.Command:
    """The function as a command of its own."""
    return click.Command(name, **parts_of(function))


def parts_of(function: Callable[..., None]) -> dict[str, Any]:
    """Parameters, callback and help, as the constructors of commands and groups take them."""
    hints = get_type_hints(function, include_extras=True)
    defaults = {each.name: each.default for each in inspect.signature(function).parameters.values()}

    def call(**values: Any) -> None:
        for name, value in values.items():
            if isinstance(value, tuple):
                values[name] = list(value) or defaults[name]
        function(**values)

    return {
        "params": [_parameter(name, hints[name], default) for name, default in defaults.items()],
        "callback": call,
        "help": inspect.getdoc(function),
    }


def _parameter(name: str, hint: Any, default: Any) -> click.Parameter:
    kind, said = get_args(hint)
    if isinstance(kind, UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    many = get_origin(kind) is list
    if many:
        (kind,) = get_args(kind)
    more = {"required": default is inspect.Parameter.empty, **said.more}
    if not more["required"]:
        more["default"] = default
    if kind in _RANGES:
        more.setdefault("metavar", "N")
    if isinstance(said, Argument):
        return click.Argument([name], nargs=-1 if many else 1, type=_type(kind, said.bounds), **more)
    if kind is bool:
        return click.Option([*said.names, name], is_flag=True, **more)
    more |= {"show_default": default != "", "show_envvar": True}
    return click.Option([*said.names, name], multiple=many, type=_type(kind, said.bounds), **more)


def _type(kind: Any, bounds: dict[str, float | None]) -> Any:
    if get_origin(kind) is Literal:
        return click.Choice(get_args(kind))
    if kind is Path:
        return click.Path(path_type=Path)
    return _RANGES[kind](**bounds) if any(bound is not None for bound in bounds.values()) else kind
