"""Fixtures shared by all tests."""

import gc
import importlib.metadata
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Tests compile far more than they compute: unoptimised code is ready in a third
# of the time, for them and for the processes they start, and in two thirds of
# that without the newer emitters of fusions. XLA ends a process that names a
# flag it does not know, and jaxlib 0.11 and 0.12 do not know that one. One
# module for LLVM instead of 32 takes a fifth less of a processor: there are as
# many tests at a time as processors.
# MTLMOE_TEST_XLA=default leaves XLA as users have it, for the tests marked
# `default_flags`.
_FAST_COMPILE = [
  "--xla_backend_optimization_level=0",
  "--xla_cpu_parallel_codegen_split_count=1",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
  _FAST_COMPILE.append("--xla_cpu_use_fusion_emitters=false")
if os.environ.get("MTLMOE_TEST_XLA") == "default":
  _FAST_COMPILE.clear()
for _flag in _FAST_COMPILE:
  if _flag not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
      os.environ.get("XLA_FLAGS", "") + " " + _flag
    ).strip()

import jax  # noqa: E402 (after its environment)
import pytest  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Tracing makes a million objects that live on: to look them all through again
# and again is a tenth of the time.
gc.freeze()
gc.set_threshold(100_000, 50, 50)

# Compiled programs are kept between runs: the second run is much faster.
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> pathlib.Path:
  """A finished tiny run, to read; see `tests/support/runs.py`."""
  from tests.support import runs

  return runs.finished(tmp_path_factory)


@pytest.fixture(scope="session")
def cub_dir() -> pathlib.Path:
  """Folder in CUB's official layout; the test skips where there is none."""
  path = os.environ.get("MTLMOE_CUB_DIR", "")
  if not path:
    pytest.skip("MTLMOE_CUB_DIR is not set: no CUB photographs here")
  return pathlib.Path(path)
