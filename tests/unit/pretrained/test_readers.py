"""Weights files: exact values, refusals, and that no pickle is ever run."""

import base64
import io
import json
import os
import pathlib
import pickle
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtlmoe_jax import errors
from mtlmoe_jax.pretrained import read_weights, save_safetensors
from mtlmoe_jax.pretrained.formats import pickle_data, readers, torch_file

# {"epoch": 3, "state_dict": tensors, "lr": 0.1, "note": None} as PyTorch 2.13
# writes it, compressed; the tensors are those of `_EXPECTED`, `a` and `d`
# being views of one storage.
_ZIP = (
  "c-o~_&u<%55Ptp<+ucB%q@`(72!R%GpmprE9Xo9rCo8lZwgSfp$?^ebV{dJXjn}h&P5}ui0w"
  "t6i;shK}k6e&AAW<X)5&r-}LY#U)>Y?hX{0Yo^8*le*>lm7+e6e3L-#6blGqWjap)et_7<uG"
  "Ol4+vb^;UbwSZwH2Pj=rkRb_%yg|i#{2uPwbh6JN))msqILKO*bJ*rcq)@au$1nYInG>tlKT"
  "b-WtmfbLHqwzZaMuN~n8N!K500}yb)v1LEleIo=n?0#!8(aOh*{D&Y)3fZ_jx0eWk*Gwux@G"
  "H41ELN^QcX*zZ#zGfAjSn#aH0~z*Lt@Pl6Ho|_=XnHf?9YVp29bgeR%q_7BetGAzp?_PTGR0"
  "7A9#8gs)khrmH*6L(*`vC20W)r#3XQu;6GsL*aB8W_Umy&IlR`cb8srb<XlI8D>!@NZ}mnXu"
  "&;rRtxOGbB^8|h3CsK&jTCq!jMm<tK0gvK@D4i7oC)?SnEWKS9^X#JEev9-~v;9$x(fo!YgG"
  "++~k*qPvO-vyv9=)a8a~uS*C0E5)a8h(y_aEXg9@#(~huAAybAd54;Y!ffs(y!V(e*g*+n?E"
  "wm2>Eu;nZVc8*Hrf{VUEB#6kqfHyGzES+?D|WuFU~iI+MGaVev!5(!(OC2MAHFj&j-fQPcV|"
  "f4?cL;c%ih*$ZO5>C*np}s?rq^T6aDeQollrkhT)>KB>zzKumNkj*=}~WjSf|njBhml(^<+g"
  "1H~I~pA{cG(!dlcx(2pBpoYaJNmZ^qN#4OR+mxCH^RRdI?%4=ti5%%+f~*Q#VKJpDmycn<QQ"
  "a-#w>A7i>>_R<4iJAM$U5#K#5^K}SVNQ$n}{xA7jYBuIpRyiEyTBo?-94xS!Exu-|1|k(B_E"
  "BE{K(-Rb_r;Wzj=6%hUbqp2dV?Bl4_>d1O^7Jn<)ZP$UN|cXXqAmkmpJMD8^)cScoKj?+HX0"
  "I&R)^S@QZ{w0siu87&Qs<L{l?A7Y<TI1xTo6Vj5xIbM+V*da5ruok3`I{s1!v(+#=oxk!H^7"
  "HFd$iTs4OL10&w5g+TrRzwN*8h&IhDyRr}Bk-x*+EZnS6G+kd<??yo9$rbNT+ccbf_Hk>D-^"
  "%&hCvyB8-PaqfSP``O+FI3qBB4w7M;)Gy*)Vzc7n3Xvl=r(egrh^7RcFFZQ#0`$|p(>@{4Pl"
  "t(bclo*A2^P8k__=96*E@kCm;HAnPQ0J%ogb0=r=Ob{a34Qm-cyeFxLJQ*Z{NoS?tzCp<nQf"
  "m$2oyK9VH_MrKCk77YAb%y5us)eXqYdrIOpx!J3WmcQ+*G?mV%_A`WMq$2+nA0($OWpa"
)
_LEGACY = (
  "c-nQ6OK;Oa6oto+G+<~cP@v^m-U*N3yi;Cj5h{y;(wdDo$hgi>8yQcoJ*fmzrED4sE0%y*bl"
  "D|K*!8Ed<tHF@!L{8M0%7E1kH_QhoO?B0`JLu(eV+X}`C?;!qR^Ee{ZR0}0wiaS5<=P`7u?~"
  "#wamiE;{iyx!5qdfz9)pwEEcppI{<mj)NoO}YBMYHUb6_46;N|#1{WijhXOKGHWhsH0s%u*H"
  "Px8GgC)pPwbR-0jQ6uPcU+LDk{}~t3ud)EM}X{L5}!E&gGAcnu*E{wx{qHpQ1V7>C*cn^WE{"
  "am$1PYL;rWqfg>13o`7KMZAmX95T+(1Dmou{oorm@kgKYYXHtTa+JV_Td*kg|1o~cT;QK=S7"
  "^+rQ)=&&~_!)bRwqvLY|_AO9}%2e&aew+;TVEC;Y#~BfDz<|*t(;^&n(bC<qd5DGYx*YoLQY"
  "qES4SlMn!(msW64J*OD9Ptj;t>Hy4LFt%9T@K;-b<1fYrE8meyUzBmTPbvsWMVeAeG9iaFR-"
  "^a4Myr7I4OZ$%Nj5v;XN~+YarQOt4Ucb7=r~V3*FjX?HFx&@rm6!o}F>QtEVBK+b^tTJmz`4"
  "O}(gT4KxKdVf)z`@01d`U|S-#YzQkY!{?&7gUUGN~uj*K*fM+LVgalf72$IQoUM&I${W78Zm"
  "}Yr3X_~p;8ZSrl?y2ZX0l?W6JTV4dL#C=C_aW_>`REfC~oAx%d=6jZg7_&P#*R%Y(8ggN}nb"
  "sK*&ri1Wl_vq?60<`N-)&9d9iaq{QrHt{x%7pjX|M{T0MqsR;)qo_%gj+#czqn@GKs4i*^^&"
  "a&BwT{|AeL;Pl`30*w5NZ"
)
_EXPECTED = {
  "a": np.array([[1, 7, 13, 19], [2, 8, 14, 20]], np.float32),
  "b": np.array(7, np.int64),
  "c": np.array([1.5, -2], ml_dtypes.bfloat16),
  "d": np.array([20, 21, 22, 23], np.float32),
  "e": np.array([True, False]),
  "f": np.zeros((0, 3), np.float32),
}


