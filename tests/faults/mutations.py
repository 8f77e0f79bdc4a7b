"""What could be taken away from the node, and the tests that have to notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutation(NamedTuple):
    """One piece of source replaced by another."""

    name: str
    promise: str  # of the node, P1 to P12
    file: str  # from the repository's root
    old: str  # occurs once in it
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "watchdog off",
        "P4",
        "robostack/safety.py",
        "        return now >= self.deadline\n",
        "        return False\n",
        ("tests/unit/test_node_supervisor.py", "tests/unit/test_safety.py"),
    ),
    Mutation(
        "latch off",
        "P6",
        "robostack/safety.py",
        '    "fault": frozenset({"estop"}),',
        '    "fault": frozenset({"estop", "arming", "hold"}),',
        ("tests/unit/test_node_commands.py", "tests/unit/test_safety.py"),
    ),
    Mutation(
        "unsigned bundle accepted",
        "P11",
        "robostack/node/service.py",
        "if (sentence := _distrusted(",
        "if False and (sentence := _distrusted(",
        ("tests/unit/test_signing.py",),
    ),
    Mutation(
        "any signature is good",
        "P11",
        "robostack/signing.py",
        "except InvalidSignature:\n        return False",
        "except InvalidSignature:\n        return True",
        ("tests/unit/test_signing.py",),
    ),
    Mutation(
        "an allow-list that others can change",
        "P11",
        "robostack/link/keys.py",
        "if mode & 0o022:",
        "if mode & 0o000:",
        ("tests/unit/test_keys.py",),
    ),
    Mutation(
        "a secret that others can read",
        "P11",
        "robostack/link/keys.py",
        "if mode & 0o077:",
        "if mode & 0o000:",
        ("tests/unit/test_link.py",),
    ),
    Mutation(
        "replayed command accepted",
        "P7",
        "robostack/node/pilot.py",
        '            return "replayed"',
        "            pass",
        ("tests/faults/test_proxy.py",),
    ),
    Mutation(
        "stale command accepted",
        "P3",
        "robostack/node/pilot.py",
        '            return "stale"',
        "            pass",
        ("tests/faults/test_proxy.py",),
    ),
    Mutation(
        "text that is no UTF-8 ends the node",
        "P11",
        "robostack/messages.py",
        "UnicodeDecodeError, RecursionError)",
        "RecursionError)",
        ("tests/faults/test_attacks.py",),
    ),
    Mutation(
        "servos without their own watchdog",
        "P8",
        "hardware/dynamixel/driver.py",
        "bus.write(servo, r.BUS_WATCHDOG, self._chain.watchdog)",
        "pass",
        ("tests/unit/test_dynamixel_driver.py",),
    ),
    Mutation(
        "lost torque unnoticed",
        "P8",
        "hardware/dynamixel/state.py",
        "if not state.torque[i]:",
        "if False:",
        ("tests/unit/test_dynamixel_driver.py",),
    ),
    Mutation(
        "servo error bits unnoticed",
        "P6",
        "hardware/dynamixel/state.py",
        "        if bits:",
        "        if False:",
        ("tests/unit/test_dynamixel_driver.py",),
    ),
    Mutation(
        "a hot servo unnoticed",
        "P6",
        "hardware/dynamixel/state.py",
        "if degrees >= hottest_c:",
        "if False:",
        ("tests/unit/test_dynamixel_driver.py",),
    ),
    Mutation(
        "goals beyond the joint's limits",
        "P5",
        "hardware/dynamixel/chain.py",
        "return np.clip(raw, low, high).astype(np.int64)",
        "return raw.astype(np.int64)",
        ("tests/unit/test_dynamixel_driver.py",),
    ),
    Mutation(
        "a frozen camera unnoticed",
        "P9",
        "hardware/_camera.py",
        "same = last is not None and np.array_equal(image, last.image)",
        "same = False",
        ("tests/unit/test_hardware_cameras.py",),
    ),
    Mutation(
        "an old frame passed on",
        "P9",
        "hardware/_camera.py",
        "if age_s > most_s:",
        "if False:",
        ("tests/unit/test_hardware_cameras.py",),
    ),
    Mutation(
        "a chunk entered at its beginning",
        "P2",
        "robostack/runtime/chunks.py",
        "self._chunk.actions[seq - self._chunk.seq]",
        "self._chunk.actions[0]",
        ("tests/unit/test_runtime_chunks.py",),
    ),
    Mutation(
        "permutation the wrong way round",
        "P2",
        "robostack/runtime/permute.py",
        "actions=order(theirs.action.names, mine.action.names)",
        "actions=order(mine.action.names, theirs.action.names)",
        ("tests/integration/test_permutation.py",),
    ),
    Mutation(
        "NaN check off",
        "P5",
        "robostack/safety.py",
        '        if bad:\n            raise CommandError("not_finite"',
        '        if False:\n            raise CommandError("not_finite"',
        ("tests/unit/test_safety.py", "tests/unit/test_node_commands.py"),
    ),
    Mutation(
        "SAFE never reached",
        "P4",
        "robostack/node/supervisor.py",
        'elif state == "hold" and self._safe.expired(now):',
        "elif False:",
        ("tests/unit/test_node_supervisor.py",),
    ),
    Mutation(
        "generation not bumped",
        "P7",
        "robostack/safety.py",
        "            self.generation += 1",
        "            self.generation += 0",
        ("tests/unit/test_safety.py",),
    ),
)
