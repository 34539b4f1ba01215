"""How jsonargparse reads our arguments, and how --help shows them."""

from argparse import SUPPRESS, Action
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader, set_loader

from experiments.machine.home import user_path
from ledger.errors import UserError

POSITIONAL = ("path", "ledger")
"""Paths that are arguments of their own."""

METAVARS = {
    "int": "N",
    "float": "X",
    "tuple[float, ...]": "[X,...]",
    "dict[str, float | int | bool | str]": "{NAME: VALUE, ...}",
    "<class 'Path'>": "PATH",
}


class HelpFormatter(DefaultHelpFormatter):
    """Without Python's types, and without defaults that say nothing."""

    def _get_help_string(self, action: Action) -> str:
        help, default = (action.help or "").removesuffix("."), action.default
        if "--print_config" in action.option_strings:
            return "print all of these arguments as a file for --config, and exit"
        if not action.option_strings or default in (None, SUPPRESS, "", (), {}) or default is False:
            return help
        if isinstance(default, Namespace):
            return help
        first = "that of the study, else " if action.dest == "pose" or action.dest.startswith("protocol.") else ""
        return f"{help} (default: {first}%(default)s)"

    def _get_default_metavar_for_optional(self, action: Action) -> str:
        usual: str = super()._get_default_metavar_for_optional(action)
        return METAVARS.get(self._get_type_str(action) or "", usual)


# What YAML cannot read is text. So are names of files that are no text, of which its reader makes a UnicodeEncodeError.
set_loader("yaml", get_loader("yaml"), exceptions=(yaml.YAMLError, UnicodeEncodeError))


class CommandLine:
    """A program's parser, and by its name each command's."""

    def __init__(self, prog: str, description: str) -> None:
        self.parser = ArgumentParser(
            prog=prog, description=description, exit_on_error=False, allow_abbrev=False, formatter_class=HelpFormatter
        )
        self.commands: dict[str, ArgumentParser] = {}
        self._subcommands = self.parser.add_subcommands(dest="command", metavar="COMMAND")

    def add(self, name: str, help: str) -> ArgumentParser:
        command = ArgumentParser(description=help, exit_on_error=False, formatter_class=HelpFormatter)
        self._subcommands.add_subcommand(name, command, help=help)
        self.commands[name] = command
        return command

    def parse(self, arguments: Sequence[str]) -> tuple[str, Namespace]:
        """The command and its options, `~` in paths resolved. Raises ArgumentError, and UserError for a path."""
        options = self.parser.parse_args(arguments)
        chosen = options[options.command]
        for option, value in vars(chosen).items():
            if isinstance(value, Path):
                given = {f"--{option}=", (f"--{option}", "")} & {*arguments, *pairwise(arguments)}
                if given or (option in POSITIONAL and arguments[1:2] == [""]):
                    raise UserError(
                        f"{option}: is empty, as a variable of the shell is that was not set; give it a path"
                    )
                chosen[option] = user_path(value, option)
            elif isinstance(value, list):
                chosen[option] = [user_path(each, option) if isinstance(each, Path) else each for each in value]
        return options.command, chosen
