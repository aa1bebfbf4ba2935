"""torrent_garbage TORRENT ADDRESS PORT TRACKER_OR_EMPTY [ADDRESS:PORT…] - a machine of a bench that says it has all of a
torrent, unchokes everybody and answers every request with random bytes."""
import asyncio
import os
import struct
import sys
import urllib.parse
import urllib.request

import libtorrent as lt

torrent, address, port, tracker = sys.argv[1:5]
info = lt.torrent_info(torrent)
INFO_HASH = info.info_hash().to_bytes()
PEER_ID = b"-XX0001-" + os.urandom(12)
HANDSHAKE = b"\x13BitTorrent protocol" + bytes(8) + INFO_HASH + PEER_ID


def message(kind, payload=b""):
    return struct.pack(">IB", 1 + len(payload), kind) + payload


BITFIELD, UNCHOKE, REQUEST, PIECE = 5, 1, 6, 7
ALL = bytearray(b"\xff" * ((info.num_pieces() + 7) // 8))
if info.num_pieces() % 8:
    ALL[-1] = 0xff << (8 - info.num_pieces() % 8) & 0xff


async def talk(reader, writer):
    try:
        writer.write(HANDSHAKE)
        await reader.readexactly(68)
        writer.write(message(BITFIELD, bytes(ALL)) + message(UNCHOKE))
        while True:
            size, = struct.unpack(">I", await reader.readexactly(4))
            body = await reader.readexactly(size) if size else b"\xff"
            if body[0] == REQUEST and size == 13:
                piece, begin, length = struct.unpack(">III", body[1:])
                writer.write(message(PIECE, struct.pack(">II", piece, begin) + os.urandom(min(length, 1 << 17))))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        writer.close()


async def visit(host, other_port):
    while True:
        try:
            await talk(*await asyncio.open_connection(host, other_port))
        except OSError:
            pass
        await asyncio.sleep(1)


def announce():
    query = urllib.parse.urlencode({"info_hash": INFO_HASH, "peer_id": PEER_ID, "port": port, "uploaded": 0,
                                    "downloaded": 0, "left": 0, "compact": 1, "event": "started"})
    urllib.request.urlopen(tracker + "?" + query, timeout=5).read()


async def main():
    await asyncio.start_server(talk, address, int(port))
    if tracker:
        await asyncio.get_running_loop().run_in_executor(None, announce)
    await asyncio.gather(*(visit(host, int(p)) for host, p in (o.rsplit(":", 1) for o in sys.argv[5:])),
                         asyncio.Event().wait())


asyncio.run(main())
