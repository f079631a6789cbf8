"""docs/options.md, from the declarations.

python -m mtlmoe_jax.config.page > docs/options.md
python -m mtlmoe_jax.config.page model.gate    # those with these names alone
"""

import sys
from collections.abc import Iterable, Sequence

from mtlmoe_jax.config.defaults import OPTIONS
from mtlmoe_jax.config.names import RENAMED
from mtlmoe_jax.config.option import Option

_HEAD = """\
# Options

Every option of a config, as `mtlmoe_jax/config/defaults.py` declares it. This
page is generated: `python -m mtlmoe_jax.config.page > docs/options.md`.

An option is set

- in a config file or in Python: `config.model.k = (2, 1)`;
- on a command line: `--config.model.k=2,1`;
- after the config file, by its path or its last name:
  `--config=configs/cub10.py:k=2,experts=6`.

What is set is stored as the command line has it, so `config.model.k` reads
`"2,1"` in all three cases; `config.resolve(config)` has the typed values. Each
value is checked before anything is opened or built.

"""
_TITLES = {
  "": "The run",
  "data": "Data",
  "fit": "Choices by the data",
  "features": "Features of a frozen stem",
  "model": "Model",
  "model.token_moe": "Experts of patch tokens",
  "loss": "Loss",
  "optimizer": "Optimizer",
  "mesh": "Devices",
  "transfer": "Transfer",
  "checkpoint": "Checkpoints",
  "log": "Log",
  "eval": "Evaluation",
}
_TABLE = "| option | default | values | what and why |\n|---|---|---|---|\n"


def page() -> str:
  """The whole page, Markdown."""
  groups: dict[str, list[Option]] = {title: [] for title in _TITLES}
  for option in OPTIONS:
    groups[_group(option)].append(option)
  parts = [
    f"## {_TITLES[group]}\n\n{table(options)}"
    for group, options in groups.items()
  ]
  return _HEAD + "\n".join([*parts, _renamed()])


def table(options: Iterable[Option]) -> str:
  """Some options as a Markdown table."""
  return _TABLE + "".join(map(_row, options))


def _group(option: Option) -> str:
  parents = option.path.split(".")[:-1]
  path = ".".join(parents)
  return path if path in _TITLES else (parents or [""])[0]


def _row(option: Option) -> str:
  cells = (
    f"`{option.path}`",
    f"`{_default(option.default)}`",
    _values(option),
    option.why,
  )
  escaped = (cell.replace("|", "\\|") for cell in cells)
  return f"| {' | '.join(escaped)} |\n"


def _default(value: object) -> str:
  return f'"{value}"' if isinstance(value, str) else repr(value)


def _values(option: Option) -> str:
  """Types, then what they may be."""
  text = option.allowed.text
  return f"{option.takes.python}; {text}" if text else option.takes.python


def _renamed() -> str:
  rows = "".join(f"| `{old}` | `{new}` |\n" for old, new in RENAMED.items())
  return (
    "## Earlier names\n\nThey still work in config files, in saved configs and "
    "after the colon; on a\ncommand line those that are Python keywords never "
    f"did.\n\n| up to 0.2.0 | now |\n|---|---|\n{rows}"
  )


def main(words: Sequence[str]) -> int:
  """Prints the page, or the options whose names have one of the words."""
  if not words:
    sys.stdout.write(page())
    return 0
  options = [o for o in OPTIONS if any(word in o.path for word in words)]
  sys.stdout.write(table(options))
  return 0 if options else 2


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
