"""One contender of `bench_pretrain` in a process of its own: a job as JSON on the command line, a row as JSON on
the last line of its output.

Every contender takes whole steps on clips made of noise: forward, backward, AdamW, in float32, with the arithmetic
of AdaMAE's released code: its rounding of the visible tokens, its sampling loss, which trains the tokenizer too,
its dropout. All of them import the same libraries.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import timm.layers
import torch
from timm.models import _registry
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from tests.reference import ref_adamae
from vidkit.models.adamae import AdaMAE
from vidkit.models.foreign.convert import read_foreign
from vidkit.models.masking import mask_generator, num_visible
from vidkit.settings.model import (
    AdaMAEConfig,
    DecoderConfig,
    MaskConfig,
    RecomputeConfig,
    SamplerConfig,
    ViTConfig,
    vit_base,
)

LEAN = RecomputeConfig(decoder="cheap", sampler="cheap")

#: As in the released training script and the paper's Table 4.
ADAMW: dict[str, Any] = {"lr": 1.5e-4, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.05}

Step = Callable[[], Tensor]


def settings(size: str, recompute: RecomputeConfig = RecomputeConfig()) -> AdaMAEConfig:
    """ "vit-base", or "quick": a few thousand weights."""
    small = AdaMAEConfig(
        encoder=ViTConfig(size=64, width=48, depth=2, heads=4),
        decoder=DecoderConfig(width=24, depth=2, heads=2),
    )
    return replace(
        small if size == "quick" else vit_base(),
        mask=MaskConfig(strategy="adaptive", ratio=0.75 if size == "quick" else 0.95, rounding="paper"),
        sampler=SamplerConfig(input="released"),
        recompute=recompute,
    )


def noise(config: AdaMAEConfig, batch: int) -> Tensor:
    vit = config.encoder
    shape = (batch, vit.channels, vit.frames, vit.size, vit.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def some_mask(config: AdaMAEConfig, batch: int) -> Tensor:
    """Visible tokens for the reference, which does not choose any itself."""
    mask, vit = config.mask, config.encoder
    visible = num_visible(vit.grid, mask.ratio, mask.rounding, mask.strategy)
    return torch.rand(batch, vit.tokens).topk(visible).indices.sort().values


# --- contenders ----------------------------------------------------------------------------------


def vidkit_step(
    job: dict[str, Any], recompute: RecomputeConfig = RecomputeConfig(), compiled: bool = False, bf16: bool = False
) -> Step:
    """As the training loop does it: fused AdamW, the gradients' norm, no update where a value is not finite."""
    config = settings(job["size"], recompute)
    video = noise(config, job["batch"])
    model = AdaMAE(config, torch.Generator().manual_seed(0))
    if compiled:
        model.compile()
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    optimizer = torch.optim.AdamW(groups, fused=True, **ADAMW)
    masks = mask_generator(0, 0, 0)

    def step() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(video, masks, diagnostics=False).loss
        loss.backward()
        norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        optimizer.found_inf = (~(loss.isfinite() & norm.isfinite())).float()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def reference_step(job: dict[str, Any]) -> Step:
    config = settings(job["size"])
    video, keep = noise(config, job["batch"]), some_mask(config, job["batch"])
    weights = dict(AdaMAE(config, torch.Generator().manual_seed(0)).named_parameters())
    optimizer = torch.optim.AdamW(weights.values(), **ADAMW)

    def step() -> Tensor:
        loss = ref_adamae.forward(weights, config, video, keep, dropout=config.sampler.dropout).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def released_step(job: dict[str, Any]) -> Step:
    config = settings(job["size"])
    video = noise(config, job["batch"]).float() / 255
    model = released_model(Path(job["released"]), config).train()
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)

    def step() -> Tensor:
        loss = released_loss(model, config, video)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


CONTENDERS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "released": released_step,
    "reference": reference_step,
    "vidkit, plain": vidkit_step,
    "vidkit": partial(vidkit_step, recompute=LEAN),
    "vidkit, light": partial(
        vidkit_step, recompute=RecomputeConfig(encoder="light", decoder="light", sampler="light")
    ),
    "vidkit, full": partial(vidkit_step, recompute=RecomputeConfig(encoder="full", decoder="full", sampler="full")),
    "vidkit, plain, bf16": partial(vidkit_step, bf16=True),
    "vidkit, bf16": partial(vidkit_step, recompute=LEAN, bf16=True),
    "vidkit, plain, compiled": partial(vidkit_step, compiled=True),
}


# --- the released model --------------------------------------------------------------------------


def released_model(tree: Path, config: AdaMAEConfig) -> Any:
    """The released class with the sizes of `config`; for ViT-B, what its own function for it makes."""
    old_timm()
    sys.path.insert(0, os.fspath(tree))
    from models.pretrain.vit import PretrainVisionTransformer  # type: ignore[import-not-found]

    torch.manual_seed(0)
    return PretrainVisionTransformer(**released_sizes(config), mask_ratio=config.mask.ratio)


