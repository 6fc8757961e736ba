"""Two processes and one see the same works and take the same steps."""

import contextlib
import math
import multiprocessing
import os
import shutil
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from doors import call
from torch.distributed.tensor import DTensor
from toys import UNET, make_recipe, write_store

from commoncanvas.core import keys, paths
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.models.unets import make_unet
from commoncanvas.train import launch, loop, state
from commoncanvas.train.recipe import Previews, TrainSpec, read_spec

NUM, SHAPE, TEXT_SHAPE = 40, (4, 4, 4), (3, 8)
RECIPE = {
    "num_train_steps": 50,
    "train_batch_size": 6,
    "micro_batch_size": 2,
    "learning_rate": 1e-3,
    "lr_warmup_steps": 5,
    "caption_drop_prob": 0.1,
    "ema_fraction": 0.1,
    "scaling_factor": 1.0,
    "checkpoint_steps": 1,
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder of random latents, as stage 03 writes them."""
    catalog = pd.DataFrame(
        {
            "key": [f"toy/{i:02d}" for i in range(NUM)],
            "title": [f"word {i % 7}" for i in range(NUM)],
            "alt_text": "",
            "source": "toy",
            "split": "c",
            "license_slug": "by",
            "is_holdout": [i % 5 == 0 for i in range(NUM)],
            "order": np.arange(NUM) / NUM,
        }
    )
    said = pd.DataFrame({"key": catalog["key"], "source": "synthetic", "caption": "x"})
    folder = tmp_path_factory.mktemp("latents")
    write_store(folder, catalog, said, SHAPE, TEXT_SHAPE, np.random.default_rng(0))
    return folder


@pytest.fixture(scope="module")
def make_spec(store):
    """Return a function that makes specs; their work folders go afterwards.

    Processes of their own look for work where the repository keeps it.
    """
    begun = []

    def make(name, folder=store, shard=False, **recipe):
        spec = TrainSpec(
            key=f"test-launching-{os.getpid()}-{name}",
            folder=str(folder),
            works={"licenses": ["c"], "caption_source": "human"},
            unet_config=UNET,
            text_width=TEXT_SHAPE[1],
            recipe=make_recipe(**(RECIPE | recipe)),
            description=f"test-launching-{os.getpid()}-{name}",
            shard=shard,
        )
        begun.append(spec)
        return spec

    yield make
    for spec in begun:
        shutil.rmtree(keys.work_folder(spec.key), ignore_errors=True)
        shutil.rmtree(paths.RUNS / spec.description, ignore_errors=True)


@pytest.fixture(scope="module")
def alone(make_spec):
    return launch.launch(make_spec("alone"))


@pytest.fixture(scope="module")
def together(make_spec):
    return launch.launch(make_spec("together"), num_processes=2)


def close(unet, other, tolerance=1e-4):
    states = unet.state_dict(), other.state_dict()
    torch.testing.assert_close(*states, atol=tolerance, rtol=tolerance)


def is_named_in_a_command(word):
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in file.read_bytes():
                return True
    return False


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one(alone, together):
    (unet, log), (other, other_log) = alone, together
    assert len(log) == len(other_log) == 50
    for name in ("loss", "validation_loss"):
        found = [abs(a[name] - b[name]) for a, b in zip(log, other_log, strict=True)]
        assert max(found) < 1e-5, (name, max(found))
    close(unet, other)


@pytest.mark.slow
def test_a_run_of_two_processes_goes_on_as_one_and_the_reverse(make_spec, alone):
    for first, second in ((2, 1), (1, 2)):
        spec = make_spec(f"from-{first}-to-{second}")
        run = multiprocessing.get_context("spawn").Process(
            target=launch.launch, args=(spec, first)
        )
        run.start()
        folder = keys.work_folder(spec.key)
        while run.is_alive() and len(list(folder.glob("step-*"))) < 2:
            time.sleep(0.02)
        os.kill(run.pid, signal.SIGKILL)
        run.join()
        while is_named_in_a_command(spec.key):  # what it started ends with it
            time.sleep(0.1)
        step = int(max(folder.glob("step-*")).name.removeprefix("step-"))
        assert step < 50
        unet, log = launch.launch(spec, second)
        close(alone[0], unet)
        assert (
            max(abs(a["loss"] - b["loss"]) for a, b in zip(alone[1], log, strict=True))
            < 1e-5
        )


@pytest.fixture(scope="module")
def sharded(make_spec):
    spec = make_spec("sharded", shard=True)
    return spec, launch.launch(spec, num_processes=2)


@pytest.mark.slow
def test_processes_that_share_the_weights_have_the_losses_of_one(alone, sharded):
    (unet, log), (_, (other, other_log)) = alone, sharded
    for name in ("loss", "validation_loss", "grad_norm", "ema_decay"):
        found = [abs(a[name] - b[name]) for a, b in zip(log, other_log, strict=True)]
        assert max(found) < 1e-4, (name, max(found))
    close(unet, other)


def without_its_last_step(spec):
    shutil.rmtree(keys.work_folder(spec.key) / "step-00000050")
    return spec


@pytest.mark.slow
def test_shards_are_taken_over_by_one_process_and_the_reverse(
    make_spec, alone, sharded
):
    """The step left out lies within the moving average, so that too changes hands."""
    unet, log = launch.fit(without_its_last_step(sharded[0]))
    assert not any(isinstance(p, DTensor) for p in unet.parameters())
    close(alone[0], unet)
    assert log[-1]["loss"] == pytest.approx(alone[1][-1]["loss"], abs=1e-5)
    spec = make_spec("to-shards", shard=True)
    launch.fit(spec)
    for num_processes in (2, 1):
        close(alone[0], launch.launch(without_its_last_step(spec), num_processes)[0])


@pytest.mark.slow
def test_shards_compute_in_bfloat16(make_spec):
    def losses(name, **words):
        AcceleratorState._reset_state(reset_partial_state=True)
        spec = make_spec(name, num_train_steps=3, **words)
        return [entry["loss"] for entry in launch.launch(spec, 1)[1]]

    full, half = losses("full"), losses("half", shard=True, mixed_precision="bf16")
    assert half != full and half == pytest.approx(full, rel=0.02)
    AcceleratorState._reset_state(reset_partial_state=True)


def scale_in_shards(rank, port, results):
    """Take three steps in float16, in the second of which one shard overflows."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    unet = make_unet(UNET, SHAPE[0], SHAPE[1], TEXT_SHAPE[1], seed=0)
    state.shard(unet, torch.device("cpu"), "fp16")
    optimizer = torch.optim.AdamW(unet.parameters(), 0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    first = next(unet.parameters())
    for step in range(3):
        before = [p.to_local().clone() for p in unet.parameters()]
        optimizer.zero_grad()
        noisy, states = torch.ones(1, *SHAPE), torch.ones(1, *TEXT_SHAPE)
        loss = unet(noisy, torch.tensor([step]), states).sample.float().sum()
        scaler.scale(loss).backward()
        if step == 1 and rank == 1:
            first.grad.to_local().fill_(math.inf)
        scaler.step(optimizer)
        scaler.update()
        pairs = zip(before, unet.parameters(), strict=True)
        moved = any((old != p.to_local()).any().item() for old, p in pairs)
        results.put((rank, step, moved, scaler.get_scale()))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_an_overflow_in_one_shard_skips_the_step_in_all():
    """Accelerate takes float16 on a GPU alone, so its scaler is tried by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = multiprocessing.get_context("spawn").SimpleQueue()
    torch.multiprocessing.spawn(scale_in_shards, (port, results), nprocs=2)
    found = sorted(results.get() for _ in range(6))
    steps = [(True, 1024.0), (False, 512.0), (True, 512.0)]
    assert found == [(rank, n, *steps[n]) for rank in (0, 1) for n in range(3)]


def test_float16_without_a_gpu_is_one_line(make_spec):
    with pytest.raises(ParameterError, match="mixed_precision is fp16, and there is"):
        launch.fit(make_spec("fp16", mixed_precision="fp16"))


@pytest.mark.slow
def test_a_training_starts_from_the_weights_of_another(make_spec, alone, tmp_path):
    alone[0].save_pretrained(tmp_path / "pipeline" / "unet")
    folder = str(tmp_path / "pipeline")
    still = make_spec("from", num_train_steps=1, learning_rate=0.0, ema_fraction=0.0)
    unet, _ = launch.launch(replace(still, init_from=folder))
    close(alone[0], unet, tolerance=0)
    with pytest.raises(ParameterError, match="'nowhere', which holds no UNet"):
        launch.fit(replace(make_spec("from-2"), init_from="nowhere"))
    wider = {**UNET, "block_out_channels": [16]}
    with pytest.raises(ParameterError, match=r"differs in \d+ tensors, conv_in.bias"):
        launch.fit(replace(make_spec("from-3"), init_from=folder, unet_config=wider))


def test_a_training_left_to_other_machines_is_taken_over_when_it_is_done(make_spec):
    spec = make_spec("elsewhere", num_train_steps=3)
    with pytest.raises(EngineError, match="accelerate launch --config_file") as told:
        launch.launch(spec, 0)
    file = str(told.value).split("commoncanvas launch ")[1].split("`")[0]
    assert read_spec(paths.ROOT / file) == spec
    call("launch", paths.ROOT / file)
    unet, log = launch.launch(spec, 0)
    assert [entry["step"] for entry in log] == [1, 2, 3] and not unet.training


@pytest.mark.parametrize("change", ["latents", "start", "noise"])
def test_a_training_of_other_inputs_is_not_taken_up_elsewhere(
    make_spec, store, tmp_path, monkeypatch, change
):
    """Other machines may start long after stage 04 wrote the spec."""
    folder, start = tmp_path / "store", tmp_path / "start"
    shutil.copytree(store, folder)
    write_manifest(folder, "03_latents", "toy", None, NUM, NUM, {}, {})
    make_unet(UNET, SHAPE[0], SHAPE[1], TEXT_SHAPE[1], 0).save_pretrained(start)
    make_noise_scheduler().save_pretrained(tmp_path / "noise" / "scheduler")
    recipe = {"scheduler": [str(tmp_path / "noise"), ""], "num_train_steps": 1}
    spec = make_spec(f"other-{change}", folder, **recipe)
    spec = replace(launch.with_key(replace(spec, init_from=str(start))), key=spec.key)
    with pytest.raises(EngineError, match="not finished"):
        launch.launch(spec, 0)
    if change == "latents":
        (folder / "notes.txt").write_text("another run of stage 03")
        write_manifest(folder, "03_latents", "toy", None, NUM, NUM, {}, {})
    elif change == "start":
        make_unet(UNET, SHAPE[0], SHAPE[1], TEXT_SHAPE[1], 1).save_pretrained(start)
    else:
        other = make_noise_scheduler("v_prediction")
        other.save_pretrained(tmp_path / "noise" / "scheduler")
    monkeypatch.setattr(launch, "die_with_parent", lambda: None)
    assert launch.with_key(spec).key != launch.with_key(spec).inputs != spec.inputs
    with pytest.raises(EngineError, match="training stopped: .* run stage 04 again"):
        launch.join(keys.work_folder(spec.key) / "spec.json")
    assert not list(keys.work_folder(spec.key).glob("step-*"))


@pytest.mark.slow
def test_why_several_processes_stopped_is_one_line(make_spec, store, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    spec = make_spec("broken", tmp_path / "store", learning_rate=1e30)
    with pytest.raises(
        EngineError, match="2 training processes ended with 1: the loss"
    ):
        launch.launch(spec, 2)


def test_a_process_without_works_is_refused(make_spec, monkeypatch):
    two = type("Two", (loop.Accelerator,), {"num_processes": 2})
    monkeypatch.setattr(loop, "Accelerator", two)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ParameterError, match="train_batch_size is 1 for 2 processes"):
        launch.fit(make_spec("few", train_batch_size=1))


def test_processes_that_do_not_know_of_each_other_are_stopped(make_spec, monkeypatch):
    strangers = type("Strangers", (loop.Accelerator,), {"num_processes": 1})
    monkeypatch.setattr(loop, "Accelerator", strangers)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(EngineError, match="3 processes were started, and accelerate"):
        launch.fit(make_spec("strangers"))


def test_each_snapshot_s_figures_reach_tensorboard(make_spec, alone):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = make_spec("alone")
    folder = paths.RUNS / spec.description / spec.key
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss", "grad_norm", "latent_std", "learning_rate", "ema_decay"} <= set(
        events.Tags()["scalars"]
    )
    losses = [event.value for event in events.Scalars("loss")]
    assert losses == pytest.approx([entry["loss"] for entry in alone[1]])


@pytest.mark.parametrize(
    ("is_main", "is_shared", "num"),
    [(True, False, 1), (False, False, 0), (True, True, 1), (False, True, 1)],
)
def test_one_process_draws_previews_but_in_shards_all_do(
    make_spec, monkeypatch, is_main, is_shared, num
):
    drawn = []
    pixels = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3), np.uint8)

    def draw(*_):
        drawn.append(pixels + len(drawn))
        return drawn[-1]

    monkeypatch.setattr(launch.Watch, "draw", draw)
    spec = make_spec(f"drawn-{is_main}-{is_shared}", shard=is_shared)
    spec = replace(spec, previews=Previews(["a", "b"], 1, ["", ""], ["", ""], 3))
    watch = launch.Watch(spec)
    for step in (9, 100):
        entry = {"step": step, "loss": 0.5, "attention": "SDPA"}
        watch(entry, torch.nn.Linear(1, 1), is_main)
    assert len(drawn) == 2 * num and (watch.writer is not None) == is_main
    kept = launch.read_previews(spec)
    assert list(kept) == ([9, 100] if is_main else [])
    for found, expected in zip(kept.values(), drawn, strict=is_main):
        assert (found == expected).all()
    # They are in no key, so a training that is taken over may have had them.
    assert launch.read_previews(replace(spec, previews=None)) == {}
    # The prompts are in no key either: pictures of others are not labelled by these.
    other = replace(spec.previews, prompts=["a", "é"])
    assert launch.read_previews(replace(spec, previews=other)) == {}


def test_a_training_without_previews_keeps_none(make_spec):
    assert launch.read_previews(make_spec("undrawn")) == {}


def test_help_says_what_a_spec_is():
    assert "stage 04 wrote" in call("launch", "--help")
