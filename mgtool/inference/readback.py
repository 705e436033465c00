"""Tokens on their way from the device, so that the next step is begun before they are looked at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Readback:
    """(R,) int64 tokens that are copied to the host while the device goes on.

    Args:
        tokens: as they are once the device has done what it was told so far.
    """

    def __init__(self, tokens: Tensor) -> None:
        self._tokens = tokens
        self._arrived: Any = None
        if tokens.is_cuda:
            self._tokens = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._tokens.copy_(tokens, non_blocking=True)
            self._arrived = torch.cuda.current_stream().record_event()

    def read(self) -> list[int]:
        """The tokens; waits for them, and for nothing that was begun later."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tokens.tolist()