def old_timm() -> None:
    """Modules that later versions of timm have moved, under the names that released code imports."""
    sys.modules.setdefault("timm.models.registry", _registry)
    layers: Any = types.ModuleType("timm.models.layers")
    layers.__dict__.update(timm.layers.__dict__)
    sys.modules.setdefault("timm.models.layers", layers)


def released_sizes(config: AdaMAEConfig) -> dict[str, Any]:
    """Arguments that the released classes of VideoMAE and AdaMAE share."""
    vit, decoder = config.encoder, config.decoder
    return {
        "img_size": vit.size,
        "patch_size": vit.patch,
        "encoder_embed_dim": vit.width,
        "encoder_depth": vit.depth,
        "encoder_num_heads": vit.heads,
        "decoder_num_classes": vit.patch_values,
        "decoder_embed_dim": decoder.width,
        "decoder_depth": decoder.depth,
        "decoder_num_heads": decoder.heads,
        "mlp_ratio": vit.mlp_ratio,
        "qkv_bias": True,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
    }


def released_loss(model: Any, config: AdaMAEConfig, video: Tensor) -> tuple[Tensor, Tensor]:
    """The training script's loss of clips in [0, 1], and the mask the model drew: (B, N), True where hidden."""
    vit = config.encoder
    with torch.no_grad():
        mean, std = (torch.tensor(value).view(-1, 1, 1, 1) for value in (vit.pixel_mean, vit.pixel_std))
        target = torch.stack([ref_adamae.targets(config, clip) for clip in video])
    predicted, probability, hidden = model((video - mean) / std)
    batch = len(video)
    errors = (predicted - target[hidden].view(batch, -1, vit.patch_values)).square().mean(dim=-1)
    log_probs = torch.distributions.Categorical(probs=probability).logits[hidden].view(batch, -1)
    sampling = -(log_probs * errors.detach()).mean()
    return errors.mean() + config.loss.sampling_weight * sampling, hidden


# --- the same arithmetic -------------------------------------------------------------------------


def parity(job: dict[str, Any]) -> dict[str, Any]:
    """Loss and norm of the gradients by contender: the same weights, clips and mask, dropout off."""
    config = settings(job["size"])
    video = noise(config, job["batch"])
    ours = AdaMAE(config, torch.Generator().manual_seed(0)).eval()
    found: dict[str, Any] = {}
    if job["released"]:
        model = released_model(Path(job["released"]), config).eval()
        loss, hidden = released_loss(model, config, video.float() / 255)
        loss.backward()
        found["released"] = _figures(loss, model.parameters())
        keep = (~hidden).nonzero()[:, 1].view(job["batch"], -1)
        ours.load_state_dict(_taken_over(model, config, Path(job["work"])))
    else:
        with torch.no_grad():
            keep = ours(video, mask_generator(0, 0, 0)).keep
    weights = dict(ours.named_parameters())
    loss = ref_adamae.forward(weights, config, video, keep).loss
    loss.backward()
    found["reference"] = _figures(loss, weights.values())
    for name, recompute in (("vidkit, plain", RecomputeConfig()), ("vidkit", LEAN)):
        model = AdaMAE(settings(job["size"], recompute)).eval()
        model.load_state_dict(ours.state_dict())
        loss = model(video, keep_BV=keep).loss
        loss.backward()
        found[name] = _figures(loss, model.parameters())
    return found


def _figures(loss: Tensor, parameters: Any) -> dict[str, float]:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return {"loss": loss.item(), "gradient_norm": nn.utils.get_total_norm(gradients).item()}


def _taken_over(model: Any, config: AdaMAEConfig, work: Path) -> dict[str, Tensor]:
    """The released model's weights under our names, through a checkpoint in its layout."""
    path = work / "released.pth"
    torch.save({"model": model.state_dict()}, path)
    vit, decoder = config.encoder, config.decoder
    told: dict[str, Any] = {"frames": vit.frames, "size": vit.size, "ratio": config.mask.ratio}
    return dict(read_foreign(path, heads=vit.heads, decoder_heads=decoder.heads, **told).model)


# --- a process -----------------------------------------------------------------------------------


def memory(field: str) -> float:
    """GB (10^9 bytes) of this process: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    line = next(line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024 / 1e9


def steps(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of each step but the first one, in which the optimiser makes its state; memory of the process."""
    started = memory("VmRSS")
    step = CONTENDERS[job["contender"]](job)
    seconds, processor, losses = [], [], []
    for _ in range(job["steps"] + 1):
        begun, used = time.perf_counter(), time.process_time()
        losses.append(step().item())
        seconds.append(round(time.perf_counter() - begun, 4))
        processor.append(round(time.process_time() - used, 4))
    return {
        "seconds": seconds[1:],
        "cpu_s": processor[1:],
        "first_s": seconds[0],
        "peak_gb": round(memory("VmHWM"), 4),
        "imports_gb": round(started, 4),
        "losses": [round(loss, 5) for loss in losses],
    }


def main() -> None:
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    print(json.dumps(parity(job) if job["contender"] == "parity" else steps(job)))


if __name__ == "__main__":
    main()
