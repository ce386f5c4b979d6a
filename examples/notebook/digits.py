"""The Python API of edgekit on handwritten digits, cell by cell."""

# %% [markdown]
# # From a network in memory to a measured bundle
#
# The Python API of edgekit on the handwritten digits of scikit-learn. Run it cell by cell (VS Code, Spyder, PyCharm or
# `jupytext --to ipynb digits.py`), or as a whole: `python digits.py`. It takes about a minute on two cores.

# %%
import torch
from sklearn.datasets import load_digits
from torch import nn

import edgekit as ek

# %% [markdown]
# ## A network of your own, trained here

# %%
digits = load_digits()
images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)  # (1797, 1, 8, 8) in [0, 1]
labels = torch.tensor(digits.target)
train, test = slice(0, 1400), slice(1400, None)

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(32 * 16, 10),
)
optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
for _ in range(60):
    loss = nn.functional.cross_entropy(network(images[train]), labels[train])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
network.eval()


# %%
def share_right(outputs: torch.Tensor) -> float:
    """Share of the test images that are told right."""
    return (outputs.argmax(1) == labels[test]).float().mean().item()


with torch.no_grad():
    float_top1 = share_right(network(images[test]))
print(f"float: {float_top1:.4f}")

# %% [markdown]
# ## int8 in two lines
#
# The files are run on some of the samples and compared with their PyTorch program before they appear.

# %%
quantised = ek.quantize(network, images[train][:256], "cpu-x86-64")
files = quantised.export("shipped", formats=["onnx"])

for file in files:
    print(
        file.path,
        f"{file.artifact.row.size_bytes:,} bytes,",
        file.runtime,
        f"off by {file.parity.max_code_error} codes",
    )
with torch.no_grad():
    int8_top1 = share_right(quantised.program(len(labels[test]))(images[test]))
print(f"int8: {int8_top1:.4f}")

# %% [markdown]
# ## How fast is it here?
#
# A profile holds every sample and the conditions; it says itself whether it is to be believed.

# %%
settings = ek.MeasureSettings(duration_s=0.5)
(profile,) = ek.profile(files[0].path, settings=settings).profiles
print(f"p50 {profile.summary.p50_ms:.3f} ms, p99 {profile.summary.p99_ms} ms, valid: {profile.valid} {profile.reasons}")

# %% [markdown]
# ## A whole build: a recipe, gates, a bundle
#
# The quickstart trains a teacher and a small student, prunes, distils, merges and quantises. Here it is shortened by
# settings, as `--set` does on the command line; a second build in the same folder takes every step from the store.

# %%
short = ["steps.0.train.epochs=2", "steps.2.distill.epochs=2", "export.formats=[onnx]", "gates.float_metric=null"]
short += ["teacher.steps.0.train.epochs=2", "gates.metric_drop=null"]
planned = ek.plan("quickstart", "cpu-x86-64", settings=short)
print([step.name for step in planned.steps])

built = ek.build("quickstart", "cpu-x86-64", settings=short)
print(built.bundle, built.manifest.verdict)
for row in built.manifest.artifacts:
    metric = built.manifest.metrics.per_artifact[row.path]["top1"]
    print(row.path, row.precision, f"{row.size_bytes:,} bytes", f"top1 {metric.value:.4f} in {metric.runtime}")

# %% [markdown]
# ## Which of the two is faster?
#
# By all their samples, with an interval: 'no significant change' is an answer. Two builds of one recipe are compared in
# the same way, artifact by artifact, with their sizes and metrics beside: `ek.compare("dist/old", "dist/new")`.

# %%
ek.profile(built.bundle, settings=settings)
(pair,) = ek.compare(1, 2).latency  # profiles by their number in the history; a bundle's folder, a digest, a release
print(pair.reference.artifact_sha256[:8], "and", pair.candidate.artifact_sha256[:8])
if pair.comparison is not None:
    low, high = pair.comparison.change_interval
    print(f"the second is {pair.comparison.verdict}: {low:+.1%} to {high:+.1%} in latency")
print("no gate may be held against it:", pair.not_judged or "it may")

# %% [markdown]
# ## Is the bundle what it says it is?

# %%
print("verified:", ek.verify(built.bundle, parity=True).ok)
