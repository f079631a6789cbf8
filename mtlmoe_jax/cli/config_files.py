"""Where a config is that a command names.

The files of `configs/` are also part of the installed package, as
`mtlmoe_jax/configs`, so that `--config=demo` works in any folder.
"""

import pathlib

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
