"""Weights files of the Hugging Face hub, fetched once and kept."""

import pathlib

from mtlmoe_jax import errors

PREFIX = "hf:"
# What timm's repositories hold; nothing in it can run.
_FILE = "model.safetensors"


def fetch(spec: str) -> pathlib.Path:
  """The local copy of a repository's weights.

  Args:
    spec: "hf:OWNER/NAME", perhaps with "@REVISION", such as
      "hf:timm/resnet50.a1_in1k".

  Returns:
    Path of a `.safetensors` file in the hub's own cache (`HF_HOME`); what is
    there already is not fetched again and needs no network.

  Raises:
    InputError: no such package, repository, revision or file, or no network.
  """
  try:
    import huggingface_hub
  except ImportError:
    raise errors.InputError(
      f"config.model.pretrained={spec!r} needs the package huggingface_hub: "
      "pip install 'mtlmoe_jax[hub]'"
    ) from None
  repository, _, revision = spec.removeprefix(PREFIX).partition("@")
  try:
    path = huggingface_hub.hf_hub_download(
      repository, _FILE, revision=revision or None
    )
  # The hub's own errors, those of HTTP and of the file system.
  except Exception as error:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    raise errors.InputError(
      f"config.model.pretrained={spec!r}: {_FILE} cannot be fetched "
      f"({reason[:200]}); check the name and the network, or download the file "
      "elsewhere and give its path"
    ) from None
  return pathlib.Path(path)