def _sample(text: str) -> bytes:
  return zlib.decompress(base64.b85decode(text))


def _assert_same(found, expected):
  assert list(found) == list(expected)
  for name, value in expected.items():
    assert found[name].dtype == value.dtype, name
    assert found[name].shape == value.shape, name
    assert (found[name] == value).all(), name


def _write(path: pathlib.Path, data: bytes) -> pathlib.Path:
  path.write_bytes(data)
  return path


# A small assembler of pickles, for files that PyTorch would not write.


def _text(value: str) -> bytes:
  return b"X" + len(value).to_bytes(4, "little") + value.encode()


def _int(value: int) -> bytes:
  return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def _tuple(*items: bytes) -> bytes:
  return b"(" + b"".join(items) + b"t"


def _global(module: str, name: str) -> bytes:
  return f"c{module}\n{name}\n".encode()


def _tensor(count=6, offset=0, shape=(2, 3), strides=(3, 1), kind="Float"):
  storage = _tuple(
    _text("storage"),
    _global("torch", f"{kind}Storage"),
    _text("0"),
    _text("cpu"),
    _int(count),
  )
  return (
    _global("torch._utils", "_rebuild_tensor_v2")
    + _tuple(
      storage + b"Q",
      _int(offset),
      _tuple(*map(_int, shape)),
      _tuple(*map(_int, strides)),
      b"\x89",
      b"}",
    )
    + b"R"
  )


def _state(value: bytes) -> bytes:
  return b"\x80\x02}" + _text("w") + value + b"s."


def _zip(
  data: bytes, values: bytes, compression=zipfile.ZIP_STORED, **more: bytes
) -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", compression) as archive:
    archive.writestr("archive/data.pkl", data)
    archive.writestr("archive/data/0", values)
    for name, text in more.items():
      archive.writestr(f"archive/{name}", text)
  return file.getvalue()


def _legacy(data: bytes, values: bytes, count: int, little=b"\x88") -> bytes:
  return b"".join(
    (
      pickle.dumps(torch_file.MAGIC_NUMBER, 2),
      pickle.dumps(torch_file.PROTOCOL_VERSION, 2),
      b"\x80\x02}" + _text("little_endian") + little + b"s.",
      data,
      pickle.dumps(["0"], 2),
      count.to_bytes(8, "little"),
      values,
    )
  )


