import pytest
from absl import flags as absl_flags

from mtlmoe_jax import errors
from mtlmoe_jax.cli import flags


@pytest.mark.parametrize("place", [".", "file/page.html"])
def test_files_that_cannot_be_written(tmp_path, monkeypatch, place):
  (tmp_path / "file").touch()
  values = absl_flags.FlagValues()
  for name, value in (("page", str(tmp_path / place)), ("json", "")):
    absl_flags.DEFINE_string(name, value, "", flag_values=values)
  values.mark_as_parsed()
  monkeypatch.setattr(flags.flags, "FLAGS", values)
  flags.writable("json")
  with pytest.raises(errors.InputError, match=r"--page=.*name another file"):
    flags.writable("json", "page")
