"""Modules that wait for their first use."""

import json

import pytest

from mtlmoe_jax.utils import lazy


def test_members_are_loaded_by_name():
  get, names = lazy.members(
    "json", ["encoder", "decoder"], {"c_scanstring": "decoder"}
  )
  assert get("decoder") is json.decoder
  assert get("c_scanstring") is json.decoder.c_scanstring
  # Beside what is there already.
  assert {"decoder", "encoder", "c_scanstring", "loads"} <= set(names())
  assert names() == sorted(names())
  with pytest.raises(AttributeError, match="'json' has no attribute 'scanner'"):
    get("scanner")
