"""Pre-training steps on a device for `cuda.tables`: vidkit's as its training loop takes them, and those of the
released AdaMAE and VideoMAE models.

A step is forward, backward and AdamW on clips made of noise that lie on the device. Weights are float32; half
precision is autocast, without a gradient scaler on either side, whose cost is nothing beside a step. Nothing of the
other projects is part of this repository: their models come from a checkout, or a bare clone, that the user names.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from benchmarks.parts.pretrain_steps import ADAMW, old_timm, released_model, released_sizes
from vidkit.bench.measure.step import HALF
from vidkit.models.adamae import AdaMAE
from vidkit.models.losses import patch_targets
from vidkit.models.masking import FIXED, num_visible, visible_mask
from vidkit.models.tokenizers import patchify
from vidkit.settings.model import AdaMAEConfig
from vidkit.settings.train import Precision

Step = Callable[[], Tensor]


def noise(config: AdaMAEConfig, batch: int, device: str) -> Tensor:
    vit = config.encoder
    return torch.randint(
        0, 256, (batch, vit.channels, vit.frames, vit.size, vit.size), dtype=torch.uint8, device=device
    )


def half(device: str, precision: Precision) -> AbstractContextManager[Any]:
    kind = HALF[precision]
    return nullcontext() if kind is None else torch.autocast(device, dtype=kind)


# --- vidkit --------------------------------------------------------------------------------------


def our_step(
    config: AdaMAEConfig,
    batch: int,
    precision: Precision,
    device: str,
    *,
    compiled: Mapping[str, Any] | None = None,
    graph: bool = False,
) -> Step:
    """As the training loop does it: fused AdamW, the gradients' norm, no update where a value is not finite.

    Args:
        compiled: arguments for torch.compile; None: eager.
        graph: the whole step as one CUDA graph.
    """
    video = noise(config, batch, device)
    model = AdaMAE(config, torch.Generator().manual_seed(0)).to(device)
    if compiled is not None:
        model.compile(**compiled)
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, fused=True, capturable=graph, **ADAMW)

    def step() -> Tensor:
        with half(device, precision):
            loss: Tensor = model(video, diagnostics=False).loss
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.found_inf = (~(loss.isfinite() & norm.isfinite())).float()  # type: ignore[attr-defined]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return graphed(step) if graph else step


def graphed(step: Step, warmup: int = 3) -> Step:  # pragma: no cover - needs a GPU
    """`step` recorded once and replayed: one launch instead of thousands."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(warmup):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


# --- others' models ------------------------------------------------------------------------------


