"""Sharing an evaluation set out to processes."""


def whole_batches(size: int, batch_size: int, rank: int, world_size: int) -> list[range]:
    """A process's part of a set's batches, one in `world_size`.

    The batches are the same for every number of processes, since a network's output for an image can depend
    on the size of its batch in the last bit. A process for which none is left repeats one: Lightning leaves a
    process without batches out of the evaluation, and the others would wait for it. Collectors drop repeats.
    """
    batches = [range(start, min(start + batch_size, size)) for start in range(0, size, batch_size)]
    return batches[rank::world_size] or [batches[rank % len(batches)]]
