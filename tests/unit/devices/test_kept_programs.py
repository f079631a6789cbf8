"""Programs that are compiled once for a whole suite."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from mtlmoe_jax.devices import compilation


@pytest.fixture
def no_folder():
  """As users have it: the tests themselves keep programs."""
  before = jax.config.jax_compilation_cache_dir
  compilation._set({"jax_compilation_cache_dir": None})
  yield
  compilation._set({"jax_compilation_cache_dir": before})


def _run():
  jax.clear_caches()
  return jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))


def _hits(run):
  events = []
  jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
  run()
  return sum(name.endswith("compilation_cache/cache_hits") for name in events)


def test_a_forgotten_program_is_not_compiled_again(no_folder, monkeypatch):
  monkeypatch.setitem(
    compilation._KEEP, "jax_persistent_cache_min_compile_time_secs", 0
  )
  before = jax.config.jax_persistent_cache_min_entry_size_bytes
  with compilation.kept():
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    _run()
    assert any(folder.iterdir())
    assert _hits(_run) > 0
  assert not folder.exists()
  assert jax.config.jax_compilation_cache_dir is None
  assert jax.config.jax_persistent_cache_min_entry_size_bytes == before
  assert _hits(_run) == 0


def test_the_users_own_folder_stays(tmp_path, no_folder):
  compilation._set({"jax_compilation_cache_dir": str(tmp_path)})
  with compilation.kept():
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
  assert jax.config.jax_compilation_cache_dir == str(tmp_path)
