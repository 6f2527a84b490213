import numpy as np

from cellwatch.files.scratch import scratch_zeros


def test_a_scratch_array_is_zeros_that_can_be_written_and_leaves_no_file(tmp_path):
    array = scratch_zeros((3, 4, 5), np.int32, tmp_path)

    assert list(tmp_path.iterdir()) == []
    assert not array.any()
    array[1] = 7
    assert array.sum() == 7 * 20
    assert array.flags.writeable
