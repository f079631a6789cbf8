"""The room `moe` by itself: what it imports, and how a strategy is added."""

import ast
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtlmoe_jax.moe
from mtlmoe_jax import errors
from mtlmoe_jax.moe import engine, everyone, interface, strategies
from tests.support import tiny

ROOM = tiny.ROOT / "mtlmoe_jax" / "moe"
ALLOWED = (
  "mtlmoe_jax.errors",
  "mtlmoe_jax.devices.compilation",
  "mtlmoe_jax.devices.meshes",
  "mtlmoe_jax.moe",
)
EXAMPLES = re.findall(
  r"```python\n(.*?)```", (tiny.ROOT / "README.md").read_text(), re.DOTALL
)
# Whatever an installation of JAX has; all other packages are as if not there.
_BLOCK = """
import sys
from importlib import metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

needed, left = set(), ["jax"]
while left:
  name = canonicalize_name(left.pop())
  if name not in needed:
    needed.add(name)
    lines = map(Requirement, metadata.requires(name) or [])
    left += [r.name for r in lines if r.marker is None or r.marker.evaluate()]
blocked = {
  package
  for package, owners in metadata.packages_distributions().items()
  if not needed & set(map(canonicalize_name, owners))
} - {"mtlmoe_jax"}

class Blocker:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in blocked:
      raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Blocker())
for name in ("flax", "ml_collections", "cv2"):
  assert name in blocked, name
"""


def imports_of(path):
  """Dotted names of the package's modules that a file imports."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      module = node.module or ""
      yield from (f"{module}.{alias.name}" for alias in node.names)


def test_the_room_imports_little():
  others = sys.stdlib_module_names | {"jax", "numpy"}
  files = sorted(ROOM.glob("*.py"))
  assert len(files) > 10
  for path in files:
    for name in imports_of(path):
      if name.partition(".")[0] == "mtlmoe_jax":
        assert name.startswith(ALLOWED), f"{path.name} imports {name}"
      else:
        assert name.partition(".")[0] in others, f"{path.name} imports {name}"


def test_the_example_runs_with_jax_alone():
  (example,) = [code for code in EXAMPLES if "apply_experts" in code]
  check = "\nassert class_features.shape == box_features.shape == (100, 16)\n"
  code = f"{_BLOCK}\nimport mtlmoe_jax.moe\n{example}{check}"
  subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny.ROOT)


def test_names_of_strategies_need_no_jax():
  code = (
    "import sys; from mtlmoe_jax.moe import strategies;"
    "sys.exit('jax' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny.ROOT)


def test_every_name_of_the_room_is_there():
  for name in mtlmoe_jax.moe.__all__:
    assert getattr(mtlmoe_jax.moe, name)
    assert name in dir(mtlmoe_jax.moe)
  assert set(mtlmoe_jax.moe._MODULE_OF) == set(mtlmoe_jax.moe.__all__)
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = mtlmoe_jax.moe.nothing


def run(experts, batch):
  """A strategy: "dense" with its outputs doubled."""
  results = everyone.run(experts, batch)
  return interface.Results(2 * results.outputs, results.plan)


def test_a_strategy_is_a_module_and_a_line(monkeypatch):
  monkeypatch.setitem(
    strategies.STRATEGIES,
    "twice",
    strategies.Strategy(__name__, takes_mapped=False, shows_all=False),
  )
  params, x = jnp.arange(3.0)[:, None], jnp.ones((4, 2))
  chosen = [np.array([[0], [1], [2], [1]], np.int32)]

  def expert(scale, rows, mask):
    return scale * rows

  results = engine.apply_experts(expert, params, x, chosen, strategy="twice")
  y = results.combine(0, jnp.ones((4, 1)))
  np.testing.assert_array_equal(y[:, 0], [0, 2, 4, 2])
  with pytest.raises(errors.InputError, match="'twice' with rows_interact"):
    engine.apply_experts(
      expert, params, x, chosen, strategy="twice", rows_interact=True
    )
  with pytest.raises(errors.InputError, match="'twice' with experts mapped"):
    engine.apply_stacked(jax.vmap(expert), 3, x, chosen, strategy="twice")
