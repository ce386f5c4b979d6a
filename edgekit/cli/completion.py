"""`edgekit completion`: the script that teaches a shell to complete edgekit's commands and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from edgekit.cli.output import json_option, print_json

COMPLETE_VARIABLE = "_EDGEKIT_COMPLETE"  # that click looks for when the program is called edgekit
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that lets SHELL complete commands, options and names of targets, devices, recipes and passes.

    \b
    bash: add to ~/.bashrc:  eval "$(edgekit completion bash)"
    zsh:  add to ~/.zshrc:   eval "$(edgekit completion zsh)"
    fish: edgekit completion fish > ~/.config/fish/completions/edgekit.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # click knows all three
    root = click.get_current_context().find_root().command
    script = found(root, {}, "edgekit", COMPLETE_VARIABLE).source()
    if as_json:
        print_json({"shell": shell, "script": script})
        return
    click.echo(script)
