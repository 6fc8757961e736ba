"""Training draws from (seed, step) alone, and an interrupted run ends the same."""

import io
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from toys import UNET, FakeLatents, make_recipe

from commoncanvas.core import keys, paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.keys import work_folder
from commoncanvas.models import unets
from commoncanvas.train import loop, state
from commoncanvas.train.snapshots import newest_snapshot

NUM_STEPS = 7  # of `make_recipe`


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished", raising=False)


def make_unet(seed=1):
    return unets.make_unet(UNET, 4, 4, 8, seed)


def run(key="run", data=None, **changes):
    data = data or FakeLatents()
    held = FakeLatents(4, seed=1)
    unet, log = loop.train(key, make_unet(), data, held, make_recipe(**changes))
    return unet.state_dict(), log


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def stop_at(monkeypatch):
    """Return a function after which training step k fails, once."""
    whole = loop.denoising_losses

    def arm(k):
        seen = []

        def losses(unet, *arguments):
            seen.append(1)
            if len(seen) == k + 1:
                raise KeyboardInterrupt
            return whole(unet, *arguments)

        monkeypatch.setattr(loop, "denoising_losses", losses)

    return arm


@pytest.mark.slow
@pytest.mark.parametrize("steps", [[0], [1], [3], [6], [3, 3]])
def test_an_interrupted_run_ends_with_the_same_bits(stop_at, steps):
    weights, log = run("whole")
    for step in steps:
        stop_at(step)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    resumed, same_log = run("broken")
    assert same(weights, resumed) and log == same_log


def test_a_resumed_run_does_not_start_again(stop_at):
    stop_at(5)
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    data = FakeLatents()
    run("broken", data)
    assert len(data.asked) == 3 * (7 - 4)


def test_a_finished_run_is_returned_without_training():
    weights, log = run()
    data = FakeLatents()
    again, same_log = run(data=data)
    assert same(weights, again) and log == same_log and data.asked == []


def test_a_finished_run_is_found_after_its_key_is_finished():
    weights, log = run()
    keys.finish("run")
    again, same_log = run()
    assert same(weights, again) and log == same_log


def test_another_seed_gives_other_weights():
    assert not same(run("a")[0], run("b", seed=6)[0])


def test_the_global_stream_does_not_matter():
    torch.manual_seed(1)
    weights = run("a")[0]
    torch.manual_seed(2)
    assert same(weights, run("b")[0])


def test_the_log_has_a_row_a_checkpoint_and_one_at_the_end():
    log = run()[1]
    assert [row["step"] for row in log] == [2, 4, 6, 7]
    fields = {"step", "loss", "validation_loss", "learning_rate", "grad_norm"}
    fields |= {"ema_decay", "latent_mean", "latent_std", "attention"}
    assert all(set(row) == fields for row in log)
    assert {row.pop("attention") for row in log} == {"SDPA"}
    assert all(math.isfinite(value) for row in log for value in row.values())


def test_how_often_it_is_saved_does_not_change_the_weights():
    assert same(run("a")[0], run("b", checkpoint_steps=100)[0])


def test_training_lowers_the_loss():
    log = run(num_train_steps=60, checkpoint_steps=20)[1]
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_trains(kind):
    log = run(prediction_type=kind, num_train_steps=2)[1]
    assert math.isfinite(log[-1]["loss"])


@pytest.mark.parametrize(("fraction", "first"), [(1.0, 0), (0.5, 3), (0.1, 6)])
def test_the_average_runs_over_the_last_steps_only(monkeypatch, fraction, first):
    seen = []

    class Counted(state.EMAModel):
        def step(self, parameters):
            seen.append(1)
            super().step(parameters)

    monkeypatch.setattr(state, "EMAModel", Counted)
    run(ema_fraction=fraction)
    assert len(seen) == 7 - first


def test_a_share_of_steps_is_not_rounded_up_by_floating_point(monkeypatch):
    seen = []
    monkeypatch.setattr(state.EMAModel, "step", lambda *_: seen.append(1))
    run(ema_fraction=0.28, num_train_steps=25, checkpoint_steps=25)
    assert 0.28 * 25 > 7 and len(seen) == 7


