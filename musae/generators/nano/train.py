"""The training loop of `nano`: settings, schedule, steps, checkpoints.

Every random draw of a step depends on (seed, step) alone and the learning rate on the step, so that training in pieces gives bit
for bit what training in one go gives (on one machine, with one number of threads).

Schedule: linear warm-up, constant, then linear decay to zero over the last quarter of `steps`. A checkpoint from before the
decay serves every `steps` whose decay begins later: so training can be prolonged, or cut short, by changing `steps` alone; the
last such checkpoint is kept.

The blocks' matrices are trained by Muon (with the update scaled to AdamW's size, arXiv:2502.16982), all else by AdamW. At equal
frames (0.6 M, batch 8) that took held-out loss from 2.89/4.66/5.28/5.40 to 2.59/4.31/5.09/5.29 nats, for a third more time a step
on one thread. Forward and backward passes run in bfloat16 autocast over float32 weights, where the processor has bfloat16.
"""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import MusicgenForCausalLM

from musae.errors import UserError
from musae.files import atomic_path, writing
from musae.generators import autoregressive, decoder
from musae.generators.nano import codec as codecs
from musae.generators.nano import data, model
from musae.generators.nano.data import Tracks

CLIP = 256
"""Frames of a training crop: 10.24 s."""


@dataclass(frozen=True)
class Settings:
    """What a training run is; a folder serves one of them (`steps`, `hours` apart from the codec's share, may grow)."""

    hours: Mapping[str, float | None] = field(default_factory=lambda: {"procedural": None, "chorales": None})
    """Corpus -> hours of its training split (None: all)."""
    heldout_hours: float = 0.5
    """Hours of each corpus's held-out split on which losses are reported."""
    codec_frames: int = 400_000
    """Frames that the codec is fitted on, drawn equally from the corpora."""
    codewords: int = codecs.CODEWORDS
    steps: int = 20_000
    batch: int = 8
    """Crops of `CLIP` frames a step."""
    peak: float = 2e-3
    """Highest learning rate."""
    warmup: int = 300
    """Steps of linear warm-up."""
    seed: int = 0
    shape: Mapping[str, int] = field(default_factory=dict)
    """Departures from `model.build`'s architecture (for tests)."""

    @property
    def decay(self) -> int:
        """First step of the decay."""
        return decay_of(self.steps)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        return self.peak * min(1.0, (step + 1) / self.warmup, (self.steps - step) / (self.steps - self.decay))

    def fixed(self) -> dict[str, Any]:
        """The settings that a checkpoint binds: all that its past depends on."""
        return {name: value for name, value in asdict(self).items() if name in ("batch", "peak", "warmup", "seed", "shape")}


