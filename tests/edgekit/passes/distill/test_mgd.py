import pytest
import torch

from edgekit.errors import PassError
from edgekit.passes.distill.method import Classroom, Lesson
from edgekit.passes.distill.mgd import Generator, Mgd
from edgekit.passes.distill.taps import Tap
from edgekit.schema.distill import DistillOptions
from tests import nets


def test_a_share_of_places_is_hidden_in_all_channels():
    seen = []
    generator = Generator(Tap("s", (3, 50, 50), 1), Tap("t", (5, 50, 50), 1), mask_ratio=0.15)
    generator.generate.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    torch.manual_seed(0)
    assert generator(torch.ones(2, 3, 50, 50)).shape == (2, 5, 50, 50)
    hidden = (seen[0] == 0).float()
    assert torch.equal(hidden.amin(1), hidden.amax(1))
    assert hidden.mean().item() == pytest.approx(0.15, abs=0.02)


def test_the_loss_is_summed_over_features_and_averaged_over_samples():
    model = nets.model(nets.TINY_CONV)
    method = Mgd(DistillOptions(method="mgd", mgd={"weight": 0.5}), Classroom(model, (model,)))
    with torch.no_grad():
        method.generators[0].generate[2].weight.zero_()
        method.generators[0].generate[2].bias.fill_(1)
    student, teacher = torch.zeros(2, 6, 4, 4), torch.full((2, 6, 4, 4), 3.0)
    logits = torch.zeros(2, 3)
    told = Lesson(logits, (logits,), ((student, teacher),), torch.tensor([0, 1]), lambda: torch.tensor(2.0))
    assert method(told).item() == pytest.approx(2 + 0.5 * 6 * 16 * 4)


def test_it_generates_pictures_alone(make_model):
    flat = make_model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 6), torch.nn.Linear(6, 4)))
    with pytest.raises(PassError) as caught:
        Mgd(DistillOptions(method="mgd"), Classroom(flat, (flat,)))
    assert caught.value.where == "step distill, mgd.taps"
