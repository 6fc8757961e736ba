"""Where a training runs: in this process, or in several that agree with one.

    python -m commoncanvas launch SPEC.json

is what each of several processes runs, under torchrun on one machine or under
`accelerate launch --config_file profiles/accelerate/…` on many. A spec is the JSON of a
`TrainSpec` that stage 04 writes beside its snapshots.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from commoncanvas.core import paths
from commoncanvas.core.determinism import die_with_parent
from commoncanvas.core.errors import CommonCanvasError, EngineError
from commoncanvas.core.files import sha256_of, shown, write_atomically, write_json
from commoncanvas.core.keys import code_hash, key_of, work_folder
from commoncanvas.latents.mirror import read_listing
from commoncanvas.latents.reader import Latents
from commoncanvas.models.encoders import load_text_encoder, load_vae
from commoncanvas.models.pipelines import (
    draw_batch,
    make_noise_scheduler,
    make_pipeline,
)
from commoncanvas.models.unets import make_unet, start_unet, unet_file
from commoncanvas.models.weights import identity_of
from commoncanvas.train.loop import train
from commoncanvas.train.recipe import Previews, TrainSpec, read_spec
from commoncanvas.train.snapshots import newest_snapshot

STOPPED = "training stopped: "  # begins the one line that says why
PROMPTS = "prompts"  # of the PNG's text that says which they were, as JSON


def inputs_of(spec: TrainSpec) -> str:
    """Hash what a training reads beside its spec: works, first weights, noise, code."""
    scheduler, revision = spec.recipe.scheduler
    return key_of(
        data=read_listing(spec.folder),
        start=spec.init_from and sha256_of(unet_file(spec.init_from)),
        noise=scheduler and identity_of("scheduler", scheduler, revision),
        code=code_hash("train.loop", "latents.reader", "models.unets"),
    )


def with_key(spec: TrainSpec) -> TrainSpec:
    """Return a spec with its inputs, and with the key of all that decides its result.

    Raises:
        ManifestError: a file that it reads is not the one of its manifest.
    """
    inputs = inputs_of(spec)
    recipe, unet = asdict(spec.recipe), spec.unet_config
    key = key_of(recipe=recipe, unet=unet, works=spec.works, inputs=inputs)
    return replace(spec, key=key, inputs=inputs)


def launch(spec: TrainSpec, num_processes: int = 1) -> tuple[Any, list[dict[str, Any]]]:
    """Train as a spec says, and return (unet with averaged weights, log).

    Args:
        spec: kept as JSON in the work folder, for other processes.
        num_processes: on this machine, one a GPU; 1 trains in this process unless in
            shards, 0 leaves it to other machines and takes over what they trained.

    Raises:
        EngineError: one of several processes failed (its message is passed on); or
            other machines have not finished yet (says what to run there).
    """
    file = work_folder(spec.key) / "spec.json"
    write_json(file, asdict(spec))
    if num_processes == 0 and not is_finished(spec):
        raise EngineError(
            "num_processes is 0, and the training is not finished; run on every "
            "machine `accelerate launch --config_file profiles/accelerate/nodes.yaml "
            f"-m commoncanvas launch {shown(file)}`, then this stage again."
        )
    if num_processes > 1 or (num_processes and spec.shard):
        _run_processes(file, num_processes)
    return fit(spec)  # after a multi-process run this only loads the final snapshot


def is_finished(spec: TrainSpec) -> bool:
    """Tell whether a spec's last step lies in a whole snapshot."""
    found, _ = newest_snapshot(work_folder(spec.key))
    last = f"step-{spec.recipe.num_train_steps:08d}"
    return found is not None and found.name == last


def fit(spec: TrainSpec) -> tuple[Any, list[dict[str, Any]]]:
    """Train in this process, alone or as one of several; see `launch`."""
    data = Latents(spec.folder, **spec.works)
    held_out = Latents(spec.folder, ["c"], "human", holdout=True)
    channels, side, _ = spec.latent_shape or data.latent_shape
    unet = make_unet(
        spec.unet_config, channels, side, spec.text_width, spec.recipe.seed
    )
    if spec.init_from:  # a warm start
        start_unet(unet, spec.init_from)
    return train(
        spec.key,
        unet,
        data,
        held_out,
        spec.recipe,
        spec.description,
        Watch(spec),
        # Processes of torchrun share the weights; one that loads the result does not.
        is_sharded=spec.shard and "WORLD_SIZE" in os.environ,
    )


