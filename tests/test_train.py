"""fit: exact resume, clean stops, and the mistakes it refuses."""

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from bithep_lib import BitLinear
from bithep_lib.train import ClassificationTask, fit, predict

pytestmark = pytest.mark.filterwarnings("error")


def points(n, seed):
    """Points in four dimensions, signal where the first two are on the same side."""
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).float()


TRAIN, VALID = points(600, 1), points(300, 2)


def make_task(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        # Batch statistics, dropout and a quantised layer: everything whose state or randomness a resume could lose.
        model = nn.Sequential(
            *(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2)),
            *(BitLinear(32, 32), nn.ReLU(), nn.Linear(32, 1)),
        )
    options.setdefault("schedule", halve_every_second_epoch)
    return ClassificationTask(model, learning_rate=1e-2, **options)


def halve_every_second_epoch(optimizer):
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)


def run(task, train=TRAIN, valid=VALID, *, epochs=3, batch_size=50, seed=3, progress=False, **options):
    return fit(task, train, valid, epochs=epochs, batch_size=batch_size, seed=seed, progress=progress, **options)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Stop(Exception):
    pass


def interrupt_at(task, step, error):
    """Raise `error` in the given training step of `task` (1 is the first)."""
    original, count = task.training_step, [0]

    def training_step(batch, batch_idx):
        count[0] += 1
        if count[0] == step:
            raise error
        return original(batch, batch_idx)

    task.training_step = training_step
    return task


# What a training gives


def test_fit_learns_and_returns_the_best_epoch():
    task = make_task()
    result = run(task, epochs=8)
    assert list(result.history.index) == list(range(1, 9))
    assert {"train_loss", "valid_loss", "valid_accuracy", "valid_auc"} <= set(result.history.columns)
    assert result.history["valid_auc"].max() > 0.85
    assert result.best_epoch == result.history["valid_loss"].idxmin()
    assert not result.stopped_early
    assert result.resumed_from == 0
    # The model is the one of the best epoch, not the last: its loss on VALID is the history's smallest.
    logit = predict(task, VALID[:1])
    loss = nn.functional.binary_cross_entropy_with_logits(logit, VALID[1])
    assert float(loss) == pytest.approx(result.history["valid_loss"].min(), abs=1e-6)


def test_the_last_epoch_can_be_kept(tmp_path):
    wrong = VALID[0], 1 - VALID[1]  # the more is learned the worse
    best, last, again, path = make_task(), make_task(), make_task(), tmp_path / "fit.ckpt"
    assert run(best, valid=wrong, epochs=2).kept_epoch == 1
    result = run(last, valid=wrong, epochs=2, checkpoint=path, keep="last")
    assert (result.best_epoch, result.kept_epoch) == (1, 2)
    loss = nn.functional.binary_cross_entropy_with_logits(predict(last, wrong[:1]), wrong[1])
    assert float(loss) == pytest.approx(result.history["valid_loss"].iloc[-1], abs=1e-6)
    assert run(again, valid=wrong, epochs=2, checkpoint=path, keep="last").resumed_from == 2
    assert same_weights(last, again)
    run(again, valid=wrong, epochs=2, checkpoint=path)
    assert same_weights(best, again)
    with pytest.raises(ValueError, match="allowed are best, last"):
        run(make_task(), keep="first")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    tasks = [make_task(), make_task(), make_task()]
    for task, seed in zip(tasks, (3, 3, 4), strict=True):
        run(task, seed=seed)
    assert same_weights(tasks[0], tasks[1])
    assert not same_weights(tasks[0], tasks[2])


