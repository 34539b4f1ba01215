"""How jsonargparse reads our arguments, and how --help shows them."""

from argparse import SUPPRESS, Action

import yaml
from jsonargparse import DefaultHelpFormatter, Namespace, get_loader, set_loader

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
