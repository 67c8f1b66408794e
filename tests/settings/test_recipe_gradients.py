"""Every parameter of every recipe's two models is reached by the loss: none is dead weight."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vidkit.models.adamae import AdaMAE
from vidkit.models.classifier import VideoClassifier
from vidkit.settings.model import ClassifierConfig
from vidkit.settings.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_every_parameter_of_a_recipe_gets_a_gradient(name: str) -> None:
    """Fake tensors have shapes and no values, so that the large models cost nothing."""
    recipe = RECIPES[name]()
    tune = recipe.finetune
    config = ClassifierConfig(encoder=tune.encoder, classes=5, dropout=tune.dropout, drop_path=tune.drop_path)
    vit = recipe.pretrain.model.encoder
    assert vit == tune.encoder, "what is pre-trained is what is fine-tuned"
    with FakeTensorMode():
        video = torch.zeros(2, vit.channels, vit.frames, vit.size, vit.size, dtype=torch.uint8)
        pretraining, classifier = AdaMAE(recipe.pretrain.model), VideoClassifier(config)
        pretraining(video).loss.backward()
        torch.nn.functional.cross_entropy(classifier(video), torch.zeros(2, dtype=torch.int64)).backward()
    for model in (pretraining, classifier):
        assert [key for key, value in model.named_parameters() if value.grad is None] == []
