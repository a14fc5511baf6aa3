"""Sends bytes, keeps what comes back.

    raw.py ADDRESS PORT REQUEST REPLY [SECOND]

Sends the file REQUEST; once a head has come back, the file SECOND if given; writes all that comes until the other
side closes to the file REPLY. Gives up after 20 s of silence.
"""

import socket
import sys

address, port, request, reply = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
second = open(sys.argv[5], "rb").read() if len(sys.argv) > 5 else b""
got = b""
with socket.create_connection((address, port), timeout=20) as connection:
    connection.sendall(open(request, "rb").read())
    while True:
        if second and b"\r\n\r\n" in got:
            connection.sendall(second)
            second = b""
        piece = connection.recv(65536)
        if not piece:
            break
        got += piece
open(reply, "wb").write(got)
