"""ONNX files run by onnxruntime, on the processors that this process may use."""

from __future__ import annotations

import os
from typing import Any

import onnxruntime

from mgtool.errors import UsageError


def open_session(weights: bytes, device: str) -> Any:
    """An inference session.

    Args:
        weights: an ONNX file's bytes.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        UsageError: a device that this onnxruntime cannot use.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    options.log_severity_level = 3
    here = onnxruntime.get_available_providers()
    if device.startswith("cuda") and "CUDAExecutionProvider" not in here:
        raise UsageError(f"--device {device}: this onnxruntime knows only the CPU; pip install onnxruntime-gpu")
    wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return onnxruntime.InferenceSession(weights, options, providers=[name for name in wanted if name in here])