def tree(path: Path, marker: str, work: Path) -> tuple[Path, str | None]:
    """(a folder with the code, its commit) of a checkout or a bare clone that has the file `marker`.

    Raises:
        SystemExit: it is neither.
    """
    found = subprocess.run(["git", "-C", path, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    commit = found.stdout.strip() or None
    if (path / marker).exists():
        return path.resolve(), commit
    packed = subprocess.run(["git", "-C", path, "archive", "HEAD", "*.py"], capture_output=True, check=False)
    if packed.returncode == 0:
        to = work / path.resolve().parent.name
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(to, filter="data")
        if (to / marker).exists():
            return to, commit
    raise SystemExit(f"{path}: neither a checkout nor a clone of the released code (no {marker})")


def pixels(config: AdaMAEConfig, batch: int, device: str) -> Tensor:
    """Normalised clips, as the released loaders give them."""
    vit = config.encoder
    mean, std = (torch.tensor(value, device=device).view(-1, 1, 1, 1) for value in (vit.pixel_mean, vit.pixel_std))
    return (noise(config, batch, device).float() / 255 - mean) / std


def targets(config: AdaMAEConfig, video: Tensor) -> Tensor:
    """(B, N, P): what the models predict, of all patches, as the released scripts have it."""
    vit = config.encoder
    mean, std = (
        torch.tensor(value, device=video.device).view(-1, 1, 1, 1) for value in (vit.pixel_mean, vit.pixel_std)
    )
    with torch.no_grad():
        return patch_targets(patchify(video * std + mean, vit), vit.channels, config.loss.normalize)


def released_step(
    folder: Path, config: AdaMAEConfig, batch: int, precision: Precision, device: str, *, script: bool = False
) -> Step:
    """The released AdaMAE model, with its loss over the whole batch at once.

    Args:
        script: as its training script has it: the sampling loss clip by clip, and three waits for the device.
    """
    video = pixels(config, batch, device)
    model = released_model(folder, config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)

    def sampling(probability: Tensor, hidden: Tensor, errors: Tensor) -> Any:
        if not script:
            log_probs = torch.distributions.Categorical(probs=probability).logits
            return -(log_probs[hidden].view(batch, -1) * errors.detach()).mean()
        each = []
        for i in range(batch):
            spread: Any = torch.distributions.Categorical(probs=probability[i])
            log_probs = spread.log_prob(torch.arange(probability.shape[1]).to(device))
            each.append(-(log_probs[hidden[i]] * errors[i].detach()).mean())
        return torch.stack(each).mean()

    def step() -> Tensor:
        wanted = targets(config, video)
        with half(device, precision):
            predicted, probability, hidden = model(video)
            errors = (predicted - wanted[hidden].view(batch, -1, wanted.shape[2])).square().mean(dim=-1)
            loss: Tensor = errors.mean() + config.loss.sampling_weight * sampling(probability, hidden, errors)
        if script:
            loss.item()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if script and device == "cuda":
            torch.cuda.synchronize()
        return loss.detach()

    return step


def videomae_step(folder: Path, config: AdaMAEConfig, batch: int, precision: Precision, device: str) -> Step:
    """VideoMAE's model with tube masks of its own rounding, which lie on the device."""
    vit, mask = config.encoder, config.mask
    video = pixels(config, batch, device)
    model = videomae_model(folder, config).to(device).train()
    visible = num_visible(vit.grid, mask.ratio, "paper", "tube")
    keep = FIXED["tube"](video.new_zeros(batch, vit.tokens, 1), vit.grid, visible, None).keep
    hidden = ~visible_mask(keep, vit.tokens)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)

    def step() -> Tensor:
        wanted = targets(config, video)
        with half(device, precision):
            loss = nn.functional.mse_loss(model(video, hidden), wanted[hidden].view(batch, -1, wanted.shape[2]))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return step


def videomae_model(folder: Path, config: AdaMAEConfig) -> Any:
    """The released class with the sizes of `config`."""
    old_timm()
    if os.fspath(folder) not in sys.path:
        sys.path.insert(0, os.fspath(folder))
    made: Any = importlib.import_module("modeling_pretrain")
    torch.manual_seed(0)
    return made.PretrainVisionTransformer(**released_sizes(config))


# --- measuring -----------------------------------------------------------------------------------


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def tidy() -> None:
    """Before a measurement: nothing of the last one is left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def timed(make: Callable[[], Step], steps: int, warmup: int, device: str) -> dict[str, Any]:
    """Seconds of each step, and the peak of memory over what was there before the model was made.

    Steps are timed one by one, as in `vidkit.bench.measure.measure`; `burst_s` is the mean of as many that are sent
    without waiting in between, as in training, where the host runs ahead.
    """
    tidy()
    cuda = device == "cuda"
    before = (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) if cuda else (0, 0)
    with redirect_stdout(sys.stderr):  # the released models print how many tokens they show
        step = make()
    for _ in range(warmup):
        loss = step()
    wait(device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        wait(device)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(steps):
        loss = step()
    wait(device)
    burst = (time.perf_counter() - started) / steps
    return {
        "seconds": [round(value, 6) for value in seconds],
        "step_s": round(sorted(seconds)[len(seconds) // 2], 6),
        "burst_s": round(burst, 6),
        "allocated_bytes": torch.cuda.max_memory_allocated() - before[0] if cuda else None,
        "reserved_bytes": torch.cuda.max_memory_reserved() - before[1] if cuda else None,
        "loss": float(loss),
    }
