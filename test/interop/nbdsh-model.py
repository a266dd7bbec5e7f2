# Random requests of all kinds over three connections of libnbd, many in flight, checked against a model of what the export holds; after each
# round its holes and its block status are those of the model as well. Run by nbdsh, with `uri`, `seed` and `rounds` set before.
# The export must be of 16 MiB. Two connections have structured replies (or extended headers, where libnbd knows them), one has simple ones.
import random

BLOCK = 4096
CONTEXTS = {"base:allocation": lambda flags: flags & 2, "basalt:state": lambda flags: flags & 16, "qemu:allocation-depth": lambda flags: flags == 0}
draw = random.Random(seed)


def connect(structured):
    handle = nbd.NBD()
    handle.set_request_structured_replies(structured)
    if structured:
        for context in CONTEXTS:
            handle.add_meta_context(context)
    elif hasattr(handle, "set_request_extended_headers"):
        handle.set_request_extended_headers(False)
    handle.connect_uri(uri)
    return handle


handles = [connect(True), connect(True), connect(False)]
size = handles[0].get_size()
assert size == 16 << 20
model = bytearray(size)
handles[0].trim(size, 0)


def some_range(longest):
    length = min(longest, draw.choice([1, 511, 512, 4095, 4096, 4097, 65536, draw.randrange(1, longest)]))
    offset = draw.randrange(0, size - length + 1)
    return (offset // BLOCK * BLOCK if draw.random() < 0.5 else offset), length


def begin(offset, length):
    """Sends a request, and does to the model what it asks for. Returns the handle, the cookie, the buffer and what a read must find."""
    handle, kind, flags = draw.choice(handles), draw.random(), draw.choice([0, 0, 0, nbd.CMD_FLAG_FUA])
    if kind < 0.4:
        data = draw.randbytes(length) if draw.random() < 0.8 else bytes(length)
        model[offset : offset + length] = data
        buffer = nbd.Buffer.from_bytearray(bytearray(data))
        return handle, handle.aio_pwrite(buffer, offset, flags=flags), buffer, None
    if kind < 0.55:
        model[offset : offset + length] = bytes(length)
        return handle, handle.aio_zero(length, offset, flags=flags | draw.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO])), None, None
    if kind < 0.65:
        first, end = -(-offset // BLOCK) * BLOCK, (offset + length) // BLOCK * BLOCK
        if end > first:
            model[first:end] = bytes(end - first)
        return handle, handle.aio_trim(length, offset, flags=flags), None, None
    if kind < 0.7:
        return handle, handle.aio_flush() if kind < 0.68 else handle.aio_cache(length, offset), None, None
    buffer = nbd.Buffer(length)
    return handle, handle.aio_pread(buffer, offset), buffer, bytes(model[offset : offset + length])


def run_together():
    """Many requests at a time, none of which touches what another one does."""
    taken, waiting = [], []
    for _ in range(draw.randrange(1, 60)):
        offset, length = some_range(1 << 20 if draw.random() < 0.05 else 200000)
        if any(offset < end and first < offset + length for first, end in taken):
            continue
        taken.append((offset, offset + length))
        waiting.append((begin(offset, length), offset))
    while waiting:
        left = []
        for request, offset in waiting:
            handle, cookie, buffer, expected = request
            if not handle.aio_command_completed(cookie):
                left.append((request, offset))
            elif expected is not None:
                assert bytes(buffer.to_bytearray()) == expected, "round %d: a read of %d bytes at %d" % (number, len(expected), offset)
        waiting = left
        for handle in {request[0] for request, _ in waiting}:
            handle.poll(5)


def look():
    handle = draw.choice(handles[:2])
    offset, length = some_range(2 << 20)
    expected = model[offset : offset + length]
    assert handles[2].pread(length, offset) == expected, "round %d: %d bytes at %d" % (number, length, offset)
    found, pieces = bytearray(length), []

    def piece(data, at, status, error):
        pieces.append(len(data))
        found[at - offset : at - offset + len(data)] = data

    handle.pread_structured(length, offset, piece, draw.choice([0, 0, nbd.CMD_FLAG_DF]))
    assert found == expected and sum(pieces) == length
    told = {}
    handle.block_status(length, offset, lambda name, at, extents, error: told.__setitem__(name, extents), draw.choice([0, nbd.CMD_FLAG_REQ_ONE]))
    assert set(told) == set(CONTEXTS)
    for name, extents in told.items():
        at, before = offset, None
        for count, flags in zip(extents[::2], extents[1::2]):
            assert count > 0 and flags != before, "round %d: %s tells %s at %d" % (number, name, extents, offset)
            assert not CONTEXTS[name](flags) or not any(model[at : at + count]), "round %d: %s says that %d bytes at %d are zero" % (number, name, count, at)
            at, before = at + count, flags
        assert at <= size


for number in range(rounds):
    run_together()
    look()
for offset in range(0, size, 1 << 20):
    assert handles[0].pread(1 << 20, offset) == model[offset : offset + (1 << 20)]
