"""fit on two processes: the training of one process whose batch is both of theirs."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch import nn

from bithep_lib import BitLinear
from bithep_lib.bitlinear import weight_codes
from bithep_lib.train import ClassificationTask, fit

TOLERANCE = {"loss": 1e-6, "scales": 1e-9}
"""Relative, for a training in float64, where only the order of additions differs (losses are logged in float32). In
float32 one rounding error can turn a code of a BitLinear layer, and what follows differs by more."""


def points(n, seed):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x, (x[:, 0] * x[:, 1] > 0).double()


def train(devices, batch_size, checkpoint=None):
    """Losses of three epochs, and the scale of the BitLinear layer's weights in every forward pass."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bits = BitLinear(32, 32)
        model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), bits, nn.ReLU(), nn.Linear(32, 1))
    scales = []
    bits.register_forward_hook(
        lambda layer, inputs, output: scales.append(float(weight_codes(layer.weight, layer.spec)[1]))
    )
    task = ClassificationTask(model, learning_rate=1e-2)
    result = fit(
        task,
        points(600, 1),
        points(300, 2),
        epochs=3,
        batch_size=batch_size,
        seed=3,
        device="cpu",
        devices=devices,
        precision="64-true",
        checkpoint=checkpoint,
        progress=False,
    )
    return {"loss": result.history[["train_loss", "valid_loss"]].to_numpy().tolist(), "scales": scales}


SCRIPT = """
    import json, os, sys, torch
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from test_train_processes import train

    if __name__ == "__main__":
        found = train(devices=2, batch_size=50, checkpoint=f"{sys.argv[2]}/fit.ckpt")
        with open(f"{sys.argv[2]}/{os.environ.get('LOCAL_RANK', 0)}.json", "w") as end:
            json.dump(found, end)
"""


@pytest.mark.slow
def test_two_processes_are_one_with_both_batches(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, str(tmp_path / "script.py"), os.path.dirname(__file__), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    one = train(devices=1, batch_size=100)
    for name, tolerance in TOLERANCE.items():
        assert first[name] == second[name]
        np.testing.assert_allclose(first[name], one[name], rtol=tolerance)
    assert first["loss"][-1][0] < first["loss"][0][0]
    assert len(set(first["scales"])) > 15  # the scale follows the weights
