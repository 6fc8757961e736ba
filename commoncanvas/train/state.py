"""The state of a training: weights, average, optimiser; whole or in shards (FSDP)."""

import json
from contextlib import nullcontext
from functools import partial

import torch
import torch.distributed as dist
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.functional import group_norm, layer_norm
from torch.nn.utils import get_total_norm

from commoncanvas.core.errors import ParameterError
from commoncanvas.train.snapshots import write_snapshot

# Gathered and freed one at a time, so that few are whole at once.
UNITS = (BasicTransformerBlock, ResnetBlock2D)


def shard(unet, device, mixed_precision="no"):
    """Shard a UNet's parameters over all processes, in place.

    Args:
        unet: a UNet on the device, with the same weights on every process.
        device: of this process.
        mixed_precision: "no" or "bf16", in which units compute; gradients are added
            up in float32.

    Raises:
        ParameterError: fp16, whose scaled gradients would need a scaler of shards.
    """
    if mixed_precision == "fp16":
        raise ParameterError(
            "train.shard is true with mixed_precision fp16; expected no or bf16; set "
            "bf16, or shard false."
        )
    if not dist.is_initialized():  # accelerate leaves a lone process alone
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    policy = MixedPrecisionPolicy()
    if mixed_precision == "bf16":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for unit in [m for m in unet.modules() if isinstance(m, UNITS)] + [unet]:
        fully_shard(unit, mesh=mesh, mp_policy=policy)


def whole(tensor):
    """Return a tensor put together from its shards; one without any as it is.

    Every process must call this, in the same order.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def take_over(tensor, values):
    """Copy whole `values` into a tensor, or each process's part into its shard."""
    if isinstance(tensor, DTensor):
        values = values.to(tensor.device)
        values = distribute_tensor(values, tensor.device_mesh, tensor.placements)
    tensor.copy_(values)


# Whole tensors, on the CPU of the first process, however they lie while training.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class TrainState:
    """UNet, optimiser, schedule and moving average, as each process holds them.

    Args:
        accelerator: moves and wraps them.
        unet: an untrained UNet.
        recipe: see `train`.
        is_sharded: whether each process holds a part (FSDP) or all of them.
    """

    def __init__(self, accelerator, unet, recipe, is_sharded=False):
        self.accelerator, self.bare = accelerator, unet
        precision = recipe["mixed_precision"]
        if precision != "no":
            lower_norms(unet)
        if is_sharded:
            shard(unet.to(accelerator.device), accelerator.device, precision)
        optimizer = torch.optim.AdamW(
            unet.parameters(),
            recipe["learning_rate"],
            weight_decay=recipe["weight_decay"],
            fused=True,
        )
        self.lr_scheduler = get_scheduler(
            recipe["lr_schedule"],
            optimizer,
            num_warmup_steps=recipe["lr_warmup_steps"],
            num_training_steps=recipe["num_train_steps"],
        )
        self.unet = unet if is_sharded else accelerator.prepare_model(unet)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.ema_decay, self.ema, self.is_sharded = (
            recipe["ema_decay"],
            None,
            is_sharded,
        )

    def update(self, losses_of, parts, num_works, is_averaged):
        """Add up the gradients of a batch's parts and take one optimiser step.

        Args:
            losses_of: part -> (n,) losses, all finite.
            parts: the parts of the batch that this process does.
            num_works: works of the whole batch, over all processes.
            is_averaged: whether the moving average takes these weights in.

        Returns:
            (loss, grad_norm) of the whole batch, floats.
        """
        total = torch.zeros((), device=self.accelerator.device)
        self.optimizer.zero_grad()
        for number, part in enumerate(parts, start=1):
            # Gradients travel between processes once a step, after the last part.
            with self._gradients_wait(number < len(parts)):
                loss = losses_of(part).sum() / num_works
                # Processes' gradients are averaged where their sum is meant.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        self.accelerator.unscale_gradients()
        # Read but not clipped: the recipe clips nothing.
        grads = [p.grad for p in self.bare.parameters() if p.grad is not None]
        grad_norm = whole(get_total_norm(grads)).item()
        self.optimizer.step()
        self.lr_scheduler.step()
        if is_averaged:
            self.ema = self.ema or EMAModel(
                self.bare.parameters(), decay=self.ema_decay
            )
            self.ema.step(self.bare.parameters())
        total = self.accelerator.reduce(total, "sum")
        return total.item(), grad_norm

    def _gradients_wait(self, waits):
        if self.is_sharded:
            self.unet.set_requires_gradient_sync(not waits)
            return nullcontext()
        return self.accelerator.no_sync(self.unet) if waits else nullcontext()

    def save(self, folder, step, log, facts):
        """Write a snapshot: everything that the next step depends on.

        Every process calls this, the first one writes. A snapshot does not tell how
        many processes there were, nor whether they held shards.
        """
        unet, optimizer = get_state_dict(
            self.bare, self.optimizer.optimizer, options=_WHOLE
        )
        ema = self.ema and self.ema.state_dict()
        if ema:
            ema["shadow_params"] = [whole(p).cpu() for p in ema["shadow_params"]]
        if not self.accelerator.is_main_process:
            return
        state = {
            "optimizer": optimizer,
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "ema": ema,
            "scaler": self._scaler().state_dict() if self._scaler() else None,
        }
        unet = {k: v.contiguous() for k, v in unet.items()}
        writers = {
            "unet.safetensors": lambda path: save_file(unet, path),
            "state.pt": lambda path: torch.save(state, path),
            "log.json": lambda path: path.write_text(json.dumps(log)),
        }
        write_snapshot(folder, step, writers, facts)

    def load(self, folder):
        """Take over a snapshot and return (steps done, log)."""
        state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        set_state_dict(
            self.bare,
            self.optimizer.optimizer,
            model_state_dict=load_file(folder / "unet.safetensors"),
            optim_state_dict=state["optimizer"],
            options=_WHOLE,
        )
        self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if state["ema"]:
            shadows = state["ema"].pop("shadow_params")
            self.ema = EMAModel(self.bare.parameters(), decay=self.ema_decay)
            for shadow, values in zip(self.ema.shadow_params, shadows, strict=True):
                take_over(shadow, values)
            self.ema.load_state_dict(state["ema"])
        if state["scaler"] and self._scaler():
            self._scaler().load_state_dict(state["scaler"])
        log = json.loads((folder / "log.json").read_text())
        # The first to go on would soon remove this snapshot.
        self.accelerator.wait_for_everyone()
        return log[-1]["step"], log

    def _scaler(self):
        return self.accelerator.scaler  # of fp16 gradients; None otherwise


def lower_norms(unet):
    """Let the norms run in their input's type, which autocast would lift to float32.

    Source: commoncanvas-cvpr, §5.1 (low-precision GroupNorm and LayerNorm).
    """
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
            module.forward = partial(_low_norm, module)


def _low_norm(module, hidden):
    weight, bias = (p.to(hidden.dtype) for p in (module.weight, module.bias))
    with torch.autocast(hidden.device.type, enabled=False):
        if isinstance(module, torch.nn.GroupNorm):
            return group_norm(hidden, module.num_groups, weight, bias, module.eps)
        return layer_norm(hidden, module.normalized_shape, weight, bias, module.eps)
