"""AdaMAE: a masked autoencoder for clips that learns which tokens to show (Bandara et al. 2022, arXiv 2211.09120).

Shapes: B batch, C channels, T H W the grid of tokens, N tokens, V visible, M targets (N - V, or fewer), P values
of a patch, D the encoder's width, E the decoder's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vidkit.models import ahead
from vidkit.models.decoders import CrossBlock, cross_decode
from vidkit.models.layers import (
    again_in_backward,
    cpu_parts,
    init_weights,
    join,
    make_blocks,
    part_slices,
    position_table,
    run_block,
    run_blocks,
)
from vidkit.models.losses import (
    EPS,
    effective_of_errors,
    entropy,
    head_errors,
    motion_energy,
    motion_overlap,
    patch_statistics,
    patch_targets,
    sampling_loss,
    token_errors,
)
from vidkit.models.masking import (
    Mask,
    Side,
    adaptive,
    choose_targets,
    gumbel_order,
    make_masker,
    num_targets,
    num_visible,
    visible_mask,
)
from vidkit.models.objectives import drawn_set_loss, entropy_shortfall, plackett_luce_log_prob
from vidkit.models.products import plain_on_cpu, use_fast_products
from vidkit.models.running_errors import RunningErrors
from vidkit.models.sampler import TokenSampler
from vidkit.models.spt import make_tokenizer
from vidkit.models.tokenizers import check_video, patchify, split_channels, take, to_unit, unpatchify
from vidkit.settings.model import AdaMAEConfig, Recompute


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaMAEOutput:
    """What one forward pass gives. Tensors stay on the device: the caller chooses when to wait for them."""

    loss: Tensor
    """reconstruction_loss + weight * sampling_loss. The only one to call backward on."""
    reconstruction_loss: Tensor
    sampling_loss: Tensor | None
    """Before its weight. None without adaptive masks, like the next two."""
    sampler_entropy: Tensor | None
    """Nats, mean over the batch; log N when the sampler does not choose at all."""
    effective_tokens: Tensor | None
    """exp of each clip's entropy, mean over the batch: N for an even distribution, 1 for a collapsed one."""
    ideal_effective_tokens: Tensor | None
    """Beside them: what a draw in proportion to the targets' errors would have, the optimum of the published
    sampling loss; N / M times exp of its entropy, mean over the batch. Whatever the mask. None if not asked for."""
    motion_overlap: Tensor | None
    """Share of visible tokens among the V tokens with most frame difference; V / N by chance.
    None if not asked for."""
    finite: Tensor
    """Boolean scalar: False where the loss is NaN or infinite. Nothing is replaced."""
    keep: Tensor
    """The visible tokens (B, V), ascending; of two masks a clip, the first."""
    targets: Tensor
    """The predicted tokens (B, M), ascending; likewise."""

    def __repr__(self) -> str:
        batch, visible = self.keep.shape
        return f"AdaMAEOutput(batch={batch}, visible={visible}, device={self.loss.device})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reconstruction:
    """Clips beside what the model makes of them: (B, C, frames, size, size) in [0, 1]. Maps are (B, T, H, W)."""

    video: Tensor
    reconstruction: Tensor
    """Predicted where a token is a target, the input elsewhere. Not clipped to [0, 1]."""
    error: Tensor
    """Map: the training loss of each target; 0 elsewhere."""
    visible: Tensor
    """Map of booleans."""
    target: Tensor
    """Map of booleans: what is predicted. Tokens that are neither were dropped."""
    probability: Tensor | None
    """Map; sums to 1 in each clip. None without adaptive masks."""


