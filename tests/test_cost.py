"""The cost model: operations against a count of them, bytes against files, and what a dry run prints."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import MusicgenForCausalLM
from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

from musae import cost, registry
from musae.activations.harvest import estimate, harvest
from musae.cli import main
from musae.generators import musicgen
from musae.generators.decoder import Decoder
from musae.methods.topk import Topk


@pytest.mark.parametrize("layer", [1, 3])
def test_a_decoders_operations_are_those_that_torch_counts(layer):
    shape = MusicgenDecoderConfig(num_hidden_layers=3, hidden_size=64, num_attention_heads=4, ffn_dim=256, vocab_size=16)
    model = Decoder(MusicgenForCausalLM(shape), range(4), "toy")
    card = musicgen.CARD.model_copy(update={"width": 64, "layers": 3})
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention is not counted
        model.stream(torch.zeros(2, 4, 200, dtype=torch.int64), (layer,))
    predicted = cost.forward(card, layer, 2, 200).operations
    assert predicted == pytest.approx(counter.get_total_flops(), rel=0.02)  # it reads one position more than there are frames


def test_a_dictionarys_encoder_is_counted_in_full():
    d, width, k, frames, batch = 64, 512, 8, 4096, 1024
    work = cost.training(d, width, k, frames, batch)
    assert work.operations == frames * (2 * d * width + 10 * d * k)
    assert work.moved == 4 * 28 * 2 * d * width
    sizes = sum(4 * p.numel() for p in (torch.empty(width, d), torch.empty(width, d), torch.empty(width), torch.empty(d)))
    assert cost.dictionaries(d, [width, width]) == 2 * sizes


def test_bytes_on_disk_are_those_predicted(tmp_path):
    nano = registry.make("generators", "nano")
    tokens = registry.load("generators", "nano").training_tokens().take(slice(12))
    for dtype in ("float16", "int8"):
        store = harvest(nano, tokens, (1, 2), tmp_path / dtype, dtype=dtype)[1]
        found = sum(path.stat().st_size for path in (tmp_path / dtype).rglob("*.safetensors") if path.name[0] == "0")
        assert found == pytest.approx(estimate(12, tokens.frames, store.d, 2, dtype), rel=0.01)


def test_saved_dictionaries_have_the_size_predicted(tmp_path):
    nano = registry.make("generators", "nano")
    tokens = registry.load("generators", "nano").training_tokens().take(slice(8))
    store = harvest(nano, tokens, (1,), tmp_path)[1]
    Topk(256, 8).fit(store).freeze().save(tmp_path / "topk.safetensors")
    assert (tmp_path / "topk.safetensors").stat().st_size == pytest.approx(cost.dictionaries(256, [256]), rel=0.02)


def test_hours_follow_work_and_device():
    device = cost.Device("toy", operations=1e9, bandwidth=1e8, efficiency=0.5, known="made up")
    assert device.hours(cost.Work(1e9, 0)) == pytest.approx(2 / 3600)
    assert device.hours(cost.Work(1e9, 1e8) + cost.Work(0, 1e8)) == pytest.approx(6 / 3600)
    assert [cost.duration(h) for h in (1e-4, 0.5, 3.0, 80.0)] == ["1 s", "30 min", "3.0 h", "3.3 days"]
    assert [cost.size(n) for n in (12, 2**20 * 1.5, 2**40 * 1.5)] == ["12 bytes", "1.5 MiB", "1.5 TiB"]


def test_dry_runs_of_the_published_grid_need_no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for size, width, days in (("small", 1024, "763 GiB"), ("large", 2048, "1.5 TiB")):
        result = CliRunner().invoke(main, ["sweep", f"paper-{size}", "--corpus", f"folder:{tmp_path}", "--dry-run"])
        assert result.exit_code == 0, result.output
        assert f"20 dictionaries of 5 layers over one pass of 80,000,000 frames of width {width}" in result.output
        assert days in result.output
        assert "GPU-hours" in result.output
        assert "measured on none" in result.output
    far = CliRunner().invoke(main, ["harvest", "nano", "--clips", "10", "--root", "memory://x", "--dry-run"])
    assert "egress: 2.5 MiB up now" in far.output
    near = CliRunner().invoke(main, ["harvest", "nano", "--clips", "10", "--root", str(tmp_path), "--dtype", "int8", "--dry-run"])
    assert "disk: 1.2 MiB under" in near.output
    assert "egress" not in near.output
    assert not list(tmp_path.iterdir())
