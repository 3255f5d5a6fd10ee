"""One function that trains every network of the book: `fit`, on Lightning.

What it promises beyond Lightning's defaults:

* The order of epoch e and all randomness in it (dropout) come from (seed, e) alone, so that a training killed at any
  moment goes on from the last finished epoch and ends with the very weights of an undisturbed one.
* The network that comes back is that of the epoch with the smallest validation loss.
* PyTorch's global random state is as it was before.
* A checkpoint is replaced in one step, read without unpickling code, and refused when it belongs to another training.

Example:
    >>> import torch
    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
    >>> label = (x.sum(1) > 0).float()
    >>> task = ClassificationTask(torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0)), learning_rate=0.1)
    >>> train, valid = (x[:150], label[:150]), (x[150:], label[150:])
    >>> len(fit(task, train, valid, epochs=3, batch_size=50, seed=1, progress=False).history)
    3
"""

from bithep_lib.train.angle import AngleTask, sin2_loss
from bithep_lib.train.fitting import FitResult, fit, predict
from bithep_lib.train.generative import FlowTask, MatchingTask
from bithep_lib.train.tasks import ClassificationTask

__all__ = ["AngleTask", "ClassificationTask", "FitResult", "FlowTask", "MatchingTask", "fit", "predict", "sin2_loss"]
