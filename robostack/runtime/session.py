"""A bundle made ready to act: provider chosen, self-tested, warm, buffers bound.

Inputs and outputs of the graph are bound once to arrays that stay; one step copies the
reading in, runs the graph, and copies the action out. Noise stays 0 until a sample is
asked for.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import onnxruntime as ort

from robostack import bundle
from robostack.bundle import Bundle, BundleError
from robostack.spec import Array, float32

from .providers import Provider, choose

_WARM_UP_RUNS = 50
_TIMED_RUNS = 100
_CUDA_TOLERANCE = 1e-4  # other summation orders than the trainer's CPU


class SelfTest(NamedTuple):
    """What a session found out about itself before it may move anything."""

    provider: str
    golden: int  # vectors replayed
    error: float  # largest difference from the trainer's own outputs
    seconds: float  # for all of it
    inference_s: float  # median of one inference


class Session:
    """Runs one bundle, one reading at a time; keeps history and recurrent state."""

    def __init__(self, policy: Bundle, provider: Provider = "auto") -> None:
        """Choose a provider, bind the buffers, warm up, and pass the self-test.

        Raises:
            BundleError: the outputs are not those the trainer recorded.
            ProviderError: the provider asked for is not there.
        """
        start = time.perf_counter()
        self.policy = policy
        self._robot = policy.manifest.robot
        self._session = choose(policy.model, provider, self._seconds)
        self._bind(self._session)
        self.reset()
        self.self_test = self._test_itself(start)

    def reset(self) -> None:
        """Forget history and recurrent state: a new episode begins."""
        for name in self.policy.manifest.state:
            self._inputs[f"state.{name}"][:] = 0.0
        self._fresh = True

    @property
    def remembers(self) -> bool:
        """Whether what it answers depends on readings before the newest."""
        manifest = self.policy.manifest
        return manifest.history > 1 or bool(manifest.state)

    def act(
        self, arrays: dict[str, Array], rng: np.random.Generator | None = None
    ) -> Array:
        """Return the action (A,) for a reading, the first of a chunk; see `infer`."""
        action: Array = self.infer(arrays, rng)[0]
        return action

    def infer(
        self, arrays: dict[str, Array], rng: np.random.Generator | None = None
    ) -> Array:
        """Return the actions (H, A) from a reading on; a sample if `rng` is given.

        Raises:
            BundleError: an array is missing, misshapen, or an action is not finite.
        """
        self._take(arrays)
        if rng is not None:
            rng.standard_normal(dtype=np.float32, out=self._noise)
        self._run()
        if rng is not None:
            self._noise.fill(0.0)
        actions: Array = self._action.copy()
        if not np.isfinite(actions).all():
            raise BundleError(f"{self.policy.path} gave an action that is not finite")
        return actions

    def observe(self, arrays: dict[str, Array]) -> None:
        """Remember a reading that is not answered.

        History has every reading. Recurrent state has every reading where the policy
        gives one action for each; with chunks it advances once an inference.
        """
        manifest = self.policy.manifest
        if not self.remembers:
            return
        self._take(arrays)
        if manifest.state and manifest.chunk == 1:
            self._run()
        elif self._windows:
            self._shift()

    def _take(self, arrays: dict[str, Array]) -> None:
        """Copy a reading to where the graph reads it."""
        try:
            for name, view in self._views:
                array = arrays[name]
                if array.shape != view.shape:  # numpy would broadcast (1,) silently
                    raise self._misfit(arrays)
                view[...] = array
        except (KeyError, ValueError) as error:
            raise self._misfit(arrays) from error

    def _run(self) -> None:
        if self._windows:
            self._shift()
        self._session.run_with_iobinding(self._binding)
        for name in self.policy.manifest.state:
            self._inputs[f"state.{name}"][:] = self._outputs[f"next_state.{name}"]

    def _shift(self) -> None:
        for newest, window in self._windows:
            if self._fresh:
                window[:] = newest
            else:
                window[:-1] = window[1:]
                window[-1] = newest
        self._fresh = False

    def _bind(self, session: ort.InferenceSession) -> None:
        manifest = self.policy.manifest
        inputs, outputs = (
            {name: np.zeros((1, *shape), np.float32) for name, shape in shapes.items()}
            for shapes in (
                bundle.expected_inputs(manifest),
                bundle.expected_outputs(manifest),
            )
        )
        self._inputs, self._outputs = inputs, outputs
        self._binding = bind(session, inputs, outputs)
        shape = (manifest.chunk, self._robot.action.size)
        self._action = outputs["action"].reshape(shape)
        self._noise = inputs.get(bundle.NOISE, np.empty(0, np.float32))
        names = self._robot.observation
        if manifest.history == 1:
            self._views = [(name, inputs[name][0]) for name in names]
            self._windows: list[tuple[Array, Array]] = []
        else:
            newest = {name: np.zeros(a.size, np.float32) for name, a in names.items()}
            self._views = list(newest.items())
            self._windows = [(newest[name], inputs[name][0]) for name in names]

    def _seconds(self, session: ort.InferenceSession) -> float:
        self._bind(session)
        times = []
        for _ in range(_WARM_UP_RUNS + _TIMED_RUNS):
            start = time.perf_counter()
            session.run_with_iobinding(self._binding)
            times.append(time.perf_counter() - start)
        return float(np.median(times[_WARM_UP_RUNS:]))

    def _test_itself(self, start: float) -> SelfTest:
        inference_s = self._seconds(self._session)
        golden = self.policy.manifest.golden
        inputs = bundle.golden_inputs(self.policy.manifest)
        provider = self._session.get_providers()[0]
        on_cpu = provider == "CPUExecutionProvider"
        tolerance = (
            golden.tolerance if on_cpu else max(golden.tolerance, _CUDA_TOLERANCE)
        )
        error = 0.0
        for i, action in enumerate(golden.action):
            for name, array in inputs.items():
                self._inputs[name][0] = array[i]
            self._session.run_with_iobinding(self._binding)
            error = max(error, _distance(self._action, action))
        self._noise.fill(0.0)
        self.reset()
        if not error <= tolerance:
            raise BundleError(
                f"{self.policy.path} failed its self-test: its golden vectors are off "
                f"by {error:.3g} on {provider}, expected at most {tolerance:.3g}"
            )
        seconds = time.perf_counter() - start
        return SelfTest(provider, len(golden.action), error, seconds, inference_s)

    def _misfit(self, arrays: dict[str, Array]) -> BundleError:
        expected = {k: a.size for k, a in self._robot.observation.items()}
        found = {k: np.shape(a) for k, a in arrays.items()}
        return BundleError(f"expected the arrays {expected}, got {found}")


def _distance(found: Array, golden: list[float]) -> float:
    """Return the largest difference of (H, A) from its elements end to end."""
    return float(np.abs(found - float32(golden).reshape(found.shape)).max())


def bind(
    session: ort.InferenceSession, inputs: dict[str, Array], outputs: dict[str, Array]
) -> ort.IOBinding:
    """Bind arrays to a session by name; running it then reads and writes them."""
    binding = session.io_binding()
    for add, arrays in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
        for name, array in arrays.items():
            pointer = array.ctypes.data
            add(name, "cpu", 0, np.float32, array.shape, pointer)
    return binding


class Batched:
    """Runs a graph on whole batches, on the CPU: for proofs, not for robots."""

    def __init__(self, model: bytes) -> None:
        self._session = choose(model, "cpu", lambda _: 0.0)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """Return every output (B, ...) for inputs (B, ...)."""
        outputs = self._session.run(self._names, arrays)
        return {k: float32(v) for k, v in zip(self._names, outputs, strict=True)}
