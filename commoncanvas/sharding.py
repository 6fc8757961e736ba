"""A UNet in shards: each process holds a part of weights, gradients and averages.

For models that do not fit one device beside their optimiser, by torch's second fully
sharded data parallel (`fully_shard`). Source: commoncanvas-cvpr, §5.1 (FSDP).
"""

import torch
import torch.distributed as dist
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from commoncanvas.errors import ParameterError

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
