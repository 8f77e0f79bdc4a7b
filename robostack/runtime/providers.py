"""Which ONNX Runtime provider runs a graph: found by asking, chosen by measuring.

`onnxruntime.get_available_providers()` lists what the wheel was built with, not what
works; and a session that cannot have CUDA silently falls back. So a session is made,
asked what it really runs on, and timed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal

import onnxruntime as ort

Provider = Literal["auto", "cpu", "cuda"]
_NAMES = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_LOG = logging.getLogger(__name__)


class ProviderError(RuntimeError):
    """A provider was asked for that this machine does not have."""


def make_session(
    model: bytes, provider: Literal["cpu", "cuda"]
) -> ort.InferenceSession:
    """Return a session that really runs on `provider`.

    Raises:
        ProviderError: it would have run on something else.
    """
    wanted = _NAMES[provider]
    if wanted not in ort.get_available_providers():
        raise ProviderError(
            f"expected an ONNX Runtime with {wanted}, got one with "
            f"{', '.join(ort.get_available_providers())}: install robostack[gpu] in "
            "place of robostack[cpu], or ask for --provider auto"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # a small graph gains nothing; a robot loses p99
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    settings = {"use_tf32": "0"} if provider == "cuda" else {}
    session = ort.InferenceSession(model, options, providers=[(wanted, settings)])
    actual = session.get_providers()[0]
    if actual != wanted:
        raise ProviderError(
            f"asked for {wanted}, got {actual}: its CUDA or cuDNN libraries could not "
            "be loaded (ONNX Runtime 1.31 needs CUDA 13 and cuDNN 9); install them, or "
            "ask for --provider auto"
        )
    return session


def has_gpu() -> bool:
    """Return whether ONNX Runtime sees a GPU device, not merely a GPU build."""
    devices: list[ort.OrtEpDevice] = getattr(ort, "get_ep_devices", list)()
    return any("CUDA" in device.ep_name for device in devices)


def choose(
    model: bytes, provider: Provider, seconds: Callable[[ort.InferenceSession], float]
) -> ort.InferenceSession:
    """Return a session on `provider`; for "auto", on the one with fewer `seconds`."""
    if provider != "auto":
        return make_session(model, provider)
    cpu = make_session(model, "cpu")
    if not has_gpu():
        return cpu
    try:
        cuda = make_session(model, "cuda")
    except ProviderError as error:
        _LOG.warning("there is a GPU, but %s", error)
        return cpu
    timings = {"cpu": seconds(cpu), "cuda": seconds(cuda)}
    _LOG.info("seconds per inference: %s", timings)
    return cpu if timings["cpu"] <= timings["cuda"] else cuda