def test_every_epoch_has_its_own_order_and_uses_every_row_once():
    seen = []

    class Recorder(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            seen.append(index.tolist())
            return TRAIN[0][index], TRAIN[1][index]

    run(make_task(), Recorder(), epochs=2, batch_size=4)
    assert [len(batch) for batch in seen] == [4, 4, 2] * 2
    first, second = sum(seen[:3], []), sum(seen[3:], [])
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second


def test_batches_may_be_cut_by_the_caller():
    lengths = []

    def by_twos(order, size):
        lengths.append(len(order))
        return order.view(-1, 2)

    class Recorder(TensorDataset):
        sizes = []  # noqa: RUF012

        def __getitem__(self, index):
            self.sizes.append(len(index))
            return super().__getitem__(index)

    # as_dataset rebuilds a TensorDataset, so the recorder hides its tensors behind the general interface
    data = Recorder(*TRAIN)
    wrapped = type("Wrapped", (Dataset,), {"__len__": lambda s: len(data), "__getitem__": lambda s, i: data[i]})()
    run(make_task(), wrapped, epochs=1, batches=by_twos)
    assert set(Recorder.sizes) == {2}


def test_the_global_random_state_is_untouched_and_irrelevant():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_task()
    run(first)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second = make_task()
    run(second)
    assert same_weights(first, second)


def test_nothing_is_left_behind(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    handlers = [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(make_task(), progress=True)
    assert list(tmp_path.iterdir()) == []
    assert handlers == [signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)]
    output, errors = capfd.readouterr()
    assert output == ""
    assert "/36" in errors  # the progress bar, on stderr


# Checkpoints


@pytest.mark.parametrize("step", [1, 12, 13, 25, 36])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, step):
    whole, path = make_task(), tmp_path / "fit.ckpt"
    expected = run(whole)
    with pytest.raises(Stop):
        run(interrupt_at(make_task(), step, Stop()), checkpoint=path)
    resumed = make_task()
    result = run(resumed, checkpoint=path)
    assert result.resumed_from == (step - 1) // 12  # 600 rows in batches of 50
    assert same_weights(whole, resumed)
    assert result.history.equals(expected.history)
    assert result.best_epoch == expected.best_epoch


SCRIPT = """
    import sys, torch
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from test_train import make_task, points, run

    task = make_task()
    original = task.training_step

    def training_step(batch, batch_idx):
        print("step", flush=True)
        return original(batch, batch_idx)

    task.training_step = training_step
    result = run(task, epochs=6, checkpoint=sys.argv[2])
    torch.save(task.state_dict(), sys.argv[3])
    print("resumed from", result.resumed_from, flush=True)
"""


def start(tmp_path, checkpoint):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    arguments = [sys.executable, str(script), os.path.dirname(__file__), str(checkpoint), str(tmp_path / "weights.pt")]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigkill_at_a_random_step(tmp_path):
    step = random.SystemRandom().randint(14, 70)  # of 72: after the first checkpoint, before the end
    checkpoint = tmp_path / "fit.ckpt"
    process = start(tmp_path, checkpoint)
    for _ in range(step):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert checkpoint.exists(), step
    process = start(tmp_path, checkpoint)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert int(output.split()[-1]) >= 1, output  # it did go on from the checkpoint
    whole = make_task()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run(whole, epochs=6)
    torch.set_num_threads(threads)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(weights[name], value) for name, value in whole.state_dict().items()), step


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path):
    path = tmp_path / "fit.ckpt"
    task = make_task()
    original = task.training_step
    steps = []

    def training_step(batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 20:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)  # the signal arrives here
        return original(batch, batch_idx)

    task.training_step = training_step
    with pytest.raises(KeyboardInterrupt, match="epochs 1 to 1 are in"):
        run(task, checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed, whole = make_task(), make_task()
    result = run(resumed, checkpoint=path)
    assert result.resumed_from == 1
    assert result.seconds > torch.load(path, weights_only=True)["callbacks"]["Bookkeeping"]["seconds"] > 0
    run(whole)
    assert same_weights(resumed, whole)


def test_a_finished_training_is_not_repeated_and_may_be_prolonged(tmp_path):
    path = tmp_path / "fit.ckpt"
    first = make_task(schedule=None)
    run(first, checkpoint=path)
    content = path.read_bytes()
    again = make_task(schedule=None)
    result = run(again, checkpoint=path)
    assert result.resumed_from == 3
    assert same_weights(first, again)
    assert path.read_bytes() == content
    longer, whole = make_task(schedule=None), make_task(schedule=None)
    assert run(longer, epochs=5, checkpoint=path).resumed_from == 3
    run(whole, epochs=5)
    assert same_weights(longer, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed is 3 there and 4 here"),
        ({"batch_size": 60}, "batch_size is 50 there and 60 here"),
        ({"train": points(600, 5)}, "train is "),
        ({"epochs": 5}, "planned as 3, not 5"),
        ({"task": {"weight_decay": 0.1}}, "hyper-parameters is .*0.01.* there and .*0.1.* here"),
        ({"model": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))}, "model is "),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(tmp_path, change, message):
    path = tmp_path / "fit.ckpt"
    run(make_task(), checkpoint=path)
    content = path.read_bytes()
    change = dict(change)
    task = make_task(**change.pop("task", {}))
    task.model = change.pop("model", task.model)
    with pytest.raises(ValueError, match=f"belongs to another training: .*{message}"):
        run(task, checkpoint=path, **change)
    assert path.read_bytes() == content


