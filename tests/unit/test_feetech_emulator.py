"""The emulated servo bus, byte by byte and through the vendor's SDK."""

import os
import select

import pytest

pytest.importorskip("scservo_sdk", reason="feetech-servo-sdk is not installed")

import scservo_sdk as sdk

from robostack.clock import ManualClock
from robostack.hardware.so101 import registers as r
from robostack.hardware.so101.emulated_bus import (
    Emulator,
    Packet,
    checksum,
    split,
    status,
)
from robostack.hardware.so101.emulated_servo import EmulatedServo


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def bus(clock):
    with Emulator([EmulatedServo(1, 2000.0), EmulatedServo(2, 2100.0)], clock) as bus:
        yield bus


@pytest.fixture
def talk(bus):
    """Return a function: bytes to the bus, bytes from it within a moment."""
    slave = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)

    def exchange(*body, wait_s=0.3):
        os.write(slave, b"\xff\xff" + bytes(body) + bytes((checksum(bytes(body)),)))
        got = b""
        while select.select([slave], [], [], wait_s)[0]:
            got += os.read(slave, 1000)
            wait_s = 0.03
        return got

    yield exchange
    os.close(slave)


@pytest.fixture
def port(bus):
    port = sdk.PortHandler(bus.path)
    assert port.openPort()
    yield port
    port.closePort()


def test_ping_is_answered_as_the_manual_has_it(talk):
    assert talk(1, 2, 1) == bytes.fromhex("ffff010200fc")


def test_read_of_the_position_is_answered_as_the_manual_has_it(talk):
    # FF FF 01 04 02 38 02 BE -> FF FF 01 04 00 low high checksum
    assert talk(1, 4, 2, 0x38, 2) == bytes.fromhex("ffff010400d00723")


def test_unknown_id_and_unknown_instruction_are_met_with_silence(talk):
    assert talk(9, 2, 1, wait_s=0.05) == b""
    assert talk(1, 2, 0x77, wait_s=0.05) == b""


def test_a_wrong_checksum_is_met_with_silence_and_the_next_packet_is_heard():
    whole = b"\xff\xff\x01\x02\x01\xfb"
    buffer = bytearray(b"\x00\xff" + whole[:-1] + b"\x00" + whole + whole[:3])
    assert list(split(buffer)) == [Packet(1, 1, b"")]
    assert bytes(buffer) == whole[:3]


def test_status_packets_have_error_bits_and_checksum():
    assert status(1, 0x20, b"\x05") == bytes.fromhex("ffff01032005d6")


def test_sdk_pings_reads_and_writes(bus, port):
    sts = sdk.PacketHandler(0)
    assert sts.ping(port, 1) == (r.MODEL_STS3215, 0, 0)
    assert sts.read2ByteTxRx(port, 2, 56) == (2100, 0, 0)
    assert sts.write2ByteTxRx(port, 2, 48, 700) == (0, 0)
    assert sts.read2ByteTxRx(port, 2, 48) == (700, 0, 0)


def test_sdk_reads_and_writes_groups(bus, port, clock):
    sts = sdk.PacketHandler(0)
    write = sdk.GroupSyncWrite(port, sts, 42, 2)
    assert write.addParam(1, list((2050).to_bytes(2, "little")))
    assert write.addParam(2, list((2150).to_bytes(2, "little")))
    assert write.txPacket() == 0
    assert sts.ping(port, 1)[1] == 0  # the write came before it
    clock.advance(1.0)
    read = sdk.GroupSyncRead(port, sts, 56, 2)
    assert read.addParam(1)
    assert read.addParam(2)
    assert read.txRxPacket() == 0
    assert abs(read.getData(1, 56, 2) - 2050) <= 1
    assert abs(read.getData(2, 56, 2) - 2150) <= 1


def test_reg_write_waits_for_action(bus, talk):
    assert talk(1, 5, 4, 48, 0x20, 0x03) == bytes.fromhex("ffff010200fc")
    assert r.TORQUE_LIMIT.get(bus.servos[0].memory) == 1000
    assert talk(0xFE, 2, 5, wait_s=0.05) == b""
    assert r.TORQUE_LIMIT.get(bus.servos[0].memory) == 800


