"""Weights files of the Hugging Face hub, fetched once and kept."""

import pathlib

from mtlmoe_jax import errors

PREFIX = "hf:"
# What timm's repositories hold; nothing in it can run.
_FILE = "model.safetensors"
# The hub's errors, by the name of their class.
_WORDS = {
  "GatedRepoError": "its owner asks you to accept terms on its page first",
  "RepositoryNotFoundError": "no such repository (or a private one)",
  "RevisionNotFoundError": "the repository has no such revision",
  "EntryNotFoundError": f"the repository holds no {_FILE}",
  "LocalEntryNotFoundError": "it is not in the cache and the hub cannot be "
  "reached (HF_HUB_OFFLINE=1 uses the cache without asking)",
  "HFValidationError": "write hf:OWNER/NAME or hf:OWNER/NAME@REVISION",
}


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
    raise errors.InputError(
      f"config.model.pretrained={spec!r}: {_reason(error)}; check name and "
      f"network, or fetch its {_FILE} elsewhere and give its path"
    ) from None
  return pathlib.Path(path)


def _reason(error: Exception) -> str:
  for kind in type(error).__mro__:
    if kind.__name__ in _WORDS:
      return _WORDS[kind.__name__]
  first = str(error).strip().partition("\n")[0]
  return f"{_FILE} cannot be fetched ({type(error).__name__}: {first[:160]})"
