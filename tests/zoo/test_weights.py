import pickle

import pytest
import torch
from safetensors.torch import save_file

from cellwatch.errors import WeightsError
from cellwatch.files.digests import file_sha256
from cellwatch.zoo.weights import (
    load_checkpoint,
    load_network,
    network_from,
    read_checkpoint,
    save_checkpoint,
    save_network,
    with_diameters,
)
from tests.conftest import tiny_network


class Payload:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_network_survives_full_precision_to_the_bit(tmp_path):
    network = tiny_network()

    sha256 = save_network(network, tmp_path / "w", is_half=False)

    loaded = load_network(tmp_path / "w")
    assert sha256 == file_sha256(tmp_path / "w")
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_half_precision_touches_only_the_large_tensors(tmp_path):
    network = tiny_network()
    save_network(network, tmp_path / "w", is_half=True)

    loaded = load_network(tmp_path / "w").state_dict()

    for key, value in network.state_dict().items():
        if value.dim() > 1:
            torch.testing.assert_close(loaded[key], value, atol=1e-3, rtol=1e-3)
        else:
            assert torch.equal(loaded[key], value), key


def test_weights_are_never_overwritten(tmp_path):
    save_network(tiny_network(), tmp_path / "w", is_half=True)
    before = file_sha256(tmp_path / "w")

    with pytest.raises(WeightsError, match="never overwritten"):
        save_network(tiny_network(1), tmp_path / "w", is_half=True)
    assert file_sha256(tmp_path / "w") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("output.2.bias"), "missing output.2.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown extra"),
        (lambda s: s.update({"output.2.bias": torch.zeros(4)}), r"shape \(4,\), not \(3,\)"),
        (lambda s: s.pop("diam_mean"), "missing diam_mean"),
        (lambda s: s["output.2.bias"].fill_(float("nan")), "output.2.bias holds values"),
    ],
)
def test_every_key_is_accounted_for(change, message):
    state = {k: v.clone() for k, v in tiny_network().state_dict().items()}
    change(state)

    with pytest.raises(WeightsError, match=message):
        network_from(state, "a file")


def test_a_checkpoint_goes_out_and_comes_back(tmp_path):
    network = tiny_network()
    save_checkpoint(network, tmp_path / "cp")

    loaded = load_checkpoint(tmp_path / "cp")

    assert loaded.config == network.config
    tiles = torch.rand(1, 2, 32, 32)
    assert torch.equal(loaded(tiles)[0], network(tiles)[0])


def test_a_pickle_payload_is_refused_and_not_executed(tmp_path, capsys):
    (tmp_path / "evil").write_bytes(pickle.dumps({"a": Payload()}))
    torch.save({"a": Payload()}, tmp_path / "evil.pth")

    (tmp_path / "junk").write_bytes(b"not a network")

    for name, told in (
        ("evil", "are damaged, or something else"),  # not even a pickle that torch wrote
        ("evil.pth", r"it would call [\w.]+; nothing of it was executed"),
        ("junk", "its 13 bytes are damaged, or something else; fetch it again"),
    ):
        with pytest.raises(
            WeightsError, match=f"cannot be read as a Cellpose checkpoint: .*{told}"
        ):
            load_checkpoint(tmp_path / name)
    assert "executed" not in capsys.readouterr().out


def test_a_checkpoint_that_cannot_be_opened_or_does_not_fit_is_not_called_damaged(
    tmp_path, monkeypatch
):
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        load_checkpoint(tmp_path / "gone")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        load_checkpoint(tmp_path)
    save_checkpoint(tiny_network(), tmp_path / "cp")

    def no_memory(*_args, **_options):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "load", no_memory)
    with pytest.raises(WeightsError, match="needs more memory to read than there is"):
        load_checkpoint(tmp_path / "cp")


def test_a_sam_checkpoint_is_named_as_such(tmp_path):
    torch.save({"W2": torch.zeros(1)}, tmp_path / "cpsam")

    with pytest.raises(WeightsError, match="Cellpose 4"):
        load_checkpoint(tmp_path / "cpsam")


@pytest.mark.parametrize(
    ("wrapped", "note"),
    [
        (lambda state: {f"module.{k}": v for k, v in state.items()}, "began with 'module.'"),
        (lambda state: {"state_dict": state, "epoch": 3}, "was under 'state_dict'"),
        (
            lambda state: {"model": {f"module.{k}": v for k, v in state.items()}, "lr": 0.1},
            "was under 'model'; its names began",
        ),
    ],
)
def test_what_other_programs_put_around_a_state_dict_is_taken_off_and_said(tmp_path, wrapped, note):
    network = tiny_network()
    save_checkpoint(network, tmp_path / "plain")
    state = torch.load(tmp_path / "plain", weights_only=True)
    torch.save(wrapped(state), tmp_path / "wrapped")

    loaded, said = read_checkpoint(tmp_path / "wrapped")

    assert note in said
    assert read_checkpoint(tmp_path / "plain")[1] == ""
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


def test_a_network_of_omnipose_is_named_as_such(tmp_path):
    save_checkpoint(tiny_network(), tmp_path / "plain")
    state = dict(torch.load(tmp_path / "plain", weights_only=True))
    state["output.2.weight"] = torch.zeros(4, *state["output.2.weight"].shape[1:])
    torch.save(state, tmp_path / "omni")

    with pytest.raises(WeightsError, match=r"4 maps where Cellpose gives 3: .* Omnipose"):
        load_checkpoint(tmp_path / "omni")


def test_truncated_weights_are_refused(tmp_path):
    save_network(tiny_network(), tmp_path / "w", is_half=True)
    data = (tmp_path / "w").read_bytes()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])

    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_network(tmp_path / "cut")


def test_a_file_of_something_else_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w")

    with pytest.raises(WeightsError, match="missing downsample"):
        load_network(tmp_path / "w")


def test_the_training_diameter_can_be_replaced():
    changed = with_diameters(tiny_network(), diam_labels=42.0)

    assert changed.config.diam_labels == 42
    assert float(changed.state_dict()["diam_labels"]) == 42


def test_the_golden_checkpoint_is_this_network_key_for_key(golden):
    network = load_checkpoint(golden / "cpnet_dsb.pth")

    assert network.config.diam_mean == 17
    assert len(network.state_dict()) == 313