_SIX = np.arange(6, dtype=np.float32).tobytes()


@pytest.mark.parametrize("text", [_ZIP, _LEGACY], ids=["zip", "legacy"])
@pytest.mark.parametrize("ending", ["pth", "pt"])
def test_reads_what_pytorch_wrote(tmp_path, text, ending):
  path = _write(tmp_path / f"w.{ending}", _sample(text))
  _assert_same(read_weights(path), _EXPECTED)


def test_assembled_files_are_read(tmp_path):
  # The control of all refusals below: the assembler itself is right.
  expected = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
  for name, data in (
    ("zip", _zip(_state(_tensor()), _SIX, byteorder=b"little")),
    ("legacy", _legacy(_state(_tensor()), _SIX, 6)),
  ):
    path = _write(tmp_path / f"{name}.pth", data)
    _assert_same(read_weights(path), expected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_strided_views_equal_numpy(data):
  base = np.arange(60, dtype=np.float32)
  view = base.reshape(3, 4, 5).transpose(data.draw(st.permutations(range(3))))
  bounds = [
    sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in view.shape
  ]
  step = data.draw(st.integers(1, 2))
  view = view[tuple(slice(a, b, step) for a, b in bounds)]
  offset = (view.ctypes.data - base.ctypes.data) // 4 if view.size else 0
  strides = [s // 4 for s in view.strides]
  pickled = _tensor(60, offset, view.shape, strides)
  tensor = pickle_data.read_pickle(io.BytesIO(_state(pickled)), "t")[0]["w"]
  found = torch_file._materialize(tensor, {"0": base}, "t")
  assert found.shape == view.shape and (found == view).all()


class _Evil:
  """Runs a shell command when it is unpickled."""

  def __init__(self, marker: pathlib.Path):
    self.marker = marker

  def __reduce__(self):
    return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
  marker = tmp_path / "ran"
  evil = pickle.dumps({"w": _Evil(marker)}, protocol)
  cases = {
    "zip": _zip(evil, _SIX),
    "legacy": _legacy(evil, _SIX, 6),
    "plain": b"\x80\x02" + evil[2:],
  }
  for name, data in cases.items():
    path = _write(tmp_path / f"{name}.pth", data)
    with pytest.raises(errors.InputError, match="refused, nothing was run"):
      read_weights(path)
    assert not marker.exists()
  with pytest.raises(errors.InputError, match=r"posix\.system"):
    read_weights(tmp_path / "zip.pth")
  # The control: the pickle module would have run it.
  pickle.loads(evil)
  assert marker.exists()


@pytest.mark.parametrize(
  "value",
  [
    _global("builtins", "eval") + _tuple(_text("1")) + b"R",
    _text("builtins") + _text("eval") + b"\x93" + _tuple() + b"R",
    b"(" + _text("1") + b"ibuiltins\neval\n",  # INST
    b"(" + _global("builtins", "eval") + _text("1") + b"o",  # OBJ
    _global("builtins", "object") + b")\x81",  # NEWOBJ
    _global("torch.storage", "_load_from_bytes") + _tuple(_text("")) + b"R",
    _global("torch", "FloatStorage") + _tuple(_int(3)) + b"R",
    _global("torch._utils", "_rebuild_tensor_v2") + b"}b",  # BUILD
    _text("os.system") + _tuple(_text("true")) + b"R",
    b"\x82\x01",  # EXT1
    _tuple(_text("module")) + b"Q",
    b"}" + _tuple(_int(1)) + _int(2) + b"s",  # a tuple as a key
  ],
  ids=lambda v: v[:16].hex(),
)
def test_other_ways_to_call_are_refused(tmp_path, value):
  path = _write(tmp_path / "w.pth", _zip(_state(value), _SIX))
  with pytest.raises(errors.InputError) as caught:
    read_weights(path)
  assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
  "tensor",
  [
    _tensor(offset=1),
    _tensor(strides=(4, 1)),
    _tensor(shape=(10**12, 10**12), strides=(0, 0)),
    _tensor(shape=(2, 3), strides=(-3, 1)),
    _tensor(shape=(-2, -3), strides=(3, 1)),
    _tensor(offset=-1),
    _tensor(shape=(0, 2**64), strides=(1, 1)),
    _tensor(shape=(6,), strides=(1, 1)),
    _tensor(shape=(1,) * 70, strides=(1,) * 70),
    _tensor(shape=(1, 6), strides=(2**70, 1)),
    _tensor(count=7),
    _tensor(count=2**62),
    _tensor(count=-1),
    _tensor(kind="Double"),
    _tensor(kind="Complex"),
  ],
)
def test_tensors_outside_of_their_storage_are_refused(tmp_path, tensor):
  for name, data in (
    ("zip", _zip(_state(tensor), _SIX)),
    ("legacy", _legacy(_state(tensor), _SIX, 6)),
  ):
    path = _write(tmp_path / f"{name}.pth", data)
    with pytest.raises(errors.InputError, match=str(path)):
      read_weights(path)


@pytest.mark.parametrize(
  ("name", "data", "words"),
  [
    ("a.pth", b"", "not a file of torch.save"),
    ("a.pth", b"<html>404</html>", "is a web page"),
    ("a.safetensors", b"\n<!DOCTYPE html><title>404", "is a web page"),
    ("a.npz", b"<HTML lang=en>", "is a web page"),
    ("a.pt", b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ("a.pth", pickle.dumps({"w": 1}, 2), "not a file of torch.save"),
    ("a.pth", _zip(_state(_tensor()), _SIX[:-1]), "cut short"),
    ("a.pth", _legacy(_state(_tensor()), _SIX[:-1], 6), "cut short"),
    ("a.pth", _legacy(_state(_tensor()), _SIX, 5), "5 values"),
    ("a.pth", _legacy(_state(_tensor()), _SIX, 6, b"\x89"), "big-endian"),
    (
      "a.pth",
      _zip(_state(_tensor()), _SIX, byteorder=b"big"),
      "big-endian",
    ),
    (
      "a.pth",
      _zip(_state(_tensor()), _SIX, zipfile.ZIP_DEFLATED),
      "compressed",
    ),
    ("a.pth", _zip(_state(_int(3)), _SIX), "no state dict"),
    ("a.pth", _zip(b"\x80\x02" + _int(3) + b".", _SIX), "no state dict"),
    ("a.npz", b"", "damaged"),
    ("a.npz", b"PK\x03\x04 nothing", "damaged"),
    ("a.safetensors", b"", "damaged"),
    ("a.h5", b"", "unknown ending '.h5'"),
  ],
)
def test_wrong_files_are_named(tmp_path, name, data, words):
  path = _write(tmp_path / name, data)
  with pytest.raises(errors.InputError, match=words) as caught:
    read_weights(path)
  assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
  for path in (tmp_path / "none.pth", tmp_path / "folder.npz"):
    (tmp_path / "folder.npz").mkdir(exist_ok=True)
    with pytest.raises(errors.InputError, match="does not exist"):
      read_weights(path)


def _npz(**arrays) -> bytes:
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


def test_npz_reads_arrays_and_refuses_objects(tmp_path):
  arrays = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.array(3, np.int8)}
  path = _write(tmp_path / "w.npz", _npz(**arrays))
  _assert_same(read_weights(path), arrays)
  marker = tmp_path / "ran"
  evil = np.array([_Evil(marker)], object)
  path = _write(tmp_path / "evil.npz", _npz(a=evil))
  with pytest.raises(errors.InputError, match="damaged"):
    read_weights(path)
  assert not marker.exists()


def _safetensors(header: str, values: bytes) -> bytes:
  text = header.encode()
  return len(text).to_bytes(8, "little") + text + values


_GOOD = '{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'


@pytest.mark.parametrize(
  "data",
  [
    _safetensors(_GOOD, _SIX)[:20],
    _safetensors(_GOOD, _SIX[:-1]),
    _safetensors(_GOOD, _SIX + b"\0"),
    (2**63).to_bytes(8, "little") + _GOOD.encode() + _SIX,
    _safetensors(_GOOD.replace("[2,3]", "[2,4]"), _SIX),
    _safetensors(_GOOD.replace("[2,3]", "[-2,-3]"), _SIX),
    _safetensors(_GOOD.replace("[2,3]", "[2.0,3]"), _SIX),
    _safetensors(_GOOD.replace("[0,24]", "[4,28]"), _SIX + b"0000"),
    _safetensors(_GOOD.replace("F32", "F13"), _SIX),
    _safetensors(_GOOD[:-1] + "," + _GOOD[1:], _SIX),
    _safetensors(_GOOD[:-1] + "," + _GOOD[1:].replace('"a"', '"b"'), _SIX),
    _safetensors('{"__metadata__":{"a":1}}', b""),
    _safetensors("[1]", b""),
    _safetensors('{"a":' * 100_000, b""),
    _safetensors('{"a":3}', b""),
  ],
  ids=range(15),
)
def test_broken_safetensors_are_refused(tmp_path, data):
  good = _write(tmp_path / "good.safetensors", _safetensors(_GOOD, _SIX))
  assert read_weights(good)["a"].shape == (2, 3)
  path = _write(tmp_path / "w.safetensors", data)
  with pytest.raises(errors.InputError, match=r"w\.safetensors"):
    read_weights(path)


_DTYPES = [
  "f4",
  "f8",
  "f2",
  "i8",
  "i4",
  "i2",
  "i1",
  "u8",
  "u4",
  "u2",
  "u1",
  "?",
  ml_dtypes.bfloat16,
]


@settings(
  max_examples=25,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
  st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=8).filter(
      lambda n: n != "__metadata__"
    ),
    st.tuples(
      st.sampled_from(_DTYPES),
      st.lists(st.integers(0, 3), max_size=3),
    ),
    max_size=4,
  )
)
def test_safetensors_round_trip_and_library_agree(tmp_path, spec):
  rng = np.random.default_rng(0)
  arrays = {
    name: rng.integers(0, 2, shape).astype(dtype)
    for name, (dtype, shape) in spec.items()
  }
  path = tmp_path / "w.safetensors"
  save_safetensors(path, arrays, {"source": "a \u00e9 test"})
  assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]
  for found in (read_weights(path), safetensors.numpy.load_file(path)):
    _assert_same(dict(sorted(found.items())), dict(sorted(arrays.items())))
  with safetensors.safe_open(path, "numpy") as file:
    assert file.metadata() == {"source": "a \u00e9 test"}
  safetensors.numpy.save_file(arrays, path)
  found = read_weights(path)
  _assert_same(dict(sorted(found.items())), dict(sorted(arrays.items())))


