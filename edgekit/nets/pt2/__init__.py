"""Programs saved by `torch.export.save`, read without unpickling or running anything of theirs.

`torch.export.load` unpickles weights, constants and sample inputs, evaluates the expressions of symbolic shapes and
runs guards, all of them from the file: a crafted archive runs code. Here only JSON, raw numbers and an allow-list of
operators are read.
"""
