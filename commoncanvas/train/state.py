"""The state of a training: weights, average, optimiser; whole or in shards (FSDP)."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
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
from commoncanvas.train.denoising import Draws
from commoncanvas.train.recipe import TrainRecipe
from commoncanvas.train.snapshots import save_state, write_snapshot

# Gathered and freed one at a time, so that few are whole at once.
UNITS = (BasicTransformerBlock, ResnetBlock2D)


def shard(
    unet: torch.nn.Module, device: torch.device, mixed_precision: str = "no"
) -> None:
    """Shard a UNet's parameters over all processes, in place.

    It lies on the process's device, with the same weights on each. Units compute in
    `mixed_precision`, "no" or "bf16"; gradients are added up in float32.

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


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor put together from its shards; one without any as it is.

    Every process must call this, in the same order.
    """
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def take_over(tensor: torch.Tensor, values: torch.Tensor) -> None:
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
        recipe: its rates, schedule and precision.
        is_sharded: whether each process holds a part (FSDP) or all of them.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        unet: Any,
        recipe: TrainRecipe,
        is_sharded: bool = False,
    ) -> None:
        self.accelerator, self.bare = accelerator, unet
        if recipe.mixed_precision != "no":
            lower_norms(unet)
        if is_sharded:
            unet.to(accelerator.device)
            shard(unet, accelerator.device, recipe.mixed_precision)
        optimizer = torch.optim.AdamW(
            unet.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.lr_scheduler = get_scheduler(
            recipe.lr_schedule,
            optimizer,
            num_warmup_steps=recipe.lr_warmup_steps,
            num_training_steps=recipe.num_train_steps,
        )
        self.unet = unet if is_sharded else accelerator.prepare_model(unet)
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.ema_decay, self.is_sharded = recipe.ema_decay, is_sharded
        self.ema: EMAModel | None = None

    def update(
        self,
        losses_of: Callable[[Draws], torch.Tensor],
        parts: Sequence[Draws],
        num_works: int,
        is_averaged: bool,
    ) -> tuple[float, float]:
        """Add up the gradients of a batch's parts and take one optimiser step.

        Args:
            losses_of: part -> (n,) losses, all finite.
            parts: the parts of the batch that this process does.
            num_works: works of the whole batch, over all processes.
            is_averaged: whether the moving average takes these weights in.

        Returns:
            (loss, grad_norm) of the whole batch.
        """
        total = torch.zeros((), device=self.accelerator.device)
        self.optimizer.zero_grad()
        for number, part in enumerate(parts, start=1):
            # Processes exchange gradients once a step, after the last part.
            with self._gradients_wait(number < len(parts)):
                # (n,) to a scalar: a part's share of the mean over the whole batch, so
                # that the gradients of all parts add up to that of the mean.
                loss = losses_of(part).sum() / num_works
                # The exchange averages over processes; times their number, it sums.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        # In fp16 the loss was scaled up, so that small gradients do not underflow.
        self.accelerator.unscale_gradients()
        # Of all parameters together, for the log; the recipe clips no gradient.
        grads = [p.grad for p in self.bare.parameters() if p.grad is not None]
        grad_norm = whole(get_total_norm(grads)).item()
        self.optimizer.step()
        self.lr_scheduler.step()  # after the optimiser, which uses this step's rate
        if is_averaged:
            # Made at its first step: earlier weights have no part in the average.
            self.ema = self.ema or EMAModel(
                self.bare.parameters(), decay=self.ema_decay
            )
            self.ema.step(self.bare.parameters())
        # Each process has the share of its own parts.
        total = self.accelerator.reduce(total, "sum")
        return total.item(), grad_norm

    def _gradients_wait(self, waits: bool) -> AbstractContextManager:
        if self.is_sharded:
            self.unet.set_requires_gradient_sync(not waits)
            return nullcontext()
        return self.accelerator.no_sync(self.unet) if waits else nullcontext()

    def save(self, folder: Path, step: int, log: list[dict[str, float]]) -> None:
        """Write a snapshot: everything that the next step depends on.

        Every process calls this, the first one writes. A snapshot is the same however
        many processes there were, and whether or not they held shards.
        """
        weights: Any
        weights, optimizer = get_state_dict(
            self.bare, self.optimizer.optimizer, options=_WHOLE
        )
        ema = self.ema.state_dict() if self.ema else None
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
        unet = {name: tensor.contiguous() for name, tensor in weights.items()}
        writers = {
            "unet.safetensors": lambda path: save_file(unet, path),
            "state.pt": lambda path: save_state(state, path),
            "log.json": lambda path: path.write_text(json.dumps(log)),
        }
        write_snapshot(folder, step, writers)

    def load(self, folder: Path) -> tuple[int, list[dict[str, float]]]:
        """Take over a snapshot and return (steps done, log)."""
        state = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
        weights: dict[str, Any] = load_file(folder / "unet.safetensors")
        set_state_dict(
            self.bare,
            self.optimizer.optimizer,
            model_state_dict=weights,
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

    def _scaler(self) -> Any:
        return self.accelerator.scaler  # of fp16 gradients; None otherwise


def lower_norms(unet: torch.nn.Module) -> None:
    """Let the norms compute in their input's type; autocast would take float32.

    Source: commoncanvas-cvpr, §5.1 (low-precision GroupNorm and LayerNorm).
    """
    for module in unet.modules():
        if isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm):
            # For this module alone, not for its class.
            module.forward = partial(_low_norm, module)  # type: ignore[method-assign]


def _low_norm(
    module: torch.nn.GroupNorm | torch.nn.LayerNorm, hidden: torch.Tensor
) -> torch.Tensor:
    weight, bias = (p.to(hidden.dtype) for p in (module.weight, module.bias))
    with torch.autocast(hidden.device.type, enabled=False):
        if isinstance(module, torch.nn.GroupNorm):
            return group_norm(hidden, module.num_groups, weight, bias, module.eps)
        return layer_norm(hidden, module.normalized_shape, weight, bias, module.eps)
