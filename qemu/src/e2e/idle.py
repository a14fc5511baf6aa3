"""A connection that says nothing for a while, as of a person at a shell: idle.py serve|call ADDRESS PORT SECONDS.

The caller says a line, is silent, says another, and expects each back; then the server speaks first after a silence.
"""
import socket
import sys
import time

role, address, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
if role == "serve":
    listener = socket.create_server((address, port))
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as lines:
            for line in lines:
                lines.write(line)
                lines.flush()
                if line == b"wait\n":
                    time.sleep(seconds)
                    lines.write(b"done\n")
                    lines.flush()
else:
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.settimeout(seconds + 10)
        with connection.makefile("rwb") as lines:
            def say(text):
                lines.write(text)
                lines.flush()
                echo = lines.readline()
                assert echo == text, f"said {text!r}, heard {echo!r}"
            say(b"hello\n")
            time.sleep(seconds)
            say(b"still here\n")
            say(b"wait\n")
            heard = lines.readline()
            assert heard == b"done\n", f"heard {heard!r}"
    print("alive")
