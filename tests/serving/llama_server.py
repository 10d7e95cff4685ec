"""llama.cpp's own server, of the package ``xllamacpp``: ``python llama_server.py GGUF PORT NAME``."""

from __future__ import annotations

import sys
import threading

import xllamacpp


def main(gguf: str, port: int, name: str) -> None:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.port = port
    parameters.model_alias = {name}
    parameters.n_ctx = 2048
    parameters.n_parallel = 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1  # more are slower on a busy machine
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
