r"""Writes a trained model, or one expert's backbone, as a .safetensors file.

  python launch/export.py --workdir=runs/first --out=first.safetensors
  python launch/export.py --workdir=runs/first --expert=0 --names=timm \
      --out=expert0.safetensors

The first is everything a checkpoint knows: all parameters (averaged where an
average is kept) and statistics, and in the file's metadata, under
`mtlmoe_jax`, config, class names and preprocessing as JSON. The second is a
whole backbone without classifier, in timm's names for its network with
num_classes=0. Either can start a new run as config.model.pretrained.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from mtlmoe_jax import errors, pretrained
from mtlmoe_jax.cli import flags as launching
from mtlmoe_jax.pretrained import export
from mtlmoe_jax.training import checkpoint

flags.DEFINE_string("workdir", "", "Folder of the run (required).")
flags.DEFINE_string("out", "", "The .safetensors file to write (required).")
launching.define_step()
EXPERT = flags.DEFINE_integer(
  "expert", None, "Write only the backbone of this expert, counted from 0."
)
NAMES = flags.DEFINE_enum(
  "names", "ours", export.NAMES, "Names of the arrays; timm needs --expert."
)
# What of a checkpoint's own record goes with the file.
FACTS = (
  "config",
  "class_names",
  "tasks",
  "preprocessing",
  "box_format",
  "step",
  "versions",
)


def main(argv: Sequence[str]) -> None:
  """Flags -> one file."""
  launching.no_arguments(argv)
  workdir = launching.required("workdir")
  out = pathlib.Path(launching.required("out"))
  if out.suffix != ".safetensors":
    raise errors.InputError(f"--out={out}: must end with .safetensors")
  if NAMES.value == "timm" and EXPERT.value is None:
    raise errors.InputError(
      "--names=timm: timm has no mixtures of experts; add --expert=0"
    )
  restored = checkpoint.restore_for_eval(workdir, flags.FLAGS.step)
  backbone = restored.config.model.backbone
  facts = {name: restored.meta[name] for name in FACTS}
  facts["backbone"] = backbone
  if EXPERT.value is None:
    arrays = export.whole_model(restored.variables)
  else:
    facts["expert"] = EXPERT.value
    arrays = export.one_backbone(
      restored.variables, EXPERT.value, backbone, NAMES.value
    )
  pretrained.save_safetensors(out, arrays, export.metadata(facts))
  print(f"{len(arrays)} arrays of step {restored.step}: {out}")


if __name__ == "__main__":
  launching.run(main)