def read_previews(spec: TrainSpec) -> dict[int, np.ndarray]:
    """Return the pictures drawn while a spec was trained, by the steps done, ascending.

    Returns:
        {step: (prompts, h, w, 3) uint8}; empty where the spec asked for none, and
        without those that were drawn for other prompts than the spec's.
    """
    found: dict[int, np.ndarray] = {}
    if not spec.previews:  # though the same training may have kept some before
        return found
    for file in sorted(_previews_of(spec).glob("*.png")):
        with Image.open(file) as column:
            # Early ones do not say; where they do, it may be of other prompts.
            if column.info.get(PROMPTS) not in (None, _prompts_of(spec.previews)):
                continue
            pixels = np.asarray(column)
        height = len(pixels) // len(spec.previews.prompts)
        # (prompts · h, w, 3) -> (prompts, h, w, 3)
        found[int(file.stem)] = pixels.reshape(-1, height, *pixels.shape[1:])
    return found


def _prompts_of(previews: Previews) -> str:
    return json.dumps(previews.prompts)


def _previews_of(spec: TrainSpec) -> Path:
    return work_folder(spec.key) / "previews"


class Watch:
    """Writes each snapshot's values, and pictures if asked, for TensorBoard.

    Files lie in `runs/<description>/<key>`, the pictures also beside the snapshots
    (`read_previews`). They show the weights of the moment, not their average, for the
    same prompts and seed each time. One process draws them, but in shards, where none
    could alone, all do.
    """

    def __init__(self, spec: TrainSpec) -> None:
        self.spec = spec
        self.writer: Any = None

    def __call__(self, entry: dict[str, Any], unet: Any, is_main: bool = True) -> None:
        pixels = None
        if self.spec.previews and (is_main or self.spec.shard):
            pixels = self.draw(unet.eval(), self.spec.previews)
            unet.train()
        if not is_main:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            folder = paths.RUNS / self.spec.description / self.spec.key
            # What an interrupted run wrote of later steps is taken back.
            self.writer = SummaryWriter(folder, purge_step=entry["step"])
        for name, value in entry.items():
            if not isinstance(value, str):
                self.writer.add_scalar(name, value, entry["step"])
        if pixels is not None and self.spec.previews:
            self.writer.add_images("samples", pixels, entry["step"], dataformats="NHWC")
            file = _previews_of(self.spec) / f"{entry['step']:08d}.png"
            column = Image.fromarray(np.concatenate(pixels))  # (prompts · h, w, 3)
            text = PngInfo()
            text.add_text(PROMPTS, _prompts_of(self.spec.previews))
            write_atomically(file, partial(column.save, pnginfo=text))
        self.writer.flush()

    def draw(self, unet: Any, previews: Previews) -> np.ndarray:
        """Return (prompts, h, w, 3) uint8 pictures at guidance 3."""
        recipe, (name, revision) = self.spec.recipe, previews.text_encoder
        tokenizer, encoder = load_text_encoder(name, previews.max_tokens, revision)
        noise = make_noise_scheduler(recipe.prediction_type, *recipe.scheduler)
        vae = load_vae(*previews.vae)
        pipeline = make_pipeline(unet, vae, tokenizer, encoder, noise)
        return draw_batch(
            pipeline,
            previews.prompts,
            first=0,
            guidance_scale=3.0,
            num_inference_steps=previews.num_inference_steps,
            seed=recipe.seed,
        )


def _run_processes(file: Path, num_processes: int) -> None:
    # `accelerate launch --cpu` would silently start one process.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(num_processes)]
    command += ["-m", "commoncanvas", "launch", str(file)]
    why = ""
    with subprocess.Popen(
        command,
        cwd=paths.ROOT,
        env={**os.environ, "TORCH_DISTRIBUTED_DEBUG": "OFF"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=die_with_parent,
    ) as run:
        for line in run.stdout or ():
            print(line, end="", file=sys.stderr)
            why = why or line.partition(STOPPED)[2].strip()
    if run.returncode:
        raise EngineError(
            f"{num_processes} training processes ended with {run.returncode}: "
            f"{why or 'see their output above'} The last snapshot is kept; run the "
            "stage again to go on."
        )


def join(file: Path | str) -> None:
    """Train as one of several processes, by the spec that stage 04 wrote.

    Raises:
        EngineError: why the training stopped, after the words that `launch` looks for.
    """
    die_with_parent()
    try:
        spec = read_spec(file)
        if spec.inputs and spec.inputs != inputs_of(spec):
            raise EngineError(
                f"latents, first weights, noise schedule or code are not those that "
                f"{shown(file)} was written for; run stage 04 again, which writes it."
            )
        fit(spec)
    except CommonCanvasError as error:
        raise EngineError(f"{STOPPED}{error}") from None
