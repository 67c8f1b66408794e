"""The video transformer for fine-tuning: every token, mean pooling, a linear head (VideoMAE; AdaMAE, appendix A.6).

It can also be shown some of the tokens only, in training or in a test (arXiv 2308.01916, open question 2).

Shapes: B batch, N tokens, V visible, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from torch import Tensor, nn

from vidkit.errors import ConfigError
from vidkit.models.layers import init_weights, make_blocks, position_table, run_blocks
from vidkit.models.masking import random_subset
from vidkit.models.products import use_fast_products
from vidkit.models.spt import make_tokenizer
from vidkit.models.tokenizers import check_video, patchify, take
from vidkit.settings.model import ClassifierConfig

#: What a classifier takes over from a pre-trained model. The final norm is new: it follows the pooling here.
SHARED = ("tokenizer.", "encoder.")


class VideoClassifier(nn.Module):
    """Submodules: `tokenizer`, `encoder` (blocks), `fc_norm`, `dropout`, `head`. The first two are as in AdaMAE."""

    positions: Tensor

    def __init__(self, config: ClassifierConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        vit = config.encoder
        self.config = config
        self.tokenizer = make_tokenizer(vit)
        self.encoder = make_blocks(
            vit.depth, vit.width, vit.heads, vit.mlp_ratio, drop_path=config.drop_path, attention=vit.attention
        )
        self.fc_norm = nn.LayerNorm(vit.width, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(vit.width, config.classes)
        self.register_buffer("positions", position_table(vit.positions, vit.grid, vit.width), persistent=False)
        init_weights(self, linear="normal", generator=generator)
        use_fast_products(self)
        with torch.no_grad():
            self.head.weight.mul_(config.head_scale)

    def forward(self, video_BCTHW: Tensor, keep_BV: Tensor | None = None) -> Tensor:
        """Clips, uint8 or floating point in [0, 1] -> raw scores (B, K), without softmax; `keep_BV` as below."""
        scores: Tensor = self.head(self.dropout(self.features(video_BCTHW, keep_BV)))
        return scores

    def features(self, video_BCTHW: Tensor, keep_BV: Tensor | None = None) -> Tensor:
        """Clips -> pooled and normalised features (B, D).

        Args:
            keep_BV: the tokens that are seen, distinct in each row; the others are dropped before the encoder, and
                the mean is over those that are left. None: all of them.

        Raises:
            ConfigError: clips of another shape or dtype.
        """
        check_video(video_BCTHW, self.config.encoder)
        inputs_BNQ = self.tokenizer.inputs(video_BCTHW, patchify(video_BCTHW, self.config.encoder))
        if keep_BV is None:
            x_BND = self.tokenizer(inputs_BNQ) + self.positions
        else:
            x_BND = self.tokenizer(take(inputs_BNQ, keep_BV)) + self.positions[keep_BV]
        x_BND = run_blocks(self.encoder, x_BND, self.config.recompute)
        pooled: Tensor = self.fc_norm(x_BND.mean(dim=1))
        return pooled

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Take tokenizer and encoder from an AdaMAE model's `state_dict()`; the head stays as it is.

        Raises:
            ConfigError: keys are missing, or left over, or of another shape; all of them are listed.
        """
        mine = {key: value for key, value in self.state_dict().items() if key.startswith(SHARED)}
        theirs = {key: value for key, value in state.items() if key.startswith(SHARED)}
        faults = [f"{key}: missing" for key in mine.keys() - theirs.keys()]
        faults += [f"{key}: not in this model" for key in theirs.keys() - mine.keys()]
        faults += [
            f"{key}: shape {tuple(theirs[key].shape)}, here {tuple(mine[key].shape)}"
            for key in mine.keys() & theirs.keys()
            if theirs[key].shape != mine[key].shape
        ]
        if faults:
            raise ConfigError(
                "the pre-trained encoder does not fit: " + "; ".join(sorted(faults)),
                hint="fine-tune with the encoder settings that the checkpoint was trained with",
            )
        self.load_state_dict(theirs, strict=False)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Layers for timm: the tokenizer is layer 0, blocks 1 to depth, norm and head the last."""
        return {"stem": r"^tokenizer", "blocks": r"^encoder" if coarse else [(r"^encoder\.(\d+)", None)]}

    def no_weight_decay(self) -> set[str]:
        """Names of weights that timm's optimiser should not decay: none but those it leaves out itself."""
        return set()


class MaskedClassifier(VideoClassifier):
    """A classifier that is shown `visible` tokens of each clip: the test that goes with training under a mask.

    All subsets are equally likely. They are drawn from `seed` in the order of the batches, so that two tests with
    the same clips, batch size and device have the same masks. Weights come by `load_state_dict`.
    """

    def __init__(self, config: ClassifierConfig, visible: int, seed: int = 0) -> None:
        super().__init__(config)
        self.visible, self.seed = visible, seed
        self._generator: torch.Generator | None = None

    def forward(self, video_BCTHW: Tensor, keep_BV: Tensor | None = None) -> Tensor:
        """As a classifier's; `keep_BV` None: tokens are drawn."""
        if keep_BV is None:
            if self._generator is None:
                self._generator = torch.Generator(device=video_BCTHW.device).manual_seed(self.seed)
            keep_BV = random_subset(video_BCTHW, self.config.encoder.tokens, self.visible, self._generator)
        return super().forward(video_BCTHW, keep_BV)


def layer_decay_groups(model: VideoClassifier, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameter groups in which the layers below the head learn more slowly (BEiT; AdaMAE, Table 6: 0.75).

    Each has `params`, `weight_decay` (0 for biases and norms) and `lr_scale` = layer_decay^(depth + 1 - layer),
    which timm's schedulers multiply with; other schedulers must do so themselves.
    """
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model,
        weight_decay=weight_decay,
        no_weight_decay_list=model.no_weight_decay(),
        layer_decay=layer_decay,
    )
    return groups
