"""Frames that no decent host sends: blast.py DEVICE ROUTER-MAC KIND SECONDS [COUNT RATE REMOTE|ADDRESS [SOURCE]].

KIND is `odd` (short, long, tagged, with lying lengths, PAUSE; as fast as they go), `flows` (COUNT SYNs of as many new
flows to REMOTE, RATE a second) or `ports` (COUNT datagrams, one to each UDP port of ADDRESS from 0 on, RATE a second, from
SOURCE, an address that nobody has). Prints how many frames went out; of `ports` also how many frames came back.
"""
import random
import socket
import struct
import subprocess
import sys
import time

device, mac, kind, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
router = bytes.fromhex(mac.replace(":", ""))
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
line.bind((device, 0))
own = line.getsockname()[4]
chance = random.Random(1)


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ip(source, destination, protocol, payload, length=None):
    length = 20 + len(payload) if length is None else length
    head = struct.pack("!BBHHHBBH", 0x45, 0, length, chance.randrange(65536), 0, 64, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ether(kind, payload, to=router):
    return to + own + struct.pack("!H", kind) + payload


def any_bytes(count):
    return chance.getrandbits(8 * count).to_bytes(count, "big") if count else b""


def odd_frames():
    """A few hundred frames of every kind, to be sent again and again."""
    broadcast = b"\xff" * 6
    frames = []
    for _ in range(64):
        udp = struct.pack("!HHHH", chance.randrange(65536), chance.randrange(65536), 26, 0) + any_bytes(18)
        frames.append(ether(0x0800, ip("192.0.2.1", "192.168.1.1", 17, udp)))
        # A packet that ends before its own length, one whose header does, and none at all.
        frames.append(ether(0x0800, ip("192.0.2.1", "192.168.1.1", 17, udp, chance.randrange(65536))))
        frames.append(ether(0x0800, any_bytes(46)))
        frames.append(ether(0x0806, any_bytes(chance.randrange(46)), broadcast))
        # Runts.
        frames.append(ether(chance.choice([0x0800, 0x0806, 0x8100]), any_bytes(chance.randrange(46))))
        # Giants; a device may take no more than it was told.
        frames.append(ether(0x0800, ip("192.0.2.1", "192.168.1.1", 17, any_bytes(chance.randrange(1481, 8900)))))
        # Tags: one, two, without anything behind.
        tag = struct.pack("!HH", chance.randrange(65536), 0x0800)
        frames.append(ether(0x8100, tag + ip("192.0.2.1", "192.168.1.1", 17, udp)))
        frames.append(ether(0x88A8, tag[:2] + b"\x81\0" + tag + any_bytes(40)))
        frames.append(ether(0x8100, b""))
        # 802.3: a length that is not the frame's, with LLC and SNAP behind.
        frames.append(ether(chance.randrange(1536), b"\xaa\xaa\x03\0\0\0\x08\0" + any_bytes(chance.randrange(60))))
        frames.append(ether(chance.randrange(1536), any_bytes(chance.randrange(1500))))
        # PAUSE, for as long as can be said.
        frames.append(ether(0x8808, b"\0\x01\xff\xff" + bytes(42), bytes.fromhex("0180c2000001")))
    chance.shuffle(frames)
    return frames


def send(frame):
    try:
        line.send(frame)
        return 1
    except OSError:
        # The queue is full: the line is slower than this program.
        time.sleep(0.0002)
        return 0


def odd():
    subprocess.run(["ip", "link", "set", device, "mtu", "9000"], check=True)
    sent, end, frames = 0, time.monotonic() + seconds, odd_frames()
    while time.monotonic() < end:
        for frame in frames:
            sent += send(frame)
    subprocess.run(["ip", "link", "set", device, "mtu", "1500"], check=True)
    return sent


def flows():
    count, rate, remote = int(sys.argv[5]), int(sys.argv[6]), sys.argv[7]
    route = subprocess.run(["ip", "-o", "route", "get", remote], check=True, capture_output=True, text=True).stdout
    source = route.split(" src ")[1].split()[0]
    pseudo = socket.inet_aton(source) + socket.inet_aton(remote) + struct.pack("!BBH", 0, 6, 20)
    sent, start = 0, time.monotonic()
    while sent < count and time.monotonic() < start + seconds:
        due = min(count, int((time.monotonic() - start) * rate))
        while sent < due:
            ports = (1024 + sent % 60000, 1 + sent // 60000)
            tcp = struct.pack("!HHIIBBHHH", *ports, chance.getrandbits(32), 0, 0x50, 2, 64240, 0, 0)
            tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
            sent += send(ether(0x0800, ip(source, remote, 6, tcp)))
        time.sleep(0.001)
    return sent


def ports():
    count, rate, target, source = int(sys.argv[5]), int(sys.argv[6]), sys.argv[7], sys.argv[8]
    # Whatever the router sends to the source: an answer by UDP, an ICMP error, or a question for its MAC address.
    ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ears.bind((device, 0))
    ears.setblocking(False)
    wanted, heard = socket.inet_aton(source), 0

    def listen():
        nonlocal heard
        while True:
            try:
                frame, place = ears.recvfrom(2048)
            except BlockingIOError:
                return
            # Not what this program sends itself.
            if place[2] != socket.PACKET_OUTGOING and frame[6:12] == router and wanted in frame[14:]:
                heard += 1

    sent, start = 0, time.monotonic()
    while sent < count and time.monotonic() < start + seconds:
        due = min(count, int((time.monotonic() - start) * rate))
        while sent < due:
            udp = struct.pack("!HHHH", 40000 + sent % 20000, sent, 26, 0) + any_bytes(18)
            sent += send(ether(0x0800, ip(source, target, 17, udp)))
        listen()
        time.sleep(0.001)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        listen()
        time.sleep(0.01)
    return f"{sent} {heard}"


print({"odd": odd, "flows": flows, "ports": ports}[kind]())