def decay_of(steps: int) -> int:
    """First step of the decay in a schedule of `steps`: its last quarter, at least one step."""
    return steps - max(1, steps // 4)


def fit(
    out: Path,
    settings: Settings,
    train: Mapping[str, Tracks],
    heldout: Mapping[str, Tracks],
    codec: str,
    *,
    stop: Callable[[], bool],
    say: Callable[[str], None],
    every: int = 50,
    save_minutes: float = 2.0,
) -> bool:
    """Train to `settings.steps`, from the latest checkpoint that serves; True when complete. Logs to ``out/log.jsonl``.

    `codec` is the revision of the codec that made the codes. Every `every` steps the training loss is reported, every ten times
    that the loss on a fixed set of held-out windows.
    """
    tracks = data.join(list(train.values()))
    network = model.build(codewords=settings.codewords, seed=settings.seed, **settings.shape)
    network.set_attn_implementation("eager")
    weights = model.weights(network)
    optimizers = optimizers_of(weights)
    seconds, state = 0.0, _latest(out, settings, codec)
    step = 0
    if state is not None:
        network.load_state_dict(state["weights"], strict=False)
        for optimizer, its in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)
        step, seconds = state["step"], state["seconds"]
        say(f"going on at step {step:,} of {settings.steps:,}")

    def save(name: str) -> None:
        with atomic_path(out / name) as temporary, temporary.open("wb") as file:  # to a path, torch hides that a disk is full
            torch.save(
                {
                    "settings": settings.fixed(),
                    "codec": codec,
                    "steps": settings.steps,
                    "step": step,
                    "seconds": seconds,
                    "weights": {name: weight.detach() for name, weight in weights.items()},
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                },
                file,
            )

    began = saved = reported = time.monotonic()
    losses: list[Tensor] = []
    while step < settings.steps:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = settings.rate(step)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        rows, _ = tracks.crops(settings.batch, CLIP, generator)
        loss = loss_of(network, tracks.cut(rows, CLIP)).mean(0)
        if not loss.isfinite().all():
            raise UserError(f"{out}: the loss is {rounded(loss)} at step {step}; choose another --out folder and a lower --peak.")
        loss.mean().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        step += 1
        now = time.monotonic()
        seconds, began = seconds + now - began, now
        if step % every == 0 or step == settings.steps:
            mean = rounded(torch.stack(losses).mean(0))
            entry: dict[str, Any] = {"step": step, "minutes": round(seconds / 60, 2), "loss": mean}
            entry["frames_per_second"] = round(len(losses) * settings.batch * CLIP / (now - reported))
            if step % (10 * every) == 0 or step == settings.steps:
                entry["heldout"] = {name: rounded(evaluate(network, part, 48)) for name, part in heldout.items()}
            losses, reported = [], time.monotonic()
            with writing(out / "log.jsonl"), (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            say(" ".join(f"{name} {value}" for name, value in entry.items()))
        if step == settings.decay:
            save("stable.pt")
        if (over := stop()) or step == settings.steps or now - saved > 60 * save_minutes:
            save("checkpoint.pt")
            saved = now
            if over and step < settings.steps:
                say(f"stopped at step {step:,} of {settings.steps:,}; the same command goes on")
                return False
    return True


def optimizers_of(weights: Mapping[str, torch.nn.Parameter]) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for embeddings, heads and norms. Raises UserError where torch is too old for Muon."""
    if not hasattr(torch.optim, "Muon"):
        raise UserError(f"torch {torch.__version__} has no Muon, which pre-training uses; install torch 2.9 or later.")
    matrices = {name: w for name, w in weights.items() if w.ndim == 2 and ".layers." in name}
    others = [w for name, w in weights.items() if name not in matrices]
    return [
        torch.optim.Muon(list(matrices.values()), weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def loss_of(network: MusicgenForCausalLM, codes: Tensor) -> Tensor:
    """Training loss: nats per clip and codebook ``[n, K]`` over all positions, in bfloat16 where that is native."""
    with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16()):
        delays = range(network.config.num_codebooks)
        inputs = autoregressive.delay(codes, network.config.vocab_size, delays)
        mask = decoder.causal_mask(inputs.shape[-1], torch.bfloat16 if native_bfloat16() else torch.float32)
        stream = decoder.embed(network, inputs)
        for index in range(network.config.num_hidden_layers):
            stream = decoder.run_block(network, index, stream, mask=mask)
        return decoder.cross_entropy(network, stream, autoregressive.targets(codes, delays))


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself (elsewhere it is slower than float32)."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@torch.inference_mode()
def evaluate(network: MusicgenForCausalLM, tracks: Tracks, windows: int | None = None) -> Tensor:
    """Mean nats per codebook ``[K]`` on (evenly spread) non-overlapping windows of tracks."""
    rows = tracks.windows(CLIP)
    if windows is not None and len(rows) > windows:
        rows = rows[torch.linspace(0, len(rows) - 1, windows).long()]
    return torch.cat([loss_of(network, tracks.cut(part, CLIP)) for part in torch.split(rows, 32)]).mean(0)


def _latest(out: Path, settings: Settings, codec: str) -> dict[str, Any] | None:
    """The furthest checkpoint that lies on the schedule of `settings`; one that names no codec is taken to be of this one.

    Raises UserError for a checkpoint that is damaged, or of other settings or another codec.
    """
    found = []
    for path in (out / "checkpoint.pt", out / "stable.pt"):
        if path.is_file():
            state = _read(path)
            if state["settings"] != settings.fixed():
                raise UserError(f"{path}: was trained with {state['settings']}, not {settings.fixed()}; choose another folder.")
            if state.get("codec", codec) != codec:
                raise UserError(f"{path}: was trained on codes of codec {state['codec']}, not {codec}; choose another folder.")
            if state["steps"] == settings.steps or state["step"] <= min(settings.decay, decay_of(state["steps"])):
                found.append(state)
    return max(found, key=lambda state: int(state["step"]), default=None)


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{path}: not a checkpoint, or damaged ({type(error).__name__}); delete it to go on without it."
        ) from error
    return state


def rounded(nats: Tensor) -> list[float]:
    """For logs and cards."""
    return [round(value, 4) for value in nats.tolist()]
