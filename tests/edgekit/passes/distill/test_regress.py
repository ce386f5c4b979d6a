import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgekit.errors import PassError
from edgekit.nets.vit import vit_gelu
from edgekit.passes.distill.regress import Regressor, pair_taps
from edgekit.passes.distill.taps import Tap
from tests import nets


def test_it_is_a_convolution_of_one_pixel_and_a_resize():
    regress = Regressor(Tap("s", (3, 4, 4), 1), Tap("t", (5, 8, 8), 1))
    feature = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    conv = F.conv2d(feature, regress.linear.weight[:, :, None, None], regress.linear.bias)
    expected = F.interpolate(conv, size=(8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(regress(feature), expected)


def test_vectors_and_tokens_are_regressed_too():
    assert Regressor(Tap("s", (3,), 1), Tap("t", (5,), 1))(torch.zeros(2, 3)).shape == (2, 5)
    assert Regressor(Tap("s", (9, 3), 2), Tap("t", (4, 5), 2))(torch.zeros(2, 3, 9)).shape == (2, 5, 4)


def test_pictures_are_not_compared_with_tokens(make_model):
    student, teacher = nets.model(nets.TINY_CONV), make_model(vit_gelu(), (1, 3, 32, 32))
    with pytest.raises(PassError) as caught:
        pair_taps(student, teacher, {}, "fitnets.taps")
    assert "(65, 96)" in caught.value.what
    assert "taps: {" in caught.value.fix


def test_where_nothing_is_found_modules_are_to_be_named(make_model):
    flat = make_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    with pytest.raises(PassError) as caught:
        pair_taps(nets.model(nets.TINY_CONV), flat, {}, "at.taps")
    assert (caught.value.what, caught.value.where) == (
        "no features are found in the teacher",
        "step distill, at.taps",
    )


def test_whose_module_is_missing_is_said():
    model = nets.model(nets.TINY_CONV)
    for taps, who in (({"norm": "nrom"}, "teacher"), ({"nrom": "norm"}, "student")):
        with pytest.raises(PassError) as caught:
            pair_taps(model, model, taps, "fitnets.taps")
        assert caught.value.where == f"step distill, fitnets.taps, {who}"
        assert "did you mean 'norm'" in caught.value.fix
