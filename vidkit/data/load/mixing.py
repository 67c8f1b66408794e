"""Mixup and CutMix of a batch of clips, by timm, on whatever device the batch is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vidkit.settings.encode import Faults

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchMix:
    """Mixes each clip with one other of its batch (the first with the last, and so on): one choice a batch.

    timm draws from numpy's global generator and knows pictures, not clips: the generator is seeded for each
    batch and put back, and time is folded into the channels, so that a CutMix rectangle lies at the same
    place in all frames.
    """

    classes: int
    """L: classes, or base labels where a clip can have several."""
    mixup: float = 0.8
    """Parameter of the Beta distribution of Mixup's weight (Zhang et al. 2017); 0: no Mixup."""
    cutmix: float = 1.0
    """The same of CutMix (Yun et al. 2019); 0: no CutMix."""
    prob: float = 1.0
    """Of mixing a batch at all."""
    switch_prob: float = 0.5
    """Of CutMix where both are on."""
    smoothing: float = 0.1
    """Label smoothing: shared by all classes, or towards 0.5 where a clip can have several labels."""

    def __post_init__(self) -> None:
        faults = Faults()
        faults.check(self.classes >= 1, "classes", self.classes, "at least 1")
        for name in ("mixup", "cutmix"):
            faults.check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("prob", "switch_prob"):
            faults.check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "0 to 1")
        faults.check(0 <= self.smoothing < 1, "smoothing", self.smoothing, "at least 0, below 1")
        faults.raise_if_any("mixing settings")

    def __call__(self, video_BCTHW: Tensor, labels: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """
        Args:
            video_BCTHW: floating point, contiguous; changed in place. In a batch of an odd number of clips,
                as it is where one could not be decoded, the last clip stays as it is.
            labels: (B,) int64 class ids, or (B, L) of 0 and 1.
            key: what the choice depends on, such as (seed, step, rank).

        Returns:
            the same tensor, and targets (B, L) float32.
        """
        import torch

        targets_BL = self.smooth(labels)
        count = len(video_BCTHW) // 2 * 2
        if not count or not (self.mixup or self.cutmix):
            return video_BCTHW, targets_BL
        folded = video_BCTHW[:count].flatten(1, 2)  # (B, C * T, H, W), a view
        if folded.data_ptr() != video_BCTHW.data_ptr():
            raise ValueError("clips must be contiguous to be mixed in place")
        mixer = self._timm(count)
        state = np.random.get_state()
        np.random.seed(np.random.SeedSequence(key).generate_state(4))
        try:
            # asked for which clip each one is, timm answers with the weights of all of them
            _, weights_BB = mixer(folded, torch.arange(count, device=labels.device))
        finally:
            np.random.set_state(state)
        mixed_BL = weights_BB.to(targets_BL) @ targets_BL[:count]
        return video_BCTHW, torch.cat([mixed_BL, targets_BL[count:]])

    def smooth(self, labels: Tensor) -> Tensor:
        """(B, L) float32 targets without mixing."""
        import torch

        if labels.ndim == 2:
            return labels.float() * (1 - self.smoothing) + 0.5 * self.smoothing
        even = self.smoothing / self.classes
        hot = torch.nn.functional.one_hot(labels, self.classes).float()
        return hot * (1 - self.smoothing) + even

    def _timm(self, clips: int) -> Any:
        from timm.data.mixup import Mixup

        untyped: Any = Mixup
        return untyped(
            mixup_alpha=self.mixup,
            cutmix_alpha=self.cutmix,
            prob=self.prob,
            switch_prob=self.switch_prob,
            label_smoothing=0.0,
            num_classes=clips,
        )
