r"""Lists well-known weights, or says whether a file fits a backbone.

  mtlmoe weights
  mtlmoe weights --backbone=resnet50
  mtlmoe weights --backbone=resnet50 --check=hf:timm/resnet50.a1_in1k
  mtlmoe weights --backbone=resnet50 --check=FILE

Without --check it prints a card for each of the weights (all of them are
docs/weights.md). With it the weights are read, never executed, and every array
that is missing, unexpected or of another shape is listed; then the exit code is
2.
"""

from collections.abc import Sequence

from absl import flags

from mtlmoe_jax.cli import flags as cli_flags


def define() -> None:
  """Defines the flags."""
  flags.DEFINE_string(
    "backbone", "", "As in config.model.backbone; lists the weights of one."
  )
  flags.DEFINE_string(
    "check", "", "As config.model.pretrained: weights to read and compare."
  )


def main(argv: Sequence[str]) -> int:
  """Flags -> one call."""
  cli_flags.no_arguments(argv)
  backbone, check = flags.FLAGS.backbone, flags.FLAGS.check
  # Here, not above: --help should not wait for JAX.
  if not check:
    from mtlmoe_jax.pretrained import card_page

    print(card_page.page(backbone), end="")
    return 0
  cli_flags.required("backbone")
  from mtlmoe_jax.pretrained import comparison, load

  lines, fits = comparison.examine(load(check, backbone), backbone)
  print("\n".join(lines))
  return 0 if fits else 2