def test_safetensors_aligns_values_and_keeps_the_old_file(tmp_path):
  path = tmp_path / "w.safetensors"
  save_safetensors(path, {"a": np.zeros(3, np.int8), "b": np.zeros(2)})
  data = path.read_bytes()
  length = int.from_bytes(data[:8], "little")
  assert length % 8 == 0
  header = json.loads(data[8 : 8 + length])
  assert header["b"]["data_offsets"] == [0, 16]
  with pytest.raises(errors.InputError, match="complex64"):
    save_safetensors(path, {"a": np.zeros(3, np.complex64)})
  assert path.read_bytes() == data and len(list(tmp_path.iterdir())) == 1


def test_safetensors_of_views_hold_their_values(tmp_path):
  values = np.arange(24.0).reshape(2, 3, 4)
  views = {"t": values.T, "step": values[:, ::2], "number": np.array(7)}
  save_safetensors(tmp_path / "w.safetensors", views)
  found = read_weights(tmp_path / "w.safetensors")
  _assert_same({name: found[name] for name in views}, views)
  with pytest.raises(ValueError, match="read-only"):
    found["t"][0] = 0


def test_facts_are_read_from_the_header(tmp_path):
  path = tmp_path / "w.safetensors"
  for metadata, facts in (
    (None, {}),
    ({"format": "pt"}, {}),
    ({"mtlmoe_jax": json.dumps({"step": 3})}, {"step": 3}),
  ):
    save_safetensors(path, {"a": np.zeros(2)}, metadata)
    assert readers.read_facts(path) == facts
  assert readers.read_facts(tmp_path / "none.pth") == {}
  save_safetensors(path, {"a": np.zeros(2)}, {"mtlmoe_jax": "[1"})
  with pytest.raises(errors.InputError, match="damaged"):
    readers.read_facts(path)


_FILES = {
  "zip.pth": _sample(_ZIP),
  "legacy.pth": _sample(_LEGACY),
  "w.npz": _npz(a=np.arange(6.0), b=np.zeros((2, 2), np.int32)),
  "w.safetensors": _safetensors(_GOOD, _SIX),
}


@settings(
  max_examples=100,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
  st.sampled_from(sorted(_FILES)),
  st.integers(0),
  st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=4),
)
def test_damaged_files_give_arrays_or_one_clear_line(
  tmp_path, name, length, changes
):
  data = bytearray(_FILES[name])
  for place, value in changes:
    data[place % len(data)] = value
  path = _write(tmp_path / name, data[: length % (len(data) + 1)])
  try:
    found = read_weights(path)
  except errors.InputError as error:
    assert "\n" not in str(error)
  else:
    assert all(isinstance(v, np.ndarray) for v in found.values())
