"""Where the peers run, and how they are set up alike."""

import contextlib
import os

import torch

# One of the two pools of threads does all the work of a layer.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
torch.backends.cudnn.benchmark = True


def device() -> torch.device:
  return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(dtype: str) -> contextlib.AbstractContextManager:
  """Mixed precision for "bfloat16", nothing for "float32"."""
  if dtype == "float32":
    return contextlib.nullcontext()
  return torch.autocast(device().type, dtype=getattr(torch, dtype))


def wait() -> None:
  """Until the device has done what it was given."""
  if torch.cuda.is_available():
    torch.cuda.synchronize()
