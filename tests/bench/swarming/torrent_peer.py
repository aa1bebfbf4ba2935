"""torrent_peer - libtorrent as one machine of a bench: make, seed or fetch a torrent.

make SOURCE OUT PIECE_BYTES TRACKER_OR_EMPTY | seed|peer TORRENT FOLDER MARK LISTEN [ADDRESS:PORT…]
MARK is made when all is there and verified."""
import os
import sys
import time

import libtorrent as lt


def make(source, out, piece, tracker):
    files = lt.file_storage()
    lt.add_files(files, source)
    torrent = lt.create_torrent(files, int(piece), lt.create_torrent.v1_only)
    torrent.set_priv(True)
    if tracker:
        torrent.add_tracker(tracker)
    lt.set_piece_hashes(torrent, os.path.dirname(source))
    with open(out, "wb") as file:
        file.write(lt.bencode(torrent.generate()))


def run(role, torrent, folder, mark, listen, others):
    session = lt.session({
        "listen_interfaces": listen, "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "allow_multiple_connections_per_ip": True, "unchoke_slots_limit": 8, "unchoke_interval": 1, "optimistic_unchoke_interval": 1,
        "connections_limit": 200, "connection_speed": 200, "max_out_request_queue": 64,
        "mixed_mode_algorithm": 0, "min_reconnect_time": 1, "alert_mask": 0,
        "strict_super_seeding": False, "enable_incoming_utp": False, "enable_outgoing_utp": False})
    info = lt.torrent_info(torrent)
    flags = lt.torrent_flags.default_flags & ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    handle = session.add_torrent({"ti": info, "save_path": folder,
                                  "flags": lt.torrent_flags.seed_mode if role == "seed" else flags})
    handle.resume()
    if role == "seed" and os.environ.get("SUPER_SEEDING"): # with few peers it takes three times as long
        handle.set_flags(lt.torrent_flags.super_seeding)
    for other in others:
        host, port = other.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    while not handle.status().is_seeding:
        time.sleep(0.02)
    open(mark, "w").close()
    while True:
        time.sleep(60)


if sys.argv[1] == "make":
    make(*sys.argv[2:])
else:
    run(*sys.argv[1:6], sys.argv[6:])
