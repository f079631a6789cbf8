"""Modules that wait for their first use."""

import json

import pytest

from mtlmoe_jax.utils import lazy


def test_modules_are_loaded_by_name():
  get, names = lazy.submodules("json", ["encoder", "decoder"])
  assert get("decoder") is json.decoder
  assert names() == ["decoder", "encoder"]
  with pytest.raises(AttributeError, match="'json' has no attribute 'scanner'"):
    get("scanner")
