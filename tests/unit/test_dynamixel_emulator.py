"""The emulated Dynamixel bus, byte by byte and through the vendor's SDK."""

import os
import select

import pytest

pytest.importorskip("dynamixel_sdk", reason="dynamixel-sdk is not installed")

import dynamixel_sdk as sdk

from robostack.clock import ManualClock
from robostack.hardware._servo_bus import BusError
from robostack.hardware.dynamixel import protocol as p
from robostack.hardware.dynamixel import registers as r
from robostack.hardware.dynamixel.bus import Bus
from robostack.hardware.dynamixel.emulated_servo import EmulatedServo
from robostack.hardware.dynamixel.emulator import Emulator

# Example packets of ROBOTIS' e-manual, protocol 2.0: two XM430-W210, firmware 38.
MANUAL = {
    "ping": ("fffffd00010300 01 194e", "fffffd00010700 55 00 060426 655d"),
    "ping all": (
        "fffffd00fe0300 01 3142",
        "fffffd00010700 55 00 060426 655d fffffd00020700 55 00 060426 6f6d",
    ),
    "read": (
        "fffffd00010700 02 84000400 1d15",
        "fffffd00010800 55 00 a6000000 8cc0",
    ),
    "write": ("fffffd00010900 03 740000020000 ca89", "fffffd00010400 55 00 a10c"),
    "reg write": ("fffffd00010900 04 6800c8000000 ae8e", "fffffd00010400 55 00 a10c"),
    "reboot": ("fffffd00010300 08 2f4e", "fffffd00010400 55 00 a10c"),
    "factory reset": ("fffffd00010400 06 01 a1e6", "fffffd00010400 55 00 a10c"),
    "sync read": (
        "fffffd00fe0900 82 84000400 0102 cefa",
        "fffffd00010800 55 00 a6000000 8cc0 fffffd00020800 55 00 1f080000 babe",
    ),
    "sync write": ("fffffd00fe1100 83 74000400 0196000000 02aa000000 8287", ""),
    "bulk read": (
        "fffffd00fe0d00 92 0190000200 0292000100 1a05",
        "fffffd00010600 55 00 7700 c369 fffffd00020500 55 00 24 8ba9",
    ),
}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def bus(clock):
    with Emulator([EmulatedServo(1, 166.0), EmulatedServo(2, 2079.0)], clock) as bus:
        yield bus


@pytest.fixture
def talk(bus):
    """Return a function: bytes to the bus, bytes from it within a moment."""
    slave = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)

    def exchange(data, wait_s=0.3):
        os.write(slave, data)
        got = b""
        while select.select([slave], [], [], wait_s)[0]:
            got += os.read(slave, 1000)
            wait_s = 0.03
        return got

    yield exchange
    os.close(slave)


class PatientPort(sdk.PortHandler):
    """The SDK's port, patient with a computer that does other things too."""

    def setPacketTimeout(self, packet_length):
        self.setPacketTimeoutMillis(2000.0)


@pytest.fixture
def port(bus):
    port = PatientPort(bus.path)
    assert port.openPort()
    yield port
    port.closePort()


@pytest.mark.parametrize("example", MANUAL)
def test_packets_are_those_of_the_manual(bus, talk, monkeypatch, example):
    asked, answered = map(bytes.fromhex, MANUAL[example])
    for servo in bus.servos:
        servo.configure(r.FIRMWARE, 38)
    if example == "bulk read":
        bus.servos[1].temperature = 36
        sensed = "robostack.hardware.dynamixel.emulated_servo.NOMINAL_VOLTAGE"
        monkeypatch.setattr(sensed, 119)
    assert talk(asked, 0.3 if answered else 0.05) == answered
    if example == "sync write":
        goals = [r.GOAL_POSITION.get(servo.memory) for servo in bus.servos]
        assert goals == [150, 170]


def test_action_does_what_waits_as_the_manual_has_it(bus, talk):
    talk(bytes.fromhex("fffffd00010900 04 6800c8000000 ae8e"))
    memory = bus.servos[0].memory
    assert (r.GOAL_VELOCITY.get(memory), r.REGISTERED.get(memory)) == (0, 1)
    answer = talk(bytes.fromhex("fffffd00010300 05 02ce"))
    assert answer == bytes.fromhex("fffffd00010400 55 00 a10c")
    assert (r.GOAL_VELOCITY.get(memory), r.REGISTERED.get(memory)) == (200, 0)
    assert talk(bytes.fromhex("fffffd00010300 05 02ce"))[8] == 2  # nothing waits


def test_a_wrong_crc_and_unknown_ids_are_met_with_silence(talk):
    ping = bytes.fromhex(MANUAL["ping"][0])
    assert talk(ping[:-1] + b"\x4f", 0.05) == b""
    assert talk(p.pack(9, b"\x01"), 0.05) == b""
    assert len(talk(b"\xff\xff" + ping)) == 14