def test_a_power_cycle_forgets_queued_writes_and_torque(bus, talk):
    servo = bus.servos[0]
    talk(1, 4, 3, 40, 1)
    talk(1, 5, 4, 42, 0, 1)
    assert servo.torque
    bus.power(on=False)
    bus.power(on=True)
    talk(0xFE, 2, 5, wait_s=0.05)
    assert not servo.torque
    assert r.GOAL_POSITION.get(servo.memory) == 0


def test_eeprom_is_kept_only_if_it_was_unlocked():
    servo = EmulatedServo(1, 2000.0)
    servo.write(13, b"\x41")
    servo.power_up()
    assert r.MAX_TEMPERATURE.get(servo.memory) == 70
    servo.write(55, b"\x00")
    servo.write(13, b"\x41")
    servo.power_up()
    assert r.MAX_TEMPERATURE.get(servo.memory) == 65


def test_what_is_measured_cannot_be_written():
    servo = EmulatedServo(1, 2000.0)
    servo.write(56, b"\x00\x00")
    servo.write(3, b"\x00\x00")
    assert servo.read(56, 2) == (2000).to_bytes(2, "little")
    assert r.MODEL.get(servo.memory) == r.MODEL_STS3215


def test_signed_registers_carry_a_sign_bit():
    assert r.PRESENT_VELOCITY.pack(-5) == b"\x05\x80"
    assert r.PRESENT_VELOCITY.get(b"\x05\x80", 58) == -5
    assert r.HOMING_OFFSET.get(r.HOMING_OFFSET.pack(-85), 31) == -85


def test_speed_and_acceleration_registers_bound_the_motion():
    servo = EmulatedServo(1, 1000.0)
    servo.write(41, bytes((10, *r.GOAL_POSITION.pack(3000), 0, 0, 0xF4, 0x01)))
    fastest, before = 0.0, 0.0
    for _ in range(2000):
        servo.advance(0.0025)
        fastest = max(fastest, servo.velocity)
        assert abs(servo.velocity - before) <= 1.5 * 1000 * 0.0025
        before = servo.velocity
    assert fastest == pytest.approx(500, rel=0.02)
    assert servo.position == pytest.approx(3000, abs=1)


def test_a_limp_servo_gives_way_to_its_load_and_a_weak_one_too():
    limp = EmulatedServo(1, 2000.0, 1500.0)
    limp.advance(1.0)
    assert limp.position > 2100
    held = EmulatedServo(1, 2000.0, 1500.0)
    held.write(42, r.GOAL_POSITION.pack(2000))
    held.advance(1.0)
    assert held.position == pytest.approx(2000, abs=2)
    held.write(48, r.TORQUE_LIMIT.pack(10))
    held.advance(1.0)
    assert held.position > 2100


def test_overheating_and_overload_show_in_every_answer(bus, talk):
    bus.servos[0].temperature = 75
    bus.servos[0].stuck_errors = 0x20
    assert talk(1, 2, 1)[4] == 0x24
    assert talk(1, 4, 2, 65, 1)[5] == 0x24


def test_faults_spoil_as_many_answers_as_they_are_told(bus, talk):
    bus.lost = 1
    assert talk(1, 2, 1, wait_s=0.05) == b""
    bus.corrupt = 1
    spoilt = talk(1, 2, 1)
    assert spoilt[-1] != checksum(spoilt[2:-1])
    assert talk(1, 2, 1) == bytes.fromhex("ffff010200fc")
    bus.unplugged = {1}
    assert talk(1, 2, 1, wait_s=0.05) == b""
    assert talk(2, 2, 1) == bytes.fromhex("ffff020200fb")


def test_without_power_nothing_is_heard_nor_kept(bus, talk):
    bus.power(on=False)
    assert talk(1, 5, 3, 48, 1, 1, wait_s=0.05) == b""
    bus.power(on=True)
    assert talk(1, 2, 1) == bytes.fromhex("ffff010200fc")
    assert r.TORQUE_LIMIT.get(bus.servos[0].memory) == 1000


def test_an_adapter_that_replays_delivers_when_power_returns(bus, talk):
    bus.replays = True
    bus.power(on=False)
    assert talk(0xFE, 7, 0x83, 42, 2, 1, 0, 4, wait_s=0.05) == b""
    bus.power(on=True)
    assert talk(1, 2, 1) == bytes.fromhex("ffff010200fc")
    assert r.GOAL_POSITION.get(bus.servos[0].memory) == 1024