class AdaMAE(nn.Module):
    """Tokenizer, sampler, encoder over visible tokens, decoder that predicts the targets, and both losses.

    Submodules: `tokenizer`, `sampler` (None without adaptive masks), `running_errors` (None without "error" masks),
    `encoder` (blocks), `encoder_norm`, `project`, `mask_token`, `decoder` (blocks), `decoder_norm`, `head`.
    """

    encoder_positions: Tensor
    decoder_positions: Tensor

    def __init__(self, config: AdaMAEConfig, generator: torch.Generator | None = None) -> None:
        """Weights are drawn from `generator`, or from torch's own. ConfigError for a mask without tokens."""
        super().__init__()
        vit, decoder, mask = config.encoder, config.decoder, config.mask
        self.config = config
        self.num_visible = num_visible(vit.grid, mask.ratio, mask.rounding, mask.strategy)
        self.num_targets = num_targets(vit.grid, mask)
        self.masker = make_masker(mask, vit.grid)
        self.running_errors = RunningErrors(vit.tokens, mask.error_momentum) if mask.strategy == "error" else None
        self.tokenizer = make_tokenizer(vit)
        self.sampler = TokenSampler(config) if mask.strategy == "adaptive" else None
        self.encoder = make_blocks(vit.depth, vit.width, vit.heads, vit.mlp_ratio, attention=vit.attention)
        self.encoder_norm = nn.LayerNorm(vit.width, eps=1e-6)
        self.project = nn.Linear(vit.width, decoder.width, bias=False)
        self.mask_token = nn.Parameter(torch.zeros(decoder.width))
        if decoder.kind == "cross":
            blocks = (CrossBlock(decoder.width, decoder.heads, vit.mlp_ratio) for _ in range(decoder.depth))
            self.decoder = nn.ModuleList(blocks)
        else:
            self.decoder = make_blocks(decoder.depth, decoder.width, decoder.heads, vit.mlp_ratio)
        self.decoder_norm = nn.LayerNorm(decoder.width, eps=1e-6)
        self.head = nn.Linear(decoder.width, vit.patch_values)
        for name, width in (("encoder_positions", vit.width), ("decoder_positions", decoder.width)):
            self.register_buffer(name, position_table(vit.positions, vit.grid, width), persistent=False)
        init_weights(self, generator=generator)
        use_fast_products(self)

    def forward(
        self,
        video_BCTHW: Tensor,
        generator: torch.Generator | None = None,
        *,
        keep_BV: Tensor | None = None,
        shares_BN: Tensor | None = None,
        diagnostics: bool = True,
    ) -> AdaMAEOutput:
        """Both losses of a batch of clips.

        Args:
            video_BCTHW: clips, uint8 or floating point in [0, 1]; the model normalises them itself.
            generator: for the masks, on the clips' device; see `mask_generator`. None: torch's own.
            keep_BV: visible tokens to use instead of drawn ones, distinct and ascending in each row. Targets are
                then drawn from all the others.
            shares_BN: share of each token that moves, for maskers that ask for it: `masking.Side`.
            diagnostics: whether to compute `motion_overlap`, the one figure that reads the clips again, and
                `ideal_effective_tokens`.

        Raises:
            ConfigError: clips of another shape or dtype.
        """
        check_video(video_BCTHW, self.config.encoder)
        patches_BNP = patchify(video_BCTHW, self.config.encoder)
        inputs_BNQ = self.tokenizer.inputs(video_BCTHW, patches_BNP)
        given = keep_BV is not None
        mask, visible_BVD = self.choose(
            inputs_BNQ, generator, keep_BV, patches_BNP=patches_BNP, shares_BN=shares_BN
        )
        reconstruction, errors_BM = self._reconstruct(mask, visible_BVD, inputs_BNQ, patches_BNP)
        loss, sampling, spread, log_probs_BN = reconstruction, None, None, mask.log_probs
        if log_probs_BN is not None:
            spread = entropy(log_probs_BN.detach())
            if self.config.loss.objective == "paper":
                sampling = sampling_loss(log_probs_BN.gather(1, _targets(mask)), errors_BM)
            elif self.training and not given:
                second = self._second(mask, generator)
                other, other_BM = self._reconstruct(
                    second, self.tokenizer(take(inputs_BNQ, second.keep)), inputs_BNQ, patches_BNP
                )
                loss = reconstruction = (reconstruction + other) / 2
                sampling = drawn_set_loss(
                    torch.stack([plackett_luce_log_prob(log_probs_BN, _order(one)) for one in (mask, second)]),
                    torch.stack([errors_BM.mean(dim=1), other_BM.mean(dim=1)]),
                )
        if log_probs_BN is not None and sampling is not None:
            if self.config.loss.entropy_floor > 0:
                sampling = sampling + entropy_shortfall(log_probs_BN, self.config.loss.entropy_floor)
            if self._early(inputs_BNQ) and sampling.requires_grad:
                # before the encoder's gradients take up memory beside the sampler's activations
                sources = self._sampler_weights()
                sampling = ahead.attach(sampling, sources, ahead.gradients(sampling, sources))
            loss = reconstruction + self.config.loss.sampling_weight * sampling
        if self.running_errors is not None and self.training:
            self.running_errors.update(_targets(mask), errors_BM.detach())
        keep_BV = mask.keep
        overlap = self.overlap(patches_BNP, keep_BV) if diagnostics else None
        ideal = effective_of_errors(errors_BM.detach(), inputs_BNQ.shape[1]) if diagnostics else None
        return AdaMAEOutput(
            loss=loss,
            reconstruction_loss=reconstruction.detach(),
            sampling_loss=None if sampling is None else sampling.detach(),
            sampler_entropy=None if spread is None else spread.mean(),
            effective_tokens=None if spread is None else spread.exp().mean(),
            ideal_effective_tokens=ideal,
            motion_overlap=overlap,
            finite=loss.detach().isfinite(),
            keep=keep_BV,
            targets=_targets(mask),
        )

    def choose(
        self,
        inputs_BNQ: Tensor,
        generator: torch.Generator | None,
        keep_BV: Tensor | None = None,
        *,
        patches_BNP: Tensor | None = None,
        shares_BN: Tensor | None = None,
    ) -> tuple[Mask, Tensor]:
        """The mask, with its targets, and the visible tokens (B, V, D).

        `inputs_BNQ` is what the tokenizer reads: the patches, with shifted ones beside them if it is so made;
        `patches_BNP`, without those, is what maskers read.

        Only what is needed is tokenized with a gradient: the visible patches. A detached sampler reads tokens that
        were made without one.
        """
        grid, settings = self.config.encoder.grid, self.config.mask
        released, tokens_BND = self.config.sampler.input == "released", None
        if self.sampler is not None:
            with torch.set_grad_enabled(released and torch.is_grad_enabled()):
                tokens_BND = self._tokenize(inputs_BNQ)
            ordered = self.config.loss.objective == "plackett-luce"
            drawn = adaptive(self.sampler, ordered=ordered)(tokens_BND, grid, self.num_visible, generator)
            mask = drawn if keep_BV is None else Mask(keep_BV, log_probs=drawn.log_probs)
        elif keep_BV is not None:
            mask = Mask(keep_BV)
        else:
            assert self.masker is not None
            errors_N = None if self.running_errors is None else self.running_errors.mean()
            side = Side(errors_N=errors_N, shares_BN=shares_BN)
            seen_BNP = inputs_BNQ if patches_BNP is None else patches_BNP
            mask = self.masker(seen_BNP, grid, self.num_visible, generator, side)
        mask = mask._replace(targets=choose_targets(mask.keep, mask.targets, grid, settings, generator))
        if tokens_BND is not None and released and not self._early(inputs_BNQ):
            return mask, take(tokens_BND, mask.keep)
        # with early gradients these are tokenized again: nothing of the sampler's waits for the encoder's
        return mask, self.tokenizer(take(inputs_BNQ, mask.keep))

    def _second(self, mask: Mask, generator: torch.Generator | None) -> Mask:
        """Another mask of the same clips, from the same log-probabilities: the baseline of `plackett-luce`."""
        assert mask.log_probs is not None
        order_BV = gumbel_order(mask.log_probs.detach(), self.num_visible, generator)
        keep_BV = order_BV.sort(dim=1).values
        targets_BM = choose_targets(keep_BV, None, self.config.encoder.grid, self.config.mask, generator)
        return Mask(keep_BV, targets=targets_BM, log_probs=mask.log_probs, order=order_BV)

    def _reconstruct(
        self, mask: Mask, visible_BVD: Tensor, inputs_BNQ: Tensor, patches_BNP: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The reconstruction loss, and L_R of each target (B, M)."""
        targets_BM = _targets(mask)
        latent_BVD = self.encode(visible_BVD, mask.keep)
        if self._early(inputs_BNQ):
            return self._reconstruct_early(latent_BVD, mask.keep, targets_BM, patches_BNP)
        tail_BME = self.decode(latent_BVD, mask.keep, targets_BM)
        errors_BM = self.errors(tail_BME, take(patches_BNP, targets_BM))
        return errors_BM.mean(), errors_BM

    def _early(self, inputs_BNQ: Tensor) -> bool:
        """Whether gradients of decoder and sampler are taken within the forward pass: see `_reconstruct_early`."""
        if self.config.recompute.decoder == "none" or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        return len(part_slices(inputs_BNQ)) > 1

    def _tokenize(self, inputs_BNQ: Tensor) -> Tensor:
        """All tokens. Unless products are kept, pixels wait for the backward pass, not their normalised values."""
        if not torch.is_grad_enabled():
            return join([self.tokenizer(part) for part in cpu_parts(inputs_BNQ)])
        if self.config.recompute.sampler in ("none", "cheap"):
            tokens_BND: Tensor = self.tokenizer(inputs_BNQ)
            return tokens_BND
        return join([again_in_backward(self.tokenizer, self.tokenizer, part) for part in cpu_parts(inputs_BNQ)])

    def encode(self, visible_BVD: Tensor, keep_BV: Tensor) -> Tensor:
        """Visible tokens without positions -> their features (B, V, D)."""
        x_BVD = visible_BVD + self.encoder_positions[keep_BV]
        features: Tensor = self.encoder_norm(run_blocks(self.encoder, x_BVD, self.config.recompute.encoder))
        return features

    def decode(
        self, latent_BVD: Tensor, keep_BV: Tensor, targets_BM: Tensor, recompute: Recompute | None = None
    ) -> Tensor:
        """Features of the visible tokens -> the decoder's output at the targets, before norm and head (B, M, E).

        Visible tokens go first and mask tokens after them, each with its position. The last block has queries for
        the targets only: nothing reads the others after it. A cross decoder has such queries in every block.
        """
        shown_BVE = self.project(latent_BVD) + self.decoder_positions[keep_BV]
        hidden_BME = self.mask_token + self.decoder_positions[targets_BM]
        recompute = recompute or self.config.recompute.decoder
        if self.config.decoder.kind == "cross":
            return cross_decode(self.decoder, hidden_BME, shown_BVE, recompute)
        x_BNE = torch.cat([shown_BVE, hidden_BME], dim=1)
        *blocks, last = self.decoder
        x_BNE = run_blocks(blocks, x_BNE, recompute)
        return run_block(last, x_BNE, recompute, start=keep_BV.shape[1])

    def errors(self, tail_BME: Tensor, patches_BMP: Tensor) -> Tensor:
        """The decoder's output and the true patches of the targets -> L_R of each, (B, M)."""
        if self.config.recompute.decoder == "none" or not torch.is_grad_enabled():
            return self.errors_once(tail_BME, patches_BMP)
        parts = zip(cpu_parts(tail_BME), cpu_parts(patches_BMP), strict=True)
        return join([again_in_backward(self.head, self.errors_once, tail, patches) for tail, patches in parts])

    def errors_once(self, tail_BME: Tensor, patches_BMP: Tensor) -> Tensor:
        """(B, M) error of each target, from the decoder's last block (B, M, E) and true patches (B, M, P)."""
        channels, settings = self.config.encoder.channels, self.config.loss
        if plain_on_cpu(tail_BME):
            return head_errors(self.decoder_norm(tail_BME), self.head, patches_BMP, channels, settings)
        target_BMP = patch_targets(patches_BMP, channels, settings.normalize)
        return token_errors(self.head(self.decoder_norm(tail_BME)), target_BMP, settings.kind)

    def _reconstruct_early(
        self, latent_BVD: Tensor, keep_BV: Tensor, targets_BM: Tensor, patches_BNP: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The reconstruction loss, and L_R of each target without a gradient.

        Decoder, head and loss of a few clips at a time, forward and at once backward. Alive together are the
        decoder's activations of those clips and one copy of its gradients, and little is computed twice: less
        memory than with recomputation in the backward pass, and less time.
        """
        modules = (self.project, self.decoder, self.decoder_norm, self.head)
        weights = [self.mask_token, *(p for module in modules for p in module.parameters())]
        weights = [p for p in weights if p.requires_grad]
        errors: list[Tensor] = []
        latent_gradients: list[Tensor] = []
        gradients: list[Tensor] = []
        for part in part_slices(patches_BNP):
            latent = latent_BVD[part].detach().requires_grad_()
            tail = self.decode(latent, keep_BV[part], targets_BM[part], "cheap")
            found = self.errors_once(tail, take(patches_BNP[part], targets_BM[part]))
            errors.append(found.detach())
            first, *others = ahead.gradients(found.sum() / targets_BM.numel(), [latent, *weights])
            latent_gradients.append(first)
            if gradients:
                for gradient, other in zip(gradients, others, strict=True):
                    gradient.add_(other)
            else:
                gradients = others
        errors_BM = torch.cat(errors)
        inputs = [latent_BVD, *weights]
        return ahead.attach(errors_BM.mean(), inputs, [torch.cat(latent_gradients), *gradients]), errors_BM

    def _sampler_weights(self) -> list[Tensor]:
        """What the sampling loss trains."""
        modules = [self.sampler, self.tokenizer if self.config.sampler.input == "released" else None]
        return [p for module in modules if module is not None for p in module.parameters() if p.requires_grad]

    @torch.no_grad()
    def overlap(self, patches_BNP: Tensor, keep_BV: Tensor) -> Tensor:
        """Share of the visible tokens that are among the V with most motion; see `losses.motion_overlap`."""
        vit = self.config.encoder
        shown_BN = visible_mask(keep_BV, vit.tokens)
        return motion_overlap(shown_BN, motion_energy(patches_BNP, vit), keep_BV.shape[1])

    @torch.no_grad()
    def predict(
        self, video_BCTHW: Tensor, generator: torch.Generator | None = None, *, keep_BV: Tensor | None = None
    ) -> Reconstruction:
        """Whole clips, for pictures: dropout off, whatever mode the model is in.

        Predictions of normalised targets are put back with the true patch's mean and deviation, as in the papers'
        figures. Arguments and errors as in `forward`.
        """
        check_video(video_BCTHW, self.config.encoder)
        vit, settings = self.config.encoder, self.config.loss
        training = self.training
        self.eval()
        try:
            patches_BNP = patchify(video_BCTHW, vit)
            inputs_BNQ = self.tokenizer.inputs(video_BCTHW, patches_BNP)
            mask, visible_BVD = self.choose(inputs_BNQ, generator, keep_BV, patches_BNP=patches_BNP)
            keep_BV, targets_BM, log_probs_BN = mask.keep, _targets(mask), mask.log_probs
            tail_BME = self.decode(self.encode(visible_BVD, keep_BV), keep_BV, targets_BM)
            hidden_BMP = take(patches_BNP, targets_BM)
            errors_BM = self.errors(tail_BME, hidden_BMP)
            filled_BMP = self.head(self.decoder_norm(tail_BME)).float()
        finally:
            self.train(training)
        if settings.normalize:
            mean, deviation = patch_statistics(to_unit(hidden_BMP), vit.channels)
            filled_BMP = (split_channels(filled_BMP, vit.channels) * (deviation + EPS) + mean).flatten(-2)
        whole_BNP = to_unit(patches_BNP).clone()
        whole_BNP.scatter_(1, targets_BM[..., None].expand_as(filled_BMP), filled_BMP)
        error_BN = errors_BM.new_zeros(keep_BV.shape[0], vit.tokens).scatter_(1, targets_BM, errors_BM)
        return Reconstruction(
            video=to_unit(video_BCTHW),
            reconstruction=unpatchify(whole_BNP, vit),
            error=error_BN.view(-1, *vit.grid),
            visible=visible_mask(keep_BV, vit.tokens).view(-1, *vit.grid),
            target=visible_mask(targets_BM, vit.tokens).view(-1, *vit.grid),
            probability=None if log_probs_BN is None else log_probs_BN.exp().view(-1, *vit.grid),
        )

    def no_weight_decay(self) -> set[str]:
        """Parameters that weight decay should pass by, besides biases and norms (timm's convention)."""
        return {"mask_token", "sampler.positions"}


def _targets(mask: Mask) -> Tensor:
    assert mask.targets is not None
    return mask.targets


def _order(mask: Mask) -> Tensor:
    assert mask.order is not None
    return mask.order
