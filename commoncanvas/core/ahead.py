"""Work done ahead by threads: pictures are decoded while the device computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num: int = 64
) -> Iterator[Result]:
    """Yield function(item) of each item, in their order, at most `num` ahead.

    There are as many threads as torch has in this process. Decoding a picture holds no
    lock for most of its time. What `function` raises comes at the item's turn.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= num:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
