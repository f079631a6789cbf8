r"""Lists well-known weights, or says whether a file fits a backbone.

  python launch/weights.py
  python launch/weights.py --backbone=resnet50
  python launch/weights.py --backbone=resnet50 --check=hf:timm/resnet50.a1_in1k
  python launch/weights.py --backbone=resnet50 --check=FILE

Without --check it prints a card for each of the weights (all of them are
docs/weights.md). With it the weights are read, never executed, and every array
that is missing, unexpected or of another shape is listed; then the exit code is
2.
"""

from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.pretrained import card_page

BACKBONE = flags.DEFINE_string(
  "backbone", "", "As in config.model.backbone; lists the weights of one."
)
CHECK = flags.DEFINE_string(
  "check", "", "As config.model.pretrained: weights to read and compare."
)


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  launching.no_arguments(argv)
  if not CHECK.value:
    print(card_page.page(BACKBONE.value), end="")
    return 0
  # Here, not above: the list should not wait for it.
  from mtlmoe_jax.pretrained import comparison, load

  launching.required("backbone")
  lines, fits = comparison.examine(
    load(CHECK.value, BACKBONE.value), BACKBONE.value
  )
  print("\n".join(lines))
  return 0 if fits else 2


if __name__ == "__main__":
  launching.run(main)
