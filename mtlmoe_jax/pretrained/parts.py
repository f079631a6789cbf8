"""The backbone inside of a model's variables.

A model holds it in two parts, either of which may be empty: `stem` (the shared
units) and `experts/backbone` (the rest; every leaf with a leading axis N). The
names inside of both are the backbone's own, so that arrays go from one model to
another, or to a file, by name.

Letters: N experts.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

# Collection, part of the model, name inside of the backbone.
PLACE = re.compile(
  r"(params|batch_stats)/(stem|experts/backbone|gate_backbone)/(.+)"
)
# A second copy of some units, which only gates see.
GATES = "gate_backbone"


def whole_backbone(
  model: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The backbone of a trained model, under its own names.

  Args:
    model: variables by path, such as `params/stem/stem_conv/kernel`; others
      than those of the backbone are left out.

  Returns:
    Arrays that all experts have in common (those of the stem, of a lone expert,
    and those that are equal in all), and the others, [N, ...]; by name such as
    `params/stem_conv/kernel`.
  """
  common, own = {}, {}
  for path, value in model.items():
    place = PLACE.fullmatch(path)
    if place and place[2] != GATES:
      name, value = f"{place[1]}/{place[3]}", np.asarray(value)
      if place[2] == "stem":
        common[name] = value
      elif (value == value[:1]).all():
        common[name] = value[0]
      else:
        own[name] = value
  return common, own
