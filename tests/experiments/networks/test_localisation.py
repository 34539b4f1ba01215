"""Which network looks for the pose: one of its own, or a second backbone."""

import pytest
import torch

from baselines.backbones import BACKBONES
from stn.localisation import last_dense
from tests.support.networks import build


@pytest.mark.parametrize("localisation", ["lenet", "paper", "deep"])
def test_localisation_nets_are_chosen_by_name(localisation):
    network = build(f"stn_affine:localisation={localisation}")
    num = sum(p.numel() for p in network.get_submodule("localisation").parameters())
    assert num == {"lenet": 8_544, "paper": 18_086, "deep": 123_270}[localisation]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_second_backbone_localises_and_is_as_the_first_but_for_its_last_layer(backbone):
    network = build(f"stn_affine:localisation=backbone@{backbone}:width=0.5").eval()
    localisation = network.get_submodule("localisation")
    last = last_dense(localisation)
    assert last.out_features == 6 and not last.weight.any()
    pairs = zip(network.backbone.named_parameters(), localisation.named_parameters(), strict=True)
    for (name, first), (other_name, second) in pairs:
        assert name == other_name
        assert first.shape == second.shape or second in set(last.parameters())
    assert not localisation(torch.rand(2, 3, 32, 32)).any()


def test_a_second_backbone_that_ends_otherwise_is_refused():
    with pytest.raises(ValueError, match=r"^a localisation network ends in a dense layer, and this backbone does not$"):
        last_dense(torch.nn.Sequential(torch.nn.Flatten()))
