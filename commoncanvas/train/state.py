"""The state of a training: weights, average, optimiser; whole or in shards (FSDP)."""

import json
from collections.abc import Callable
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
from commoncanvas.models.attention import set_attention
from commoncanvas.train.recipe import TrainRecipe
from commoncanvas.train.snapshots import SnapshotWriter, save_state

# Gathered and freed one at a time, so that few are whole at once.
UNITS = (BasicTransformerBlock, ResnetBlock2D)


def shard(
    unet: torch.nn.Module, device: torch.device, mixed_precision: str = "no"
) -> None:
    """Shard a UNet's parameters over all processes, in place.

    It lies on the process's device, with the same weights on each. Units compute in
    `mixed_precision`, and gradients are added up in float32. In "fp16" the scaler finds
    an overflow on all processes or on none, since torch exchanges what each found.
    """
    if not dist.is_initialized():  # accelerate leaves a lone process alone
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(mixed_precision)
    policy = MixedPrecisionPolicy(half, half and torch.float32)
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
        self.accelerator, self.bare, device = accelerator, unet, accelerator.device
        self.is_compiled = recipe.compile
        asked = recipe.attention, recipe.mixed_precision
        if device.type == "cuda" and asked == ("flash", "no"):
            raise ParameterError(
                "attention is flash with mixed_precision no; expected fp16 or bf16, in "
                "which a GPU's flash kernels compute; set one of them, or attention "
                "sdpa."
            )
        if recipe.mixed_precision != "no":
            lower_norms(unet)
        unet.to(device)
        self.attention = set_attention(unet, recipe.attention)
        self.notes: list[str] = []  # for the reader, a line each
        if recipe.attention == "flash" and not self.attention.startswith("flash-attn"):
            self.notes.append(f"flash-attn is not used here, but {self.attention}")
        if recipe.compile:
            unet.to(memory_format=torch.channels_last)
        if is_sharded:
            # Each is gathered by itself, and compiled by itself.
            units = [m for m in unet.modules() if isinstance(m, UNITS)]
            for unit in units if recipe.compile else ():
                unit.compile(dynamic=False)
            shard(unet, device, recipe.mixed_precision)
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
        if recipe.compile and not is_sharded:
            unet.compile(dynamic=False)  # in place: names of weights stay
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.ema_decay, self.is_sharded = recipe.ema_decay, is_sharded
        self.ema: EMAModel | None = None
        # On a CPU the tensors to write are those that the next step changes.
        self.writer = SnapshotWriter(is_parallel=device.type == "cuda")

    def eager(self) -> AbstractContextManager:
        """Compute without compiling within, for passes of other shapes."""
        if not self.is_compiled:
            return nullcontext()
        return torch.compiler.set_stance("force_eager")

    def update(
        self,
        next_losses: Callable[[], torch.Tensor],
        num_parts: int,
        num_works: int,
        is_averaged: bool,
    ) -> tuple[float, float]:
        """Add up the gradients of a batch's parts and take one optimiser step.

        The host waits for the device once, at the end.

        Args:
            next_losses: computes the (n,) losses of the next part.
            num_parts: how many of the batch's parts this process does.
            num_works: works of the whole batch, over all processes.
            is_averaged: whether the moving average takes these weights in.

        Returns:
            (loss, grad_norm) of the whole batch; a loss that is no number is for the
            caller to find, whose next snapshot would hold what it led to.
        """
        total = torch.zeros((), device=self.accelerator.device)
        self.optimizer.zero_grad()
        for number in range(1, num_parts + 1):
            # Processes exchange gradients once a step, after the last part.
            with self._gradients_wait(number < num_parts):
                # (n,) to a scalar: a part's share of the mean over the whole batch, so
                # that the gradients of all parts add up to that of the mean.
                loss = next_losses().sum() / num_works
                # The exchange averages over processes; times their number, it sums.
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        # In fp16 the loss was scaled up, so that small gradients do not underflow.
        self.accelerator.unscale_gradients()
        # Of all parameters together, for the log; the recipe clips no gradient.
        grads = [p.grad for p in self.bare.parameters() if p.grad is not None]
        grad_norm = whole(get_total_norm(grads))
        self.optimizer.step()
        self.lr_scheduler.step()  # after the optimiser, which uses this step's rate
        if is_averaged:
            # Made at its first step: earlier weights have no part in the average.
            self.ema = self.ema or self._average()
            self.ema.step(self.bare.parameters())
        # Each process has the share of its own parts.
        total = self.accelerator.reduce(total, "sum")
        loss_value, norm = torch.stack([total, grad_norm.to(total)]).tolist()
        return loss_value, norm

    def _average(self) -> EMAModel:
        """Return a moving average that begins with the present weights.

        Its decay is the one asked for from the second step on. Without `min_decay`,
        diffusers would have it grow as (1 + k) / (10 + k) over k steps, whatever is
        asked for: to 0.90 in 84 steps.
        """
        decay = self.ema_decay
        weights = self.bare.parameters()
        return EMAModel(weights, decay=decay, min_decay=decay, foreach=True)

    def finish(self) -> Any:
        """Return the UNet with averaged weights, as plain diffusers would have it."""
        self.writer.wait()
        if self.ema:
            self.ema.foreach = False  # torch copies no lists of shards
            self.ema.copy_to(self.bare.parameters())
        set_attention(self.bare, "sdpa")
        self.bare._compiled_call_impl = None  # of `compile`, which cannot be undone
        return self.bare.eval()

    def _gradients_wait(self, waits: bool) -> AbstractContextManager:
        if self.is_sharded:
            self.unet.set_requires_gradient_sync(not waits)
            return nullcontext()
        return self.accelerator.no_sync(self.unet) if waits else nullcontext()

    def save(self, folder: Path, step: int, log: list[dict[str, Any]]) -> None:
        """Write a snapshot: everything that the next step depends on.

        Every process calls this, the first one writes, and on a GPU goes on while it
        does. A snapshot is the same however many processes there were, and whether or
        not they held shards.
        """
        if not self.is_sharded and not self.accelerator.is_main_process:
            return
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
        lines = json.dumps(log)  # now, as it grows while this is written
        writers = {
            "unet.safetensors": lambda path: save_file(unet, path),
            "state.pt": lambda path: save_state(state, path),
            "log.json": lambda path: path.write_text(lines),
        }
        self.writer.write(folder, step, writers)

    def load(self, folder: Path) -> tuple[int, list[dict[str, Any]]]:
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
            self.ema = self._average()
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
