"""Names of options: earlier ones, and those nearest to a mistyped one."""

import difflib
from collections.abc import Sequence

# Where all options are listed, for messages.
PAGE = "docs/options.md"

# Names up to 0.2.0. `from` and `class` are Python keywords, which the parser of
# `--config.` flags refuses.
RENAMED = {
  "transfer.from": "transfer.source",
  "loss.class": "loss.class_weight",
  "loss.box": "loss.box_weight",
  "model.normalisation": "model.normalization",
}


def current(path: str) -> str:
  """The name of today for a name of any version."""
  return RENAMED.get(path, path)


def matches(key: str, paths: Sequence[str]) -> list[str]:
  """The options that a key may mean.

  Args:
    key: a full path (`model.token_moe.experts`) or the last name alone
      (`experts`), also one of earlier versions.
    paths: all options.

  Returns:
    The option of that path, else those of that last name that lie least deep.
  """
  if key in RENAMED or key in paths:
    return [current(key)]
  named = [p for p in (*paths, *RENAMED) if p.rsplit(".", 1)[-1] == key]
  depth = min((p.count(".") for p in named), default=0)
  return [current(p) for p in named if p.count(".") == depth]


def closest(key: str, paths: Sequence[str]) -> str:
  """The options nearest to a mistyped one, with commas; perhaps none."""
  last = {p.rsplit(".", 1)[-1]: p for p in paths}
  near = difflib.get_close_matches(key, paths, 3, 0.5) or [
    last[name]
    for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], last, 3, 0.5)
  ]
  return ", ".join(near)
