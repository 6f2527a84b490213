import io
import os
import pickle

import numpy as np
import pytest

from cellwatch.errors import UnsafePickle
from cellwatch.zoo.pickles import read_pickled_dict


def write(path, held):
    np.save(path, held, allow_pickle=True)
    return path


def npy_of(payload):
    """A .npy file of one object whose pickle is the payload."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + payload


def test_what_numpy_wrote_comes_back(tmp_path):
    held = {
        "A": np.arange(4.0),
        "diam_mean": np.float32(30.0),
        "masks": np.ones((3, 2), np.uint16),
        "filename": "a.tif",
        "names": np.array(["x", "y"]),
        "flows": [np.zeros((2, 2), np.float32), None],
        "ismanual": np.array([True, False]),
    }

    found = read_pickled_dict(write(tmp_path / "a.npy", held))

    assert found.keys() == held.keys()
    np.testing.assert_array_equal(found["A"], held["A"])
    np.testing.assert_array_equal(found["masks"], held["masks"])
    assert found["diam_mean"] == 30
    assert found["names"].tolist() == ["x", "y"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_read_and_names_of_numpy_1_too(tmp_path, protocol):
    array = np.empty((), object)
    array[()] = {"A": np.arange(3), "s": np.float64(2)}
    payload = pickle.dumps(array, protocol)
    old = payload.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    if protocol >= 4:  # lengths of the short string and of the frame stand before them
        old = old.replace(b"\x8c\x16numpy.core", b"\x8c\x15numpy.core")
        frame = int.from_bytes(old[3:11], "little") - (len(payload) - len(old))
        old = old[:3] + frame.to_bytes(8, "little") + old[11:]

    for number, data in enumerate((payload, old)):
        path = tmp_path / f"{number}.npy"
        path.write_bytes(npy_of(data))
        assert read_pickled_dict(path)["A"].tolist() == [0, 1, 2]


class Payload:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "call", [os.system, eval, exec, __import__, os.remove, getattr, np.load, open]
)
def test_a_payload_is_refused_by_name_and_nothing_runs(tmp_path, call):
    trace = tmp_path / "trace"
    trace.write_text("untouched")
    command = {os.system: f"rm {trace}", os.remove: str(trace)}.get(call, str(trace))
    path = write(tmp_path / "bad.npy", {"A": Payload(call, command)})

    with pytest.raises(UnsafePickle, match="would call"):
        read_pickled_dict(path)
    assert trace.read_text() == "untouched"


@pytest.mark.parametrize(
    "content",
    [b"", b"no npy", npy_of(b""), npy_of(pickle.dumps(np.zeros(3))[:30]), npy_of(b"\x80\x04N.")],
    ids=["empty", "text", "no pickle", "cut", "none"],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)

    with pytest.raises(UnsafePickle, match=r"x\.npy"):
        read_pickled_dict(tmp_path / "x.npy")


def test_a_plain_array_is_no_dictionary(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(4))

    with pytest.raises(UnsafePickle):
        read_pickled_dict(tmp_path / "x.npy")


def test_an_array_over_an_address_cannot_be_forged(tmp_path):
    address = id("some object").to_bytes(8, "little")
    forged = b"\x80\x02cnumpy\nndarray\nK\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R"
    forged += b"U\x08" + address + b"\x87R."
    (tmp_path / "x.npy").write_bytes(npy_of(forged))

    with pytest.raises(UnsafePickle):
        read_pickled_dict(tmp_path / "x.npy")


def test_objects_are_not_made_from_bytes(tmp_path):
    forged = b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R"
    forged += b"U\x0812345678\x86R."
    (tmp_path / "x.npy").write_bytes(npy_of(forged))

    with pytest.raises(UnsafePickle, match="objects are not made from bytes"):
        read_pickled_dict(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "array",
    [np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)),
     np.array([1, 2], ">u2"), np.array(["ab", "c"]), np.array([b"ab"]), np.array([True, False]),
     np.zeros((0, 3), np.float32), np.array(5, np.int8), np.array([1 + 2j])],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)  # fmt: skip
def test_arrays_of_every_plain_type_come_back(tmp_path, array):
    found = read_pickled_dict(write(tmp_path / "x.npy", {"a": array, "s": array.flat[:1]}))["a"]

    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape


def test_records_are_refused(tmp_path):
    held = {"a": np.zeros(2, [("x", "f8"), ("y", "i4")])}

    with pytest.raises(UnsafePickle):
        read_pickled_dict(write(tmp_path / "x.npy", held))
