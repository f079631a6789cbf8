"""The package's own names, and the README's examples, run as they stand."""

import re
import subprocess
import sys

import jax
import pytest

import mtlmoe_jax
from tests.support import tiny

EXAMPLES = re.findall(
  r"```python\n(.*?)```", (tiny.ROOT / "README.md").read_text(), re.DOTALL
)


def test_every_name_is_there():
  for name in mtlmoe_jax.__all__:
    assert getattr(mtlmoe_jax, name)
    assert name in dir(mtlmoe_jax)
  with pytest.raises(AttributeError, match="no attribute 'nothing'"):
    _ = mtlmoe_jax.nothing


def test_the_package_alone_does_not_load_jax():
  code = "import mtlmoe_jax, sys; sys.exit('jax' in sys.modules)"
  subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny.ROOT)


def test_modules_are_there_after_a_plain_import():
  code = (
    "import mtlmoe_jax as mm; "
    "mm.config.override(mm.config.default(), 'k=1'); "
    "mm.ops.boxes.iou, mm.metrics.split.wilson, mm.moe.apply_experts, "
    "mm.models.build_model, mm.load, mm.train, mm.evaluate"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=tiny.ROOT)


def test_the_engine_example():
  (code,) = [c for c in EXAMPLES if "apply_experts" in c]
  assert len(list(filter(None, code.splitlines()))) <= 20
  names = {}
  exec(code, names)
  for features in (names["class_features"], names["box_features"]):
    assert features.shape == (100, 16)
    assert jax.numpy.all(jax.numpy.isfinite(features))


def test_the_library_example():
  text = (tiny.ROOT / "docs" / "library.md").read_text()
  (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  names = {}
  exec(code, names)
  outputs = names["outputs"]
  assert outputs.logits.shape == (8, 10)
  assert outputs.box.shape == (8, 4)
  assert outputs.routing["class"].experts.shape == (8, 2)
