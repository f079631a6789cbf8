"""What the poster reports, as far as a variation here stands for it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reported:
  """The poster's metrics of one model.

  Attributes:
    metrics: name -> share, as `VariationResult.figures`; empty where it has
      only a difference.
    note: where in the poster, and of which data.
  """

  metrics: dict[str, float]
  note: str


# No number of the table can be compared to one of ten classes.
_TABLE = (
  "table: all 200 classes, best epoch on test, on a test split of its own "
  "(10 % of each class); not comparable with the figures here"
)

# Variation -> what the poster reports; others are not in it.
REPORTED = {
  "single": Reported({"top1": 0.950}, "figure 4: ten classes"),
  "moe": Reported(
    {"top1": 0.967},
    "figure 4: ten classes, about 4.4 times the wall time of the single "
    "expert; figure 5 has 93.3 % after about 2.2 h for direct training; "
    "figure 7 has it as the one tower",
  ),
  "transfer_frozen": Reported(
    {"top1": 0.817}, "figure 5: experts and condense layer frozen"
  ),
  "transfer_unfrozen": Reported(
    {"top1": 0.933}, "figure 5: nothing frozen, after about 1.2 h"
  ),
  "mtl_1": Reported(
    {"top1": 0.7918, "ciou_score": 0.9337}, f"{_TABLE}; batch 16"
  ),
  "mtl_3": Reported(
    {"top1": 0.8044, "ciou_score": 0.9424}, f"{_TABLE}; batch 16"
  ),
  "mtl_6": Reported({}, "figure 7: two towers, 1.4 points over one"),
  "mtl_6_half_batch": Reported(
    {"top1": 0.8010, "ciou_score": 0.9391}, f"{_TABLE}; batch 8"
  ),
}