def test_the_average_has_the_decay_of_the_recipe_and_the_log_says_so(monkeypatch):
    taken = []

    class Kept(state.EMAModel):
        def step(self, parameters):
            taken.append([p.detach().clone() for p in parameters])
            super().step(self._wrapped)

        def __init__(self, parameters, **words):
            self._wrapped = list(parameters)
            super().__init__(self._wrapped, **words)

    monkeypatch.setattr(state, "EMAModel", Kept)
    weights, log = run(ema_fraction=0.5, ema_decay=0.75, checkpoint_steps=1)
    assert [line["ema_decay"] for line in log] == [0, 0, 0, 0, 0.75, 0.75, 0.75]
    expected = taken[0]
    for newer in taken[1:]:
        expected = [0.75 * a + 0.25 * b for a, b in zip(expected, newer, strict=True)]
    for found, wanted in zip(weights.values(), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-6)


def test_whatever_the_average_a_constant_rate_leads_along_one_path(tmp_path):
    lines, ends = [], []
    for number, fraction in enumerate((0.0, 0.3, 1.0)):
        key = f"path{number}"
        words = {"lr_schedule": "constant_with_warmup", "ema_fraction": fraction}
        weights, log = run(key, ema_decay=0.9, checkpoint_steps=1, **words)
        names = ("loss", "validation_loss", "learning_rate", "grad_norm")
        lines.append([[line[name] for name in names] for line in log])
        newest, _ = newest_snapshot(work_folder(key))
        ends.append(load_file(newest / "unet.safetensors"))  # before the average
        assert same(weights, ends[-1]) == (fraction == 0)
    assert lines[0] == lines[1] == lines[2] and lines[0][-1][2] == 1e-2
    assert same(ends[0], ends[1]) and same(ends[0], ends[2])


def test_without_average_the_last_weights_are_returned():
    last = run("a", ema_fraction=0.0)[0]
    newest = run("b", ema_fraction=0.5, ema_decay=0.0)[0]
    assert all(torch.allclose(last[name], newest[name], atol=1e-6) for name in last)
    averaged = run("c", ema_fraction=0.5, ema_decay=0.99)[0]
    assert not torch.allclose(last["conv_in.weight"], averaged["conv_in.weight"])


@pytest.mark.parametrize(("prob", "expected"), [(0.0, {False}), (1.0, {True})])
def test_captions_are_dropped_never_or_always(prob, expected):
    data = FakeLatents()
    run(data=data, caption_drop_prob=prob)
    assert set(data.dropped) == expected


def test_captions_are_dropped_about_as_often_as_asked():
    data = FakeLatents()
    run(data=data, caption_drop_prob=0.5, train_batch_size=40)
    assert 0.38 < sum(data.dropped) / len(data.dropped) < 0.62


def test_a_loss_that_is_no_number_stops_with_its_step():
    data = FakeLatents()
    bad = loop.batch_places(8, 3, 5, 2)[0]
    data.mean[bad] = math.nan
    first = next(s for s in range(9) if bad in loop.batch_places(8, 3, 5, s))
    with pytest.raises(
        ParameterError, match=f"nan at step {first} for toy/{bad};"
    ) as caught:
        run(data=data)
    assert "learning_rate" in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_is_never_saved():
    data = FakeLatents()
    data.mean[:] = math.nan
    with pytest.raises(ParameterError):
        run(data=data)
    assert not list(paths.CHECKPOINTS.rglob("*.pt"))


def test_the_choice_of_captions_is_drawn_anew_at_each_step():
    class Recorder(FakeLatents):
        choices = []

        def prompt_embeds(self, places, is_dropped, draws=None):
            self.choices.append(tuple(draws.tolist()))
            return super().prompt_embeds(places, is_dropped)

    run("drawn", data=Recorder())
    assert len(set(Recorder.choices)) == NUM_STEPS


