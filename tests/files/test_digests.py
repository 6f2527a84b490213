import os

import numpy as np
import pytest
import tifffile

from cellwatch.errors import UnreadableImage
from cellwatch.files.digests import content_sha256, fingerprint


def test_images_with_equal_headers_and_dark_borders_differ(tmp_path):
    for index in range(20):
        image = np.zeros((400, 400), np.uint16)
        image[200, 200] = 50  # the same in all
        image[399, 390] = index
        tifffile.imwrite(tmp_path / f"{index}.tif", image)

    assert len({fingerprint(p) for p in tmp_path.iterdir()}) == 20


def test_a_name_does_not_matter_and_a_byte_does(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 1000)
    (tmp_path / "c").write_bytes(b"x" * 999 + b"y")

    a, b, c = (fingerprint(tmp_path / name) for name in "abc")

    assert a == b != c
    assert content_sha256(tmp_path / "a") == content_sha256(tmp_path / "b")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.tif")

    with pytest.raises(UnreadableImage, match="not a regular file"):
        fingerprint(tmp_path / "a.tif")