def test_headers_within_a_packet_are_stuffed_and_come_out_again():
    body = b"\x03\x74\x00\xff\xff\xfd\xff\xff\xfd\xfd\xff"
    packet = p.pack(1, body)
    assert packet.count(p.HEADER) == 1
    assert packet[5:7] == bytes((len(body) + 2 + 2, 0))
    buffer = bytearray(b"\xff\xff\xfd" + packet + packet[:4])
    assert list(p.split(buffer)) == [p.Packet(1, 3, body[1:])]
    assert bytes(buffer) == packet[:4]


def test_our_bus_stuffs_what_the_sdk_would_send_bare(bus):
    line = Bus(bus.path, 1_000_000, {})
    value = int.from_bytes(b"\xff\xff\xfd\x00", "little")
    line.write(1, r.VELOCITY_LIMIT, value)
    assert r.VELOCITY_LIMIT.get(bus.servos[0].memory) == value
    (answer,) = line.read([1], r.VELOCITY_LIMIT.address, 4)
    assert answer.data == b"\xff\xff\xfd\x00"
    line.close()


def test_sdk_pings_reads_and_writes(bus, port):
    handler = sdk.PacketHandler(2.0)
    assert handler.ping(port, 1) == (1030, 0, 0)
    assert handler.read4ByteTxRx(port, 2, 132) == (2079, 0, 0)
    assert handler.write2ByteTxRx(port, 2, 100, 700) == (0, 0)
    assert handler.read2ByteTxRx(port, 2, 100) == (700, 0, 0)
    assert handler.reboot(port, 2) == (0, 0)
    assert handler.read2ByteTxRx(port, 2, 100) == (885, 0, 0)


def test_sdk_reads_and_writes_groups(bus, port, clock):
    handler = sdk.PacketHandler(2.0)
    for servo in (1, 2):
        assert handler.write1ByteTxRx(port, servo, 64, 1) == (0, 0)
    write = sdk.GroupSyncWrite(port, handler, 116, 4)
    assert write.addParam(1, list((200).to_bytes(4, "little")))
    assert write.addParam(2, list((2150).to_bytes(4, "little")))
    assert write.txPacket() == 0
    assert handler.ping(port, 1)[1] == 0  # the write came before it
    clock.advance(1.0)
    read = sdk.GroupSyncRead(port, handler, 132, 4)
    assert read.addParam(1)
    assert read.addParam(2)
    assert read.txRxPacket() == 0
    assert abs(read.getData(1, 132, 4) - 200) <= 1
    assert abs(read.getData(2, 132, 4) - 2150) <= 1


def test_sdk_writes_and_reads_in_bulk(port):
    handler = sdk.PacketHandler(2.0)
    write = sdk.GroupBulkWrite(port, handler)
    assert write.addParam(1, 100, 2, [100, 0])
    assert write.addParam(2, 98, 1, [25])
    assert write.txPacket() == 0
    read = sdk.GroupBulkRead(port, handler)
    assert read.addParam(1, 100, 2)
    assert read.addParam(2, 98, 1)
    assert read.txRxPacket() == 0
    assert (read.getData(1, 100, 2), read.getData(2, 98, 1)) == (100, 25)


