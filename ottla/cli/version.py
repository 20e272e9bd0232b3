"""`ottla version`: what is installed here."""

from ottla.cli.options import Json


def installed() -> str:
    """The version of the package."""
    from importlib.metadata import version

    return version("ottla")


def version(as_json: Json = False) -> None:
    """Print the version.

    \b
    Examples:
      ottla version
    """
    from ottla.cli.output import print_json

    if as_json:
        print_json({"version": installed()})
    else:
        print(f"ottla {installed()}")
