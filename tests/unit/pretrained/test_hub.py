"""Weights of the hub, from a cache laid out as the hub lays it out."""

import builtins
import sys
import types

import numpy as np
import pytest

from mtlmoe_jax import errors, pretrained
from mtlmoe_jax.pretrained import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def offline(tmp_path, monkeypatch):
  """The folder of one cached repository; nothing else can be reached."""
  constants = pytest.importorskip(
    "huggingface_hub.constants", reason="needs the extra [hub]"
  )
  monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
  folder = tmp_path / "models--timm--some_net"
  (folder / "refs").mkdir(parents=True)
  (folder / "refs" / "main").write_text(COMMIT)
  snapshot = folder / "snapshots" / COMMIT
  snapshot.mkdir(parents=True)
  return snapshot


def test_a_cached_file_needs_no_network(offline):
  from safetensors.numpy import save_file

  save_file({"a": np.arange(3.0)}, offline / "model.safetensors")
  path = hub.fetch("hf:timm/some_net")
  np.testing.assert_array_equal(pretrained.read_weights(path)["a"], [0, 1, 2])
  assert hub.fetch(f"hf:timm/some_net@{COMMIT}") == path


@pytest.mark.parametrize(
  "spec",
  ["hf:timm/resnet50.x", "hf:timm/resnet50.x@v2", "hf:", "hf:a/b/c", "hf:a/"],
)
def test_what_is_not_there_is_one_clear_line(offline, spec):
  with pytest.raises(errors.InputError) as caught:
    pretrained.load(spec, "resnet50")
  assert spec in str(caught.value)
  assert "give its path" in str(caught.value)
  assert "\n" not in str(caught.value)


def test_the_hub_has_these_errors(offline):
  import huggingface_hub.errors

  for name in hub._WORDS:
    assert issubclass(getattr(huggingface_hub.errors, name), Exception)
  with pytest.raises(errors.InputError, match="HF_HUB_OFFLINE=1"):
    hub.fetch("hf:timm/other")


@pytest.mark.parametrize(
  ("kinds", "words"),
  [
    (["RepositoryNotFoundError"], "no such repository"),
    (["GatedRepoError", "RepositoryNotFoundError"], "accept terms"),
    (["RevisionNotFoundError"], "no such revision"),
    (["EntryNotFoundError"], "holds no model.safetensors"),
    (["LocalEntryNotFoundError", "EntryNotFoundError"], "cannot be reached"),
    (["ReadTimeout"], r"cannot be fetched \(ReadTimeout: first line\)"),
  ],
)
def test_each_failure_of_the_hub_has_its_words(monkeypatch, kinds, words):
  kind = Exception
  for name in reversed(kinds):
    kind = type(name, (kind,), {})

  def fail(*_, **__):
    raise kind("first line\nsecond line")

  package = types.SimpleNamespace(hf_hub_download=fail)
  monkeypatch.setitem(sys.modules, "huggingface_hub", package)
  with pytest.raises(errors.InputError, match=words) as caught:
    hub.fetch("hf:some/net")
  assert "'hf:some/net'" in str(caught.value)
  assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
  real = builtins.__import__

  def refuse(name, *args, **kwargs):
    if name == "huggingface_hub":
      raise ImportError(name)
    return real(name, *args, **kwargs)

  monkeypatch.setattr(builtins, "__import__", refuse)
  with pytest.raises(errors.InputError, match=r"mtlmoe_jax\[hub\]"):
    hub.fetch("hf:timm/some_net")
