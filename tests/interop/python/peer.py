"""A gRPC peer on grpcio: `peer.py serve`, or `peer.py drive PORT`. What it prints is described in ../README.md."""

import os
import sys
import threading

# Whoever started it ends it long before; this is for the day when nobody does.
HARD_LIMIT_SECONDS = 170


def main():
    end = threading.Timer(HARD_LIMIT_SECONDS, os._exit, [3])
    end.daemon = True
    end.start()
    if sys.argv[1] == "serve":
        import server

        server.serve()
    else:
        import client

        client.drive(sys.argv[2])


main()