def test_a_checkpoint_with_more_epochs_is_refused(tmp_path):
    path = tmp_path / "fit.ckpt"
    run(make_task(schedule=None), checkpoint=path)
    with pytest.raises(ValueError, match="it has 3 epochs already, and 2 are asked for"):
        run(make_task(schedule=None), epochs=2, checkpoint=path)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "pickle"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "fit.ckpt"
    run(make_task(), epochs=1, checkpoint=path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif damage == "pickle":  # code in a checkpoint is never run
        torch.save({"bithep": print}, path)
    else:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"fit.ckpt is damaged or not a checkpoint of fit: delete it"):
        run(make_task(), checkpoint=path)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    path = tmp_path / "fit.ckpt"
    run(make_task(schedule=None), epochs=1, checkpoint=path)
    content = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(content) // 2, hard))  # writing more fails as on a full disk
    try:
        with pytest.raises(
            OSError, match="could not write .*fit.ckpt .*the file that was there is unchanged"
        ) as caught:
            run(make_task(schedule=None), epochs=2, checkpoint=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert path.read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["fit.ckpt"]


# Stops


def test_max_minutes_stops_within_an_epoch_and_stores_finished_epochs_only(tmp_path):
    path = tmp_path / "fit.ckpt"
    task = make_task()
    original = task.training_step
    steps = []

    def training_step(batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) == 15:
            time.sleep(1.0)
        return original(batch, batch_idx)

    task.training_step = training_step
    result = run(task, epochs=4, checkpoint=path, max_minutes=0.9 / 60)
    assert result.stopped_early
    assert len(result.history) == 2  # the unfinished second epoch is judged, but not stored
    whole, resumed = make_task(), make_task()
    assert run(resumed, epochs=4, checkpoint=path).resumed_from == 1
    run(whole, epochs=4)
    assert same_weights(whole, resumed)


def test_no_time_at_all():
    task, untouched = make_task(), make_task()
    result = run(task, max_minutes=0.0)
    assert result.stopped_early
    assert result.best_epoch is None
    assert len(result.history) == 0
    assert same_weights(task, untouched)


def test_a_loss_that_is_not_finite_stops_with_the_step():
    class Explodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.calls = nn.Linear(4, 1), 0

        def forward(self, x):
            self.calls += 1
            return self.linear(x) * (float("nan") if self.calls == 5 else 1.0)

    with pytest.raises(FloatingPointError, match="loss became nan in epoch 1, step 5: .*nothing was stored"):
        run(ClassificationTask(Explodes()))


# Data that cannot be right


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((TRAIN[0], torch.ones(600)), "train: every label is 1"),
        ((TRAIN[0], TRAIN[1] * 2 - 1), "train: labels must be 0 or 1, and there are -1, 1"),
        ((TRAIN[0], TRAIN[0][:, 0]), "train: labels must be 0 or 1, and there are .*, \\.\\.\\."),
        ((TRAIN[0], TRAIN[1][:, None]), r"train: the labels have the shape \(600, 1\)"),
        ((TRAIN[0], TRAIN[1][:-1]), r"train needs inputs and a label of equal length, not tensors of .* \[600, 599"),
        ((TRAIN[0][:0], TRAIN[1][:0]), "train has no rows"),
        ((TRAIN[1],), "train needs inputs and a label"),
        (VALID, "train and valid are the same data"),
        (tuple(torch.cat(pair) for pair in zip(TRAIN, VALID, strict=True)), "300 of the 300 rows of valid are also"),
    ],
)  # fmt: skip
def test_wrong_data_is_refused(train, message):
    with pytest.raises(ValueError, match=message):
        run(make_task(), train)


def test_shuffled_and_swapped_labels_are_noticed():
    shuffled = TRAIN[0], TRAIN[1][torch.randperm(600, generator=torch.Generator().manual_seed(1))]
    for train, valid in ((shuffled, VALID), (TRAIN, (VALID[0], 1 - VALID[1]))):
        with pytest.warns(UserWarning, match="hardly anything was learned: in 4 epochs"):
            run(make_task(), train, valid, epochs=4)


def test_a_number_that_is_not_finite_is_named_with_its_row():
    x = VALID[0].clone()
    x[17, 2] = float("inf")
    with pytest.raises(ValueError, match="valid: tensor 0 has a number that is not finite in row 17"):
        run(make_task(), valid=(x, VALID[1]))


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3"])
def test_wrong_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} must be an integer >= 1"):
        run(make_task(), **{name: value})


def test_a_model_with_the_wrong_output_is_refused():
    with pytest.raises(ValueError, match=r"logits of shape \(50, 2\) for labels of \(50,\)"):
        run(ClassificationTask(nn.Linear(4, 2)))


def test_numpy_arrays_and_integer_labels_are_welcome():
    train, valid = ((x.numpy(), y.numpy().astype(np.int8)) for x, y in (TRAIN, VALID))
    one, other = make_task(), make_task()
    run(one, train, valid)
    run(other)
    assert same_weights(one, other)


# predict


def test_predict_restores_the_mode_and_does_not_depend_on_the_batch():
    model = make_task().model.train()
    one, other = predict(model, VALID[:1], batch_size=7), predict(model, VALID[:1])
    assert torch.allclose(one, other, atol=1e-6)
    assert model.training
    assert not one.requires_grad
    with pytest.raises(ValueError, match="different lengths: 300, 600"):
        predict(model, (VALID[0], TRAIN[0]))


# Several processes

DDP = """
    import os, sys, torch
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from test_train import make_task, run

    if __name__ == "__main__":
        task = make_task()
        result = run(task, epochs=2, device="cpu", devices=2, checkpoint=sys.argv[2])
        digest = sum(float(value.double().sum()) for value in task.state_dict().values())
        with open(f"{sys.argv[2]}.{os.environ.get('LOCAL_RANK', 0)}", "w") as end:
            end.write(f"{len(result.history)} {digest:.12g}")
"""


@pytest.mark.slow
def test_two_processes_train_together_and_agree(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(DDP))
    command = [sys.executable, str(script), os.path.dirname(__file__), str(tmp_path / "fit.ckpt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    first, second = [(tmp_path / f"fit.ckpt.{rank}").read_text() for rank in (0, 1)]
    assert first == second
    assert first.startswith("2 ")
