"""Several ranks, in processes that talk by gloo."""

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

import ltvr.training
from ltvr import distributed


def join(rank, number, folder, function, arguments):
    torch.set_num_threads(1)
    ltvr.training.write_report = lambda *_: None
    if number > 1:
        store = dist.FileStore(str(folder / f"store-{number}"), number)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=number)
    function(folder, *arguments)
    if number > 1:
        distributed.barrier()
        dist.destroy_process_group()


def on_ranks(number, folder, function, *arguments):
    """Call ``function(folder, *arguments)`` on every rank."""
    arguments = (number, folder, function, arguments)
    processes.start_processes(join, arguments, number, start_method="fork")
