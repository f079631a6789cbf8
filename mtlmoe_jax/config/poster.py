"""The rows of the poster: what sets each apart from the others.

`configs/poster.py:ROW` trains one as the poster has it; the suites of
`experiments.reproduction` have the same rows on bases of their own (sparse
gates, perhaps smaller data).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from mtlmoe_jax import errors
from mtlmoe_jax.config import presets
from mtlmoe_jax.config.overrides import set_path

_EXP1 = "experiment 1, the class of the last ten classes"
_TRANSFER = "transfer to the last ten classes"
_EXP2 = "experiment 2, 200 classes"
_TABLE = "table, class and box, 200 classes"
# Only the class is told, of the last ten classes.
_OF_TEN = (_EXP1, _TRANSFER)
_ONE = {"model.experts": 1, "model.k": "1"}


@dataclasses.dataclass(frozen=True)
class Row:
  """One row.

  Attributes:
    part: of the poster.
    what: the model, in words.
    changes: options that set it apart from the base of its part, which has six
      experts: `presets.poster_ten()` for ten classes, else `presets.poster()`.
    there: what the poster shows for it.
    length: further options, that the poster gives for this row alone.
  """

  part: str
  what: str
  changes: Mapping[str, Any]
  there: str = ""
  length: Mapping[str, Any] = dataclasses.field(default_factory=dict)


ROWS: Mapping[str, Row] = {
  "exp1_single": Row(_EXP1, "a single expert", _ONE, "95.0 % of 60"),
  "exp1_moe": Row(_EXP1, "six experts", {}, "~96.7 % of 60"),
  "transfer_base": Row(
    _TRANSFER,
    "the base model, on all classes but the last ten (190)",
    {"data.classes": "except_last:10"},
  ),
  "transfer_direct": Row(_TRANSFER, "from scratch", {}, "93.3 %, ~2.2 h"),
  # Statistics of the frozen experts stay as they were as well; the poster does
  # not say whether its did.
  "transfer_frozen": Row(
    _TRANSFER,
    "from the base, experts and condense frozen",
    {"transfer.freeze": ("experts/",), "model.norm": "frozen"},
    "81.7 %",
  ),
  "transfer_unfrozen": Row(
    _TRANSFER, "from the base, all trained", {}, "93.3 %, ~1.2 h"
  ),
  "exp2_one_tower": Row(
    _EXP2,
    "one tower, the class alone",
    {"model.tasks": "class"},
    length={"epochs": 200},
  ),
  "exp2_two_towers": Row(
    _EXP2,
    "two towers, class and box",
    {},
    "+1.4",
    length={"epochs": 200},
  ),
  "table_1_expert": Row(
    _TABLE, "one expert", _ONE, "CIoU accuracy .9337, top-1 .7918"
  ),
  "table_3_experts": Row(
    _TABLE,
    "three experts",
    {"model.experts": 3},
    "CIoU accuracy .9424, top-1 .8044",
  ),
  # The poster's batch is 8 here, 16 in the other rows.
  "table_6_experts": Row(
    _TABLE,
    "six experts",
    {},
    "CIoU accuracy .9391, top-1 .8010",
    length={"batch_size": 8},
  ),
}


def row_config(name: str) -> ml_collections.ConfigDict:
  """The config of a row, as the poster has it.

  Args:
    name: of ROWS.

  Raises:
    InputError: an unknown row.
  """
  if name not in ROWS:
    raise errors.InputError(
      f"no row {name!r} of the poster: there are {', '.join(ROWS)}"
    )
  row = ROWS[name]
  of_ten = row.part in _OF_TEN
  config = presets.poster_ten() if of_ten else presets.poster()
  for path, value in {**row.changes, **row.length}.items():
    set_path(config, path, value)
  return config
