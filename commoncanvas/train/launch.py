"""Where a training runs: in this process, or in several that agree with one.

    python -m commoncanvas launch SPEC.json

is what each of several processes runs, under torchrun on one machine or under
`accelerate launch --config_file profiles/accelerate/…` on many. A spec is the JSON that
stage 04 writes beside its snapshots.
"""

import json
import os
import subprocess
import sys

from commoncanvas.core import paths
from commoncanvas.core.determinism import die_with_parent
from commoncanvas.core.errors import CommonCanvasError, EngineError
from commoncanvas.core.files import shown, write_atomically
from commoncanvas.core.keys import work_folder
from commoncanvas.latents.reader import Latents
from commoncanvas.models.encoders import load_text_encoder, load_vae
from commoncanvas.models.pipelines import (
    draw_samples,
    make_noise_scheduler,
    make_pipeline,
)
from commoncanvas.models.unets import make_unet, start_unet
from commoncanvas.train.loop import train
from commoncanvas.train.snapshots import newest_snapshot

STOPPED = "training stopped: "  # begins the one line that tells why


def launch(spec, num_processes=1):
    """Train as a spec says, and return (unet with averaged weights, log).

    Args:
        spec: {key, folder (stage 03's), works (arguments of `Latents`: licenses,
            caption_source, fraction, sources), unet_config, text_width, init_from (see
            `start_unet`), recipe (see `training.train`), shard (whether processes share
            the UNet's weights, see `state`), description, previews: {prompts,
            num_inference_steps, vae: [folder, revision], text_encoder: [folder,
            revision], max_tokens}, or None for no pictures, latent_shape (of samples;
            needed only where works are of several shapes)}.
        num_processes: on this machine, one a GPU; 1 trains in this process unless in
            shards, 0 leaves it to other machines and takes over what they trained.

    Raises:
        EngineError: one of several processes failed (tells its last words); or other
            machines have not finished yet (tells what to run there).
    """
    file = work_folder(spec["key"]) / "spec.json"
    write_atomically(file, lambda part: part.write_text(json.dumps(spec)))
    if num_processes == 0 and not is_finished(spec):
        raise EngineError(
            "num_processes is 0, and the training is not finished; run on every "
            "machine `accelerate launch --config_file profiles/accelerate/nodes.yaml "
            f"-m commoncanvas launch {shown(file)}`, then this stage again."
        )
    if num_processes > 1 or (num_processes and spec["shard"]):
        _run_processes(file, num_processes)
    return fit(spec)  # of several processes' work this finds the last snapshot


def is_finished(spec):
    """Tell whether a spec's last step lies in a whole snapshot."""
    found, _ = newest_snapshot(work_folder(spec["key"]), {"key": spec["key"]})
    return found is not None and found.name.endswith(
        f"-{spec['recipe']['num_train_steps']:08d}"
    )


def fit(spec):
    """Train in this process, alone or as one of several; see `launch`."""
    data = Latents(spec["folder"], **spec["works"])
    held_out = Latents(spec["folder"], ["c"], "human", holdout=True)
    channels, side, _ = spec.get("latent_shape") or data.latent_shape
    seed, config = spec["recipe"]["seed"], spec["unet_config"]
    unet = make_unet(config, channels, side, spec["text_width"], seed)
    if spec["init_from"]:
        start_unet(unet, spec["init_from"])
    return train(
        spec["key"],
        unet,
        data,
        held_out,
        spec["recipe"],
        spec["description"],
        Watch(spec),
        # What torchrun started shares them; who takes over its work holds all of them.
        is_sharded=spec["shard"] and "WORLD_SIZE" in os.environ,
    )


class Watch:
    """Writes each snapshot's figures, and pictures if asked, for TensorBoard.

    Files lie in `runs/<description>/<key>`. The pictures show the weights of the
    moment, not their average, for the same prompts and seed each time.
    """

    def __init__(self, spec):
        self.spec, self.writer = spec, None

    def __call__(self, entry, unet, is_main=True):
        if previews := self.spec.get("previews"):
            # In shards, no process could draw alone.
            pixels = self.draw(unet.eval(), **previews)
            unet.train()
        if not is_main:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            folder = paths.RUNS / self.spec["description"] / self.spec["key"]
            # What an interrupted run wrote of later steps is taken back.
            self.writer = SummaryWriter(folder, purge_step=entry["step"])
        for name, value in entry.items():
            self.writer.add_scalar(name, value, entry["step"])
        if previews:
            self.writer.add_images("samples", pixels, entry["step"], dataformats="NHWC")
        self.writer.flush()

    def draw(self, unet, prompts, num_inference_steps, vae, text_encoder, max_tokens):
        """Return (prompts, h, w, 3) uint8 pictures at guidance 3."""
        name, revision = text_encoder
        parts = load_vae(*vae), *load_text_encoder(name, max_tokens, revision)
        recipe = self.spec["recipe"]
        noise = make_noise_scheduler(recipe["prediction_type"], *recipe["scheduler"])
        pipeline = make_pipeline(unet, *parts, noise)
        return draw_samples(
            pipeline, prompts, 3.0, num_inference_steps, recipe["seed"], len(prompts)
        )


def _run_processes(file, num_processes):
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
        for line in run.stdout:
            print(line, end="", file=sys.stderr)
            why = why or line.partition(STOPPED)[2].strip()
    if run.returncode:
        raise EngineError(
            f"{num_processes} training processes ended with {run.returncode}: "
            f"{why or 'see their output above'} The last snapshot is kept; run the "
            "stage again to go on."
        )


def join(file):
    """Train as one of several processes, by the spec that stage 04 wrote.

    Raises:
        EngineError: why the training stopped, after the words that `launch` looks for.
    """
    die_with_parent()
    with open(file, encoding="utf-8") as spec:
        spec = json.load(spec)
    try:
        fit(spec)
    except CommonCanvasError as error:
        raise EngineError(f"{STOPPED}{error}") from None
