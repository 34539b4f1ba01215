"""What a worker process does."""

import pickle
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection

import torch

from experiments.machine import heartbeat
from experiments.machine.device import prepare_device
from experiments.runs.run import Job, make_run, out_of_memory
from ledger.ledger import Ledger


def work(pipe: Connection, device_name: str, beats: heartbeat.Counter) -> None:
    """What a worker process does: carry out one job after the other, until the pipe is closed."""
    device = torch.device(device_name)
    prepare_device(device)
    heartbeat.beat_into(beats)
    with suppress(EOFError, OSError):
        while True:
            job, is_last = pipe.recv()
            pipe.send(_answer(job, is_last, device))


def _answer(job: Job, is_last: bool, device: torch.device) -> tuple[str | Exception, bool]:
    """The job's key or what was raised, and whether this process should make no other run."""
    try:
        key = make_run(job, device, is_last=is_last)
        error = Ledger(job.ledger).read(key)["error"] or ""
    except Exception as problem:
        problem.add_note(traceback.format_exc())
        try:
            pickle.loads(pickle.dumps(problem))
        except Exception:
            problem = RuntimeError(traceback.format_exc())
        return problem, isinstance(problem, MemoryError)
    # A CUDA fault may have broken this process for every later run; one that lacked memory may not give it back.
    return key, bool(error) and (device.type == "cuda" or error == out_of_memory(device))
