"""Networks for weights that other people trained and published: parameters are called as in their files."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VisionTransformer(nn.Module):
    """Patches of 4x4 pixels and a class token through PyTorch's own encoder: (N, 3, 32, 32) -> (N, classes).

    Source: Dosovitskiy et al., arXiv:2010.11929; norms behind each residual sum, ReLU, as the file was trained.
    """

    def __init__(self, width: int = 128, depth: int = 6, heads: int = 8, hidden: int = 256, classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, kernel_size=4, stride=4)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 65, width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N, classes)."""
        patches = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(image), -1, -1), patches], dim=1) + self.pos_embed
        return cast(Tensor, self.mlp_head(self.transformer(tokens)[:, 0]))


class KeywordLstm(nn.Module):
    """PyTorch's own LSTM over MFCC, and a linear layer on its last output: (N, T, 10) -> (N, classes)."""

    def __init__(self, units: int = 118, classes: int = 12) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, units, batch_first=True)
        self.fc = nn.Linear(units, classes)

    def forward(self, mfcc: Tensor) -> Tensor:
        """(N, T, 10) -> (N, classes)."""
        outputs, _ = self.lstm(mfcc)
        return cast(Tensor, self.fc(outputs[:, -1]))


# Integer kernels give all coefficients one grid, and the first reaches from -250 to 30, the last ones to 4. The
# calibration sets speech-commands-* scale them to one range, with these numbers as `mean` and `std`; the first weights
# undo that.
MEAN = (-112.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
STD = (8.0, 2.0, 2.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5)


class OfMfcc(nn.Module):
    """A linear layer of scaled MFCC, for weights that were trained on unscaled ones."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("std", torch.tensor(STD), persistent=False)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """(N, 10), (outputs, 10), (outputs,) -> (N, outputs)."""
        return F.linear(x, weight * self.std, bias + weight @ self.mean)


class Carry(nn.Module):
    """What an LSTM adds to at every step; a module of its own, so that a recipe can keep it in float by its name.

    Rounded to 8 bits, its error adds up over the steps as well.
    """

    def forward(self, c: Tensor, forget: Tensor, take: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
        """(N, units) each -> next c, and its tanh."""
        following = forget * c + take * new
        return following, following.tanh()


class LstmStep(nn.Module):
    """One step of the same LSTM: MFCC (N, 10) and both states in, scores and both next states out.

    Gates in the order input, forget, cell, output, as PyTorch stores them: Hochreiter and Schmidhuber 1997.
    """

    def __init__(self, units: int = 118, classes: int = 12) -> None:
        super().__init__()
        self.of_mfcc = OfMfcc()
        self.lstm = nn.LSTM(10, units)  # holds the parameters under the file's names; it is not called
        self.carry = Carry()
        self.fc = nn.Linear(units, classes)

    def forward(self, mfcc: Tensor, h: Tensor, c: Tensor) -> dict[str, Tensor]:
        """(N, 10), (N, units), (N, units) -> scores (N, classes), next_h and next_c."""
        held = self.lstm
        from_mfcc = self.of_mfcc(mfcc, held.weight_ih_l0, held.bias_ih_l0 + held.bias_hh_l0)
        gates = from_mfcc + F.linear(h, held.weight_hh_l0)
        i, f, g, o = gates.chunk(4, 1)
        next_c, seen = self.carry(c, f.sigmoid(), i.sigmoid(), g.tanh())
        next_h = o.sigmoid() * seen
        return {"scores": self.fc(next_h), "next_h": next_h, "next_c": next_c}


class OfMfccAndState(nn.Module):
    """A linear layer of MFCC and state, side by side in the file, as two products: each has a grid of its own."""

    def __init__(self, units: int, outputs: int) -> None:
        super().__init__()
        self.of_mfcc = OfMfcc()
        self.weight = nn.Parameter(torch.zeros(outputs, 10 + units))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """(N, 10), (N, units) -> (N, outputs)."""
        return cast(Tensor, self.of_mfcc(x, self.weight[:, :10], self.bias) + F.linear(state, self.weight[:, 10:]))


class KeywordGru(nn.Module):
    """TensorFlow's GRU in a plain loop, and a linear layer on the last state: (N, T, 10) -> (N, classes).

    The reset gate acts before the candidate's product, where `torch.nn.GRU` has it behind: these weights want it so.
    """

    def __init__(self, units: int = 154, classes: int = 12) -> None:
        super().__init__()
        self.units = units
        self.gates = OfMfccAndState(units, 2 * units)
        self.candidate = OfMfccAndState(units, units)
        self.fc = nn.Linear(units, classes)

    def forward(self, mfcc: Tensor) -> Tensor:
        """(N, T, 10) -> (N, classes)."""
        state = mfcc.new_zeros(len(mfcc), self.units)
        for x in mfcc.unbind(1):
            reset, update = self.gates(x, state).sigmoid().chunk(2, 1)
            candidate = self.candidate(x, reset * state).tanh()
            state = update * state + (1 - update) * candidate
        return cast(Tensor, self.fc(state))
