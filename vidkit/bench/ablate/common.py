"""What can be compared between arms: the error under masks that are the same for all, and what their own show.

An arm's own loss is of its own masks: a strategy that shows what is hard to predict has a low one by that alone.
Here every arm reconstructs all hidden tokens of the same held-out clips under one list of random masks.

Shapes: n clips, B some of them, N tokens, V visible, M hidden.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from vidkit.data.load.loader import ClipLoader
from vidkit.errors import TrainingError
from vidkit.models.adamae import AdaMAE
from vidkit.models.losses import effective_of_errors, entropy
from vidkit.models.masking import mask_generator, masked_indices, num_visible, random_subset
from vidkit.models.tokenizers import check_video, patchify, take
from vidkit.settings.model import Grid
from vidkit.train.pretrain import token_shares


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """Means over the held-out clips."""

    common_error: float
    """L_R of the hidden tokens under the common masks, as the arm's own loss counts errors."""
    tokens: int
    """N."""
    ideal_effective_tokens: float
    """exp of the entropy of a draw in proportion to these errors, for all N tokens: what an ideal sampler of the
    published loss would have."""
    effective_tokens: float | None
    """The same of the arm's own draw; None where it draws from no probabilities."""
    visible_moving: float | None
    """Share of the arm's own visible tokens on which something moves; None where the dataset does not say."""
    tokens_moving: float | None
    """The same of all tokens: `visible_moving` by chance."""

    def own(self) -> dict[str, float]:
        """For a row: what there is, without the common error."""
        return {name: v for name, v in asdict(self).items() if v is not None and name != "common_error"}


def common_masks(clips: int, grid: Grid, ratio: float, seed: int) -> Tensor:
    """(n, V) visible tokens of each clip, ascending: by the clip's number alone, whatever batches it comes in.

    Raises:
        ConfigError: the ratio leaves no token visible, or none hidden.
    """
    time, height, width = grid
    generator = mask_generator(seed, 0, 0)
    return random_subset(torch.empty(clips, 0), time * height * width, num_visible(grid, ratio), generator)


@torch.inference_mode()
def look(model: AdaMAE, loader: ClipLoader, masks_nV: Tensor, seed: int, device: torch.device) -> Looked:
    """The model is moved, and put into evaluation mode.

    Args:
        loader: of the held-out clips, one view of each; its rows may say what moves.
        seed: of the arm's own masks.

    Raises:
        DatasetError: a clip that cannot be decoded.
        TrainingError: an error that is not finite.
    """
    model.to(device).eval()
    vit, sums, count = model.config.encoder, dict.fromkeys(("error", "ideal", "effective", "seen", "there"), 0.0), 0
    known: set[str] = set()
    for number, batch in enumerate(loader):
        batch = batch.to(device)
        check_video(batch.video, vit)
        patches_BNP = patchify(batch.video, vit)
        inputs_BNQ = model.tokenizer.inputs(batch.video, patches_BNP)
        errors_BM = _errors(model, inputs_BNQ, patches_BNP, masks_nV[batch.index.cpu()].to(device))
        shares_BN = None if batch.moving is None else token_shares(batch.moving, vit.grid)
        generator = mask_generator(seed, number, 0, device)
        mask, _ = model.choose(inputs_BNQ, generator, patches_BNP=patches_BNP, shares_BN=shares_BN)
        found = {"error": errors_BM.mean(), "ideal": effective_of_errors(errors_BM, vit.tokens)}
        if mask.log_probs is not None:
            found["effective"] = entropy(mask.log_probs).exp().mean()
        elif model.running_errors is not None:
            found["effective"] = effective_of_errors(model.running_errors.mean()[None], vit.tokens)
        if shares_BN is not None:
            found["seen"] = (shares_BN.gather(1, mask.keep) > 0).float().mean()
            found["there"] = (shares_BN > 0).float().mean()
        for name, value in found.items():
            sums[name] += float(value) * len(batch)
        known |= found.keys()
        count += len(batch)
    mean = {name: sums[name] / count for name in known}
    if not torch.tensor(mean["error"]).isfinite():
        raise TrainingError(f"the error under common masks is not finite: {mean['error']:g}")
    return Looked(
        common_error=mean["error"],
        tokens=vit.tokens,
        ideal_effective_tokens=mean["ideal"],
        effective_tokens=mean.get("effective"),
        visible_moving=mean.get("seen"),
        tokens_moving=mean.get("there"),
    )


def _errors(model: AdaMAE, inputs_BNQ: Tensor, patches_BNP: Tensor, keep_BV: Tensor) -> Tensor:
    """L_R of every hidden token (B, M), whatever targets the arm was trained on."""
    hidden_BM = masked_indices(keep_BV, inputs_BNQ.shape[1])
    latent_BVD = model.encode(model.tokenizer(take(inputs_BNQ, keep_BV)), keep_BV)
    return model.errors(model.decode(latent_BVD, keep_BV, hidden_BM), take(patches_BNP, hidden_BM))
