"""Settings that came later leave the hashes of older results as they were."""

from __future__ import annotations

from dataclasses import replace

from vidkit.settings.model import AdaMAEConfig, DecoderConfig, LossConfig, MaskConfig
from vidkit.settings.plain import config_hash, from_plain, to_plain


def test_hashes_of_old_configs_stay() -> None:
    assert config_hash(AdaMAEConfig()) == "172a96a3667e9527"


def test_a_later_setting_that_was_chosen_counts() -> None:
    base = AdaMAEConfig()
    others = [
        replace(base, mask=MaskConfig(targets="random", target_ratio=0.5)),
        replace(base, mask=MaskConfig(targets="running-cell", target_ratio=0.5)),
        replace(base, loss=LossConfig(objective="plackett-luce")),
        replace(base, decoder=DecoderConfig(kind="cross")),
    ]
    assert len({config_hash(one) for one in [base, *others]}) == 5


def test_configs_without_them_are_read() -> None:
    plain = to_plain(AdaMAEConfig())
    for name in ("targets", "target_ratio", "motion_share", "error_momentum"):
        del plain["mask"][name]
    del plain["loss"]["objective"], plain["loss"]["entropy_floor"], plain["decoder"]["kind"]
    assert from_plain(AdaMAEConfig, plain) == AdaMAEConfig()
