"""The loop: what is no number never reaches the weights, signals lose nothing, states survive."""

import json
import os
import signal

import crashes
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fromnoise.checkpoints import training_state
from fromnoise.errors import BadCheckpoint, BadInput
from fromnoise.train.loop.interrupt import Interrupted
from fromnoise.train.loop.lock import lock_folder
from fromnoise.train.results import read_done
from fromnoise.train.stages.critic import CriticTrainer


def state_of(folder):
    trees, counters = training_state.load(folder)
    return trees, counters


def result_of(folder):
    return load_file(folder / "unet.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


class Sharp(torch.autograd.Function):
    """A loss that is finite while its gradient is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize(
    "event",
    [lambda loss: loss * float("nan"), lambda loss: loss / 0, Sharp.apply],
    ids=["nan", "infinite", "gradient"],
)
def test_what_is_no_number_never_reaches_the_weights(bench, make_task, event, precision):
    task = make_task({4: event})
    with pytest.raises(BadInput, match="at step 4; the weights did not move") as caught:
        bench.train(task, precision=precision)
    assert torch.equal(task.module.weight, task.weights[4])
    assert not torch.equal(task.module.weight, task.weights[3])
    # the remedy: a lower rate, and where training goes on from
    assert "lower lr (it is 0.01) under [unet]" in caught.value.remedy
    assert "from step 4" in caught.value.remedy
    trees, counters = state_of(bench.folder)
    assert counters["step"] == 4
    assert torch.equal(trees["weights"]["weight"], task.weights[4])
    # and what it says works
    assert bench.train(precision=precision, lr=1e-3)["steps"] == 6


def test_a_first_step_that_is_no_number_says_that_nothing_was_saved(bench, make_task):
    with pytest.raises(BadInput, match="at step 0") as caught:
        bench.train(make_task({0: lambda loss: loss * float("inf")}))
    assert "no state was saved yet" in caught.value.remedy
    assert training_state.load(bench.folder) is None


def test_weights_that_are_no_numbers_are_never_saved(bench, make_task):
    """Statistics of a batch norm change in the forward pass, before any check of the loss."""
    task = make_task()

    def spoil(loss):
        task.module.bias.data[0] = float("nan")
        return loss

    task.at[3] = spoil
    with pytest.raises(BadInput, match="weights became NaN"):
        bench.train(task)
    trees, counters = state_of(bench.folder)
    assert counters["step"] == 3
    assert torch.isfinite(trees["weights"]["bias"]).all()


def test_the_critic_never_moves_by_what_is_no_number():
    critic = CriticTrainer(1.0)
    before = {k: v.clone() for k, v in critic.critic.state_dict().items()}
    real = torch.zeros(1, 3, 16, 16)
    with pytest.raises(Exception, match="critic's loss is nan"):
        critic(real, real * float("nan"))
    assert same(before, critic.critic.state_dict())


class Walker:
    """An extra that changes at every step and draws from torch's own generator."""

    def __init__(self):
        self.place = torch.zeros(2)

    def __call__(self, batch):
        self.place = self.place + torch.randn(2)
        return 1e-3 * self.place.sum()

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.place = state["place"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_saves_and_the_next_start_has_the_bits_of_one_run(
    bench, make_task, tmp_path, number, code, capfd
):
    def interrupt(loss):
        os.kill(os.getpid(), number)
        return loss

    before = signal.getsignal(number)
    task = make_task({2: interrupt}, {"walker": Walker()})
    with pytest.raises(Interrupted, match="after step 3") as caught:
        bench.train(task, checkpoint_minutes=60, log_every=2)
    assert caught.value.code == code
    assert "run the same command again" in caught.value.remedy
    assert "saves its state" in capfd.readouterr().err
    assert signal.getsignal(number) == before
    assert state_of(bench.folder)[1]["step"] == 3
    bench.train(make_task({}, {"walker": Walker()}), log_every=2)
    straight = type(bench)(tmp_path / "straight")
    straight.train(make_task({}, {"walker": Walker()}), log_every=2)
    a, b = state_of(bench.folder), state_of(straight.folder)
    for tree in ("weights", "ema", "extra walker", "random"):
        assert same(a[0][tree], b[0][tree])
    losses = [[row["loss"] for row in state[1]["log"]["rows"]] for state in (a, b)]
    assert losses[0] == losses[1]
    assert same(result_of(bench.folder), result_of(straight.folder))


def test_a_second_signal_ends_the_process_at_once(bench, make_task):
    def interrupt(loss):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return loss

    status = crashes.run_in_child(lambda: bench.train(make_task({1: interrupt})))
    assert status == -signal.SIGINT
    assert bench.train(make_task())["steps"] == 6


def zero_first_tensor(data: bytes) -> bytes:
    """What a crash of the machine may leave of a file that was not yet on the disk."""
    start = 8 + int.from_bytes(data[:8], "little")
    return data[:start] + bytes(36) + data[start + 36 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:60],
        lambda data: data[:-3],
        zero_first_tensor,
        lambda data: b"\xff" * len(data),
    ],
    ids=["empty", "header", "short", "zeros", "noise"],
)
def test_a_damaged_state_is_replaced_by_the_one_before_and_that_is_said(
    bench, make_task, damage, capfd
):
    with pytest.raises(BadInput):
        bench.train(make_task({4: lambda loss: loss * float("nan")}))
    newest = bench.folder / training_state.FILE
    newest.write_bytes(damage(newest.read_bytes()))
    capfd.readouterr()
    task = make_task()
    assert bench.train(task)["steps"] == 6
    assert len(task.weights) == 3  # steps 3, 4 and 5
    told = capfd.readouterr().err
    assert "is damaged" in told
    assert training_state.PREVIOUS in told
    for name in (training_state.FILE, training_state.PREVIOUS):
        (bench.folder / name).write_bytes(b"{}")
    with pytest.raises(BadCheckpoint, match="--fresh"):
        bench.train()


