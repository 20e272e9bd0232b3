"""`ottla completion`: what a shell needs to complete commands, options and names behind TAB."""

from typing import Annotated, Final, Literal

import typer

from ottla.cli.complete import VARIABLE

Shell = Literal["bash", "zsh", "fish"]
NAME: Final = "ottla"


def completion(shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", show_default=False)]) -> None:
    """Print the completion script for a shell.

    \b
    Examples, each for good:
      ottla completion bash >> ~/.bashrc
      ottla completion zsh >> ~/.zshrc           below its `compinit`
      ottla completion fish > ~/.config/fish/completions/ottla.fish
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name=NAME, complete_var=VARIABLE, shell=shell))
