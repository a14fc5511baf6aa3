"""An HTTP origin with manners: the first part of a path says how to behave.

    origin.py ADDRESS PORT DIRECTORY RECORD

Serves the files of DIRECTORY as /MANNER/NAME, and writes all bytes that each connection receives to
RECORD/NUMBER-ADDRESS, so that a test can compare what was sent with what arrived. Nothing in its answers depends on
time.
"""

import base64
import hashlib
import os
import re
import socket
import sys
import threading
import time

ADDRESS, PORT, DIRECTORY, RECORD = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
MANNERS = {
    "honest",  # ranges, strong validators, conditions
    "no-range",  # announces ranges, always answers with the whole
    "none",  # announces that it has no ranges
    "other-total",  # the total in Content-Range is one too large
    "shifted",  # answers with the range one byte later than asked
    "weak",  # a weak entity tag only
    "changing",  # another entity tag and other bytes for every request
    "head-405",  # knows no HEAD
    "head-hangs",  # never answers a HEAD
    "head-longer",  # HEAD announces one byte more than GET gives
    "early-close",  # a range's answer ends in its middle, always
    "early-close-twice",  # the first two answers to ranges of a file do so
    "chunked",  # no length
    "garbage",  # a HEAD gets no HTTP
}
lock = threading.Lock()
connections = 0
requests = 0
answers = {}


def answer(status, fields, body=b"", close=False):
    fields = dict(fields)
    fields.setdefault("Content-Length", str(len(body)))
    fields = {name: value for name, value in fields.items() if value is not None}
    fields["Connection"] = "close" if close else "keep-alive"
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def serve_file(manner, name, method, fields, number, close):
    """The bytes of an answer, and whether the connection ends behind them."""
    path = os.path.join(DIRECTORY, os.path.basename(name))
    if manner not in MANNERS or not os.path.isfile(path):
        return answer("404 Not Found", {}, b"" if method == "HEAD" else b"no such file\n", close), close
    with open(path, "rb") as file:
        body = file.read()
    tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
    if manner == "changing":
        # The client of a test sees at every 64 KiB which version a byte is of.
        body = bytearray(body)
        body[::65536] = bytes([number & 255]) * len(body[::65536])
        body = bytes(body)
        tag = f'"version-{number}"'
    about = {
        "Date": "Sun, 01 Nov 2026 12:00:00 GMT",
        "Last-Modified": "Thu, 01 Oct 2026 12:00:00 GMT",
        "ETag": tag,
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
    }
    if manner == "weak":
        about["ETag"] = "W/" + tag
        del about["Last-Modified"]
    if manner == "none":
        about["Accept-Ranges"] = "none"
    if method == "HEAD":
        if manner == "head-405":
            return answer("405 Method Not Allowed", {"Allow": "GET"}, b"", close), close
        if manner == "head-hangs":
            time.sleep(60)
            return b"", True
        if manner == "garbage":
            return b"\x00\xff\x13\x37" * 64, True
        length = None if manner == "chunked" else str(len(body) + (manner == "head-longer"))
        return answer("200 OK", about | {"Content-Length": length}, b"", close), close
    if fields.get("if-none-match") == about["ETag"]:
        return answer("304 Not Modified", about | {"Content-Length": None}, b"", close), close
    if manner == "chunked":
        head = answer("200 OK", about | {"Content-Length": None, "Transfer-Encoding": "chunked"}, b"", close)
        pieces = [body[at : at + 10000] for at in range(0, len(body), 10000)] + [b""]
        return head + b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in pieces), close
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", fields.get("range", ""))
    condition = fields.get("if-range", about["ETag"])
    ranged = match and condition in (about["ETag"], about.get("Last-Modified")) and manner not in ("no-range", "none")
    if not ranged:
        return answer("200 OK", about, body, close), close
    first, last = int(match[1]), min(int(match[2] or len(body)), len(body) - 1)
    if first > last:
        return answer("416 Range Not Satisfiable", {"Content-Range": f"bytes */{len(body)}"}, b"", close), close
    if manner == "shifted":
        first, last = first + 1, min(last + 1, len(body) - 1)
    total = len(body) + (manner == "other-total")
    about["Content-Range"] = f"bytes {first}-{last}/{total}"
    whole = answer("206 Partial Content", about, body[first : last + 1], close)
    with lock:
        answers[manner] = answers.get(manner, 0) + 1
        early = manner == "early-close" or manner == "early-close-twice" and answers[manner] <= 2
    if early:
        return whole[: len(whole) - (last + 1 - first) // 2], True
    return whole, close


def handle(connection, peer, record):
    global requests
    held = b""
    with connection, open(record, "wb", buffering=0) as seen:

        def more():
            nonlocal held
            piece = connection.recv(65536)
            seen.write(piece)
            held += piece
            return piece != b""

        while True:
            while b"\r\n\r\n" not in held:
                if not more():
                    return
            head, held = held.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            method, path, version = lines[0].split(" ", 2)
            fields = {}
            for line in lines[1:]:
                name, value = line.split(":", 1)
                fields[name.strip().lower()] = value.strip()
            with lock:
                requests += 1
                number = requests
            if fields.get("upgrade", "").lower() == "websocket":
                key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                connection.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                while b"bye" not in held:
                    if not more():
                        return
                connection.sendall(held[::-1])
                return
            length = int(fields.get("content-length", 0))
            while len(held) < length:
                if not more():
                    return
            body, held = held[:length], held[length:]
            close = version == "HTTP/1.0" or fields.get("connection", "").lower() == "close"
            if method == "POST":
                text = hashlib.sha256(body).hexdigest().encode()
                reply = answer("200 OK", {"Content-Type": "text/plain"}, text, close)
            else:
                parts = path.split("/", 2)
                reply, close = serve_file(parts[1], parts[-1], method, fields, number, close)
            connection.sendall(reply)
            if close:
                return


def guarded(connection, peer, record):
    try:
        handle(connection, peer, record)
    except (OSError, ValueError) as error:
        print(f"{peer}: {error}", file=sys.stderr, flush=True)


listener = socket.create_server((ADDRESS, PORT), backlog=64)
while True:
    connection, (peer, _) = listener.accept()
    connections += 1
    record = os.path.join(RECORD, f"{connections:04}-{peer}")
    threading.Thread(target=guarded, args=(connection, peer, record), daemon=True).start()