@pytest.mark.parametrize("micro_batch_size", [1, 2, 5])
def test_a_batch_in_parts_takes_the_step_of_a_batch_at_once(micro_batch_size):
    whole, log = run("whole", train_batch_size=5, micro_batch_size=5)
    parts, same_log = run(
        "parts", train_batch_size=5, micro_batch_size=micro_batch_size
    )
    torch.testing.assert_close(whole, parts, atol=1e-5, rtol=1e-5)
    for row, other in zip(log, same_log, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(("num", "size"), [(1, 3), (2, 3), (3, 1), (4, 10)])
def test_the_parts_of_all_processes_are_the_batch_in_order(num, size):
    parts = [rows for rank in range(num) for rows in loop.split(7, rank, num, size)]
    assert torch.equal(torch.cat(parts), torch.arange(7))
    assert all(0 < len(rows) <= size for rows in parts)


@pytest.mark.parametrize("num", [0, 1, 3, 50])
def test_what_is_read_ahead_comes_in_order_and_no_further_ahead(num):
    asked, taken = [], []

    def read(job):
        asked.append(job)
        return -job

    for found in loop.read_ahead(range(20), read, num):
        taken.append(found)
        assert len(asked) <= len(taken) + num
    assert taken == [-job for job in range(20)]


@pytest.mark.slow
def test_a_compiled_training_takes_the_same_steps(monkeypatch):
    """Compiling by a back end that changes no arithmetic; the GPU's own is another."""
    plain, log = run("plain", num_train_steps=3)
    asked = []

    def compile(self, whole=torch.nn.Module.compile, **words):
        asked.append(words)
        whole(self, backend="eager", **words)

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    fake = FakeLatents(), FakeLatents(4, seed=1)
    recipe = make_recipe(num_train_steps=3, compile=True)
    unet, same_log = loop.train("compiled", make_unet(), *fake, recipe)
    assert asked == [{"dynamic": False}] and unet._compiled_call_impl is None
    torch.testing.assert_close(unet.state_dict(), plain, atol=1e-5, rtol=1e-5)
    assert same_log[-1]["loss"] == pytest.approx(log[-1]["loss"], abs=1e-6)


def test_what_fails_while_it_is_read_ahead_fails_where_it_is_asked_for():
    found = loop.read_ahead([2, 1, 0, 3], lambda job: 1 / job, 2)
    assert [next(found), next(found)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_reading_ahead_changes_no_bit(monkeypatch):
    weights, log = run("plain")
    whole = loop.read_ahead
    monkeypatch.setattr(loop, "read_ahead", lambda jobs, read, _: whole(jobs, read, 3))
    ahead, same_log = run("ahead")
    assert same(weights, ahead) and log == same_log


def test_a_long_run_draws_its_bar_about_a_thousand_times():
    """Every drawing is a line of output that a notebook keeps while it runs."""
    now, text = [0.0], io.StringIO()
    bar = loop.tqdm(total=200_000, file=text, miniters=1)
    bar._time, bar.start_t, bar.last_print_t = lambda: now[0], 0.0, 0.0
    for _ in range(100_000):
        now[0] += 10  # eleven days and a half
        loop.count_on(bar, 1)
    assert 300 < text.getvalue().count("\r") < 2000


def test_each_snapshot_is_shown_to_the_watch():
    seen = []
    data, held = FakeLatents(), FakeLatents(4, seed=1)
    watch = lambda entry, *_: seen.append(entry["step"])  # noqa: E731
    loop.train("watched", make_unet(), data, held, make_recipe(), watch=watch)
    assert seen == [2, 4, 6, 7]


def test_a_damaged_snapshot_is_named_and_the_one_before_is_used(stop_at, capsys):
    weights, log = run("whole")
    stop_at(5)
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    newest = sorted(keys.work_folder("broken").glob("step-*"))[-1]
    with open(newest / "unet.safetensors", "r+b") as file:
        file.truncate(100)
    resumed, same_log = run("broken")
    assert same(weights, resumed) and log == same_log
    assert newest.name in capsys.readouterr().err


def work(key, checkpoints_folder):
    """Train in a process of its own, with its work folder where the test's is."""
    paths.CHECKPOINTS = checkpoints_folder
    paths.FINISHED = checkpoints_folder.with_name(".finished")
    torch.set_num_threads(1)
    run(key, num_train_steps=40)


@pytest.mark.slow
def test_twenty_kills_at_random_steps_end_with_the_same_bits(monkeypatch):
    torch.set_num_threads(1)
    weights, log = run("whole", num_train_steps=40)
    # The server imports this file once; without its paths every child would do so.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__, "torch._dynamo"])
    chance, kills, reached = random.Random(3), 0, set()
    folder = keys.work_folder("killed")
    while kills < 20:
        before = {path.name for path in folder.glob("step-*")}
        process = context.Process(target=work, args=("killed", paths.CHECKPOINTS))
        process.start()
        while process.is_alive() and {p.name for p in folder.glob("step-*")} == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        steps = sorted(path.name for path in folder.glob("step-*"))
        reached.add(steps[-1])
        if steps[-1] == "step-00000040":  # it got to the end: start over
            shutil.rmtree(folder)
            folder.mkdir()
    assert len(reached) > 5
    resumed, same_log = run("killed", num_train_steps=40)
    assert same(weights, resumed) and log == same_log


def test_the_same_seed_builds_the_same_unet():
    assert same(make_unet(1).state_dict(), make_unet(1).state_dict())
    assert not same(make_unet(1).state_dict(), make_unet(2).state_dict())
