"""Where a config is that a command names.

The files of `configs/` are also part of the installed package, as
`mtlmoe_jax/configs`, so that `--config=demo` works in any folder.
"""

import difflib
import pathlib
from collections.abc import Sequence

_PACKAGE = pathlib.Path(__file__).parents[1]
# The second is that of a checkout.
FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def locate(name: str) -> str:
  """The file of a config.

  Args:
    name: FILE or FILE:OVERRIDES. A file that exists is taken as it is, else
      `demo`, `demo.py` and `configs/demo.py` are the package's own.

  Returns:
    The path with the overrides; `name` itself where no file is found.
  """
  path, colon, overrides = name.partition(":")
  if not path or pathlib.Path(path).is_file():
    return name
  inner = path.removeprefix("configs/")
  for folder in FOLDERS:
    for file in (folder / inner, folder / f"{inner}.py"):
      if file.is_file():
        return f"{file}{colon}{overrides}"
  return name


def missing(words: Sequence[str]) -> str:
  """What to say where --config names no config.

  Args:
    words: of the command line.
  """
  name = ""
  for word, value in zip(words, [*words[1:], ""]):
    flag, equals, text = word.partition("=")
    if flag.lstrip("-") == "config":
      name = (text if equals else value).partition(":")[0]
  known = sorted(
    {file.stem for folder in FOLDERS for file in folder.glob("[!_]*.py")}
  )
  near = difflib.get_close_matches(name, known, 1)
  mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
  return f"--config={name}: no such config; give a file, or a name: {mend}"
