"""`ottla completion`: what a shell needs to complete commands, options and names behind TAB."""

from typing import Annotated, Final, Literal

import click

from ottla.cli import typed
from ottla.cli.complete import VARIABLE

Shell = Literal["bash", "zsh", "fish"]
NAME: Final = "ottla"


def completion(shell: Annotated[Shell, typed.Argument(metavar="bash|zsh|fish")]) -> None:
    """Print the completion script for a shell.

    \b
    Examples, each for good:
      ottla completion bash >> ~/.bashrc
      ottla completion zsh >> ~/.zshrc           below its `compinit`
      ottla completion fish > ~/.config/fish/completions/ottla.fish
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script is not None
    root = click.get_current_context().find_root().command
    print(script(root, {}, NAME, VARIABLE).source())