def test_a_state_of_other_words_is_refused_and_a_new_rate_is_noted(bench, make_task, capfd):
    with pytest.raises(BadInput):
        bench.train(make_task({4: lambda loss: loss * float("nan")}), network={"width": 3})
    with pytest.raises(BadInput, match=r"network\.width = 4 \(was 3\)") as caught:
        bench.train(network={"width": 4})
    assert "--fresh" in caught.value.remedy
    capfd.readouterr()
    bench.train(network={"width": 3}, lr=1e-3)
    assert "goes on with lr = 0.001 (was 0.01)" in capfd.readouterr().err


def test_a_state_that_does_not_fit_the_network_is_an_error(bench, make_task):
    with pytest.raises(BadInput):
        bench.train(make_task({4: lambda loss: loss * float("nan")}))
    task = make_task()
    task.module = nn.Linear(3, 4)
    with pytest.raises(BadCheckpoint, match="does not fit the recipe"):
        bench.train(task)


def test_states_of_older_versions_are_resumed(bench, make_task):
    with pytest.raises(BadInput):
        bench.train(make_task({4: lambda loss: loss * float("nan")}))
    trees, counters = state_of(bench.folder)
    old = {k: counters[k] for k in ("step", "elapsed", "ema_updates")} | {"log": []}
    trees.pop("random")
    training_state.save(bench.folder, trees, old)
    assert bench.train()["steps"] == 6


def test_one_training_a_folder(bench, make_task):
    with lock_folder(bench.folder), pytest.raises(BadInput, match=f"process {os.getpid()}"):  # noqa: SIM117
        with lock_folder(bench.folder):
            pass
    # the lock of a killed process is no lock, whatever its file says
    (bench.folder / ".lock").write_text("1")
    with lock_folder(bench.folder):
        assert (bench.folder / ".lock").read_text() == str(os.getpid())
    # a child that outlives its parent does not hold the lock
    ready, begun = os.pipe()
    end, ended = os.pipe()
    with lock_folder(bench.folder):
        child = os.fork()
        if child == 0:
            os.write(begun, b"1")
            os.read(end, 1)
            os._exit(0)
        os.read(ready, 1)
    with lock_folder(bench.folder):
        pass
    os.write(ended, b"1")
    os.waitpid(child, 0)
    for handle in (ready, begun, end, ended):
        os.close(handle)


def train_until_killed(bench, make_task, k: int) -> int:
    return crashes.kill_at(k, lambda: bench.train(make_task(), log_every=1))


def test_killed_at_any_write_training_goes_on_with_the_same_bits(bench, make_task, tmp_path):
    straight = type(bench)(tmp_path / "straight")
    straight.train(make_task(), log_every=1)
    k = 0
    while (status := train_until_killed(bench, make_task, 3 * k)) != 0:
        assert status == -signal.SIGKILL
        k += 1
        if (state := training_state.load(bench.folder)) is not None:  # never an error
            assert state[1]["step"] >= 1
        if (bench.folder / "done.json").exists():
            read_done(bench.recipe().stage("unet"))
        if (bench.folder / "log.jsonl").exists():
            rows = (bench.folder / "log.jsonl").read_text().splitlines()
            assert all("loss" in json.loads(row) for row in rows)
        assert k < 50
    assert k > 5  # each run goes a little further than the one before it
    assert same(result_of(bench.folder), result_of(straight.folder))
    assert same(state_of(bench.folder)[0]["ema"], state_of(straight.folder)[0]["ema"])


@pytest.mark.parametrize("k", range(0, 24, 3))
def test_a_full_disk_leaves_the_last_state_and_says_so(bench, make_task, k):
    with pytest.raises(BadInput):
        bench.train(make_task({3: lambda loss: loss * float("nan")}))
    status = crashes.fill_disk_at(k, lambda: bench.train(make_task()))
    assert status != 0
    assert state_of(bench.folder)[1]["step"] >= 3
    assert bench.train()["steps"] == 6


def test_a_state_larger_than_the_disk_leaves_the_last_one(bench, make_task):
    with pytest.raises(BadInput):
        bench.train(make_task({3: lambda loss: loss * float("nan")}))
    status = crashes.limit_files(500, lambda: bench.train(make_task()))
    assert status == 1
    assert state_of(bench.folder)[1]["step"] == 3
    assert bench.train()["steps"] == 6