@pytest.mark.parametrize(
    ("address", "data", "error"),
    [
        (0, b"\x00\x00", 7),  # a model number cannot be written
        (132, b"\x00\x00\x00\x00", 7),
        (64, b"\x02", 4),
        (98, b"\x80", 4),
        (116, b"\x00\x02", 5),
        (116, b"\x00\x20\x00\x00", 6),
        (100, b"\x76\x03", 6),  # 886
        (200, b"\x00", 7),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_number(address, data, error):
    servo = EmulatedServo(1, 2000.0)
    before = bytes(servo.memory)
    assert servo.write(address, data) == error
    assert bytes(servo.memory) == before


def test_torque_locks_the_eeprom_and_the_eeprom_survives_power():
    servo = EmulatedServo(1, 2000.0)
    assert servo.write(31, b"\x46") == 0
    assert servo.write(64, b"\x01") == 0
    assert servo.write(31, b"\x50") == 7
    servo.power_up()
    assert r.MAX_TEMPERATURE.get(servo.memory) == 0x46
    assert not servo.torque


def test_factory_reset_of_all_at_once_is_not_obeyed(bus, talk):
    bus.servos[0].configure(r.MAX_TEMPERATURE, 60)
    assert talk(p.pack(0xFE, b"\x06\xff"), 0.05) == b""
    assert [servo.id for servo in bus.servos] == [1, 2]
    assert talk(p.pack(2, b"\x06\x01"))[8] == 0
    assert [servo.id for servo in bus.servos] == [1, 2]
    assert r.MAX_TEMPERATURE.get(bus.servos[0].memory) == 60


def test_the_bus_watchdog_stops_a_silent_servo_and_refuses_goals_until_cleared():
    servo = EmulatedServo(1, 1000.0)
    servo.write(98, b"\x05")  # 100 ms
    servo.advance(1.0)
    assert not servo.tripped  # no torque: nothing to watch
    servo.write(112, b"\x64\x00\x00\x00" + r.GOAL_POSITION.pack(3000))
    servo.write(64, b"\x01")
    servo.hear()
    servo.advance(0.0975)
    assert not servo.tripped
    servo.advance(0.005)
    assert servo.tripped
    assert servo.torque
    servo.advance(1.0)
    at = servo.position
    assert 1000 < at < 1500
    servo.advance(1.0)
    assert servo.position == pytest.approx(at, abs=1)
    assert servo.write(116, r.GOAL_POSITION.pack(1200)) == 4
    assert servo.write(98, b"\x00") == 0
    assert servo.write(116, r.GOAL_POSITION.pack(1200)) == 0


def test_only_what_is_meant_for_a_servo_feeds_its_watchdog(bus, talk, clock):
    for number in (1, 2):
        talk(p.pack(number, b"\x03\x62\x00\x05"))
        talk(p.pack(number, b"\x03\x40\x00\x01"))
    for _ in range(3):
        clock.advance(0.06)
        talk(p.pack(1, b"\x01"))
    assert [servo.tripped for servo in bus.servos] == [False, True]
    bus.servos[1].write(98, b"\x05")
    assert not bus.servos[1].tripped


def test_profile_registers_bound_the_motion():
    servo = EmulatedServo(1, 1000.0)
    servo.write(108, r.PROFILE_ACCELERATION.pack(10) + r.PROFILE_VELOCITY.pack(50))
    servo.write(116, r.GOAL_POSITION.pack(3000))
    servo.write(64, b"\x01")
    fastest = 0.0
    for _ in range(2000):
        servo.advance(0.0025)
        fastest = max(fastest, servo.velocity)
    assert fastest == pytest.approx(50 * 0.229 / 60 * 4096, rel=0.02)
    assert servo.position == pytest.approx(3000, abs=1)


def test_hardware_errors_latch_take_the_torque_and_show_in_every_answer(bus, talk):
    bus.servos[0].write(64, b"\x01")
    bus.servos[0].temperature = 85
    ping = bytes.fromhex(MANUAL["ping"][0])
    talk(p.pack(1, b"\x02\x92\x00\x01\x00"))
    assert talk(ping)[8] == 0x80
    bus.servos[0].temperature = 40
    assert talk(ping)[8] == 0x80
    assert not bus.servos[0].torque
    assert talk(p.pack(1, b"\x03\x40\x00\x01"))[8] == 0x81
    talk(p.pack(1, b"\x08"))
    assert talk(ping)[8] == 0
    assert talk(p.pack(1, b"\x03\x40\x00\x01"))[8] == 0


def test_status_return_level_silences_writes_then_reads_but_never_pings(talk):
    talk(p.pack(1, b"\x03\x44\x00\x01"))
    assert talk(p.pack(1, b"\x03\x44\x00\x01"), 0.05) == b""
    assert len(talk(p.pack(1, b"\x02\x84\x00\x04\x00"))) == 15
    talk(p.pack(1, b"\x03\x44\x00\x00"), 0.05)
    assert talk(p.pack(1, b"\x02\x84\x00\x04\x00"), 0.05) == b""
    assert len(talk(p.pack(1, b"\x01"))) == 14


def test_a_power_cycle_forgets_queued_writes_and_torque(bus, talk):
    servo = bus.servos[0]
    servo.write(64, b"\x01")
    talk(p.pack(1, b"\x04\x74\x00\x00\x01\x00\x00"))
    bus.power(on=False)
    assert talk(p.pack(1, b"\x01"), 0.05) == b""
    bus.power(on=True)
    assert talk(p.pack(1, b"\x05"))[8] == 2
    assert not servo.torque
    assert r.GOAL_POSITION.get(servo.memory) == 166


def test_faults_spoil_as_many_answers_as_they_are_told(bus, talk):
    ping, answer = map(bytes.fromhex, MANUAL["ping"])
    bus.servos[0].configure(r.FIRMWARE, 38)
    bus.lost = 1
    assert talk(ping, 0.05) == b""
    bus.corrupt = 1
    assert talk(ping)[:-1] == answer[:-1]
    assert talk(ping) == answer
    bus.unplugged = {1}
    assert talk(ping, 0.05) == b""


def test_refusals_are_told_by_name(bus):
    line = Bus(bus.path, 1_000_000, {2: "elbow"})
    with pytest.raises(BusError, match=r"elbow .id 2. refused 200 at address 98"):
        line.write(2, r.BUS_WATCHDOG, 200)
    line.close()
