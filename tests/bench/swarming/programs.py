"""Programs that spread a file, each as machine 0 that has it and others that fetch it.

start_seed() makes machine 0 ready. start(i) makes machine i fetch and returns the path that is there
when it has everything, verified. start_garbage(i) makes it one that says it has all, and gives garbage."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from .places import sh

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.realpath(os.path.join(HERE, "../../.."))
PYTHON = "/usr/bin/python3"  # Debian's, which has Debian's libtorrent
PIECE = int(os.environ.get("PIECE", 128)) << 10  # 64 to 256 KiB served the others best
TRACKER_PORT = 6969


class Program:
    needs = None  # (Debian package, command that shows that it is there)

    def __init__(self, place, accounts, source):
        self.place, self.accounts, self.source = place, accounts, source
        self.dir = tempfile.mkdtemp(prefix="slipway-bench-", dir="/dev/shm")
        self.children = {}

    def run(self, i, *argv):
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        with open(os.path.join(self.dir, "log%d" % i), "a") as log:
            child = subprocess.Popen([*self.place.prefix(i), *argv], stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL, cwd=self.dir, env=env,
                                     preexec_fn=self.accounts.enter)
        self.children.setdefault(i, []).append(child)
        return child

    def folder(self, i):
        path = "%s/m%d" % (self.dir, i)
        os.makedirs(path, exist_ok=True)
        return path

    def at(self, i):
        return "%s:%d" % (self.place.address(i), self.place.port(i))

    def result(self, i):
        """Path of the file that machine i has fetched."""
        return "%s/m%d/%s" % (self.dir, i, os.path.basename(self.source))

    def stop(self, signo=signal.SIGTERM, machines=None):
        chosen = [c for i, cs in self.children.items() if machines is None or i in machines for c in cs]
        for child in chosen:
            if child.poll() is None:
                child.send_signal(signo)
        for child in chosen:
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def close(self):
        self.stop()
        if os.environ.get("KEEP"):
            print("kept", self.dir, file=sys.stderr)
        else:
            shutil.rmtree(self.dir)


class Ours(Program):
    def start_seed(self):
        self.run(0, ROOT + "/build/engine", "seed", self.source, "--listen", self.at(0), "--keep",
                 self.dir + "/seed", "--ref-file", self.dir + "/ref")
        wait_for(self.dir + "/ref")
        with open(self.dir + "/ref") as file:
            self.reference = file.read().strip()

    def start(self, i):
        self.run(i, ROOT + "/build/engine-agent", "fetch", self.reference, "--to", self.result(i),
                 "--listen", self.at(i), "--seed-for", "forever")
        return self.result(i)

    def start_garbage(self, i):
        self.run(i, ROOT + "/build/tools/hostile_peer", "flip", self.reference, self.at(i), self.result(i))

    def result(self, i):
        return "%s/m%d" % (self.dir, i)


class Torrent(Program):
    tracker = ""

    def start_garbage(self, i):
        self.run(i, PYTHON, HERE + "/torrent_garbage.py", self.torrent, self.place.address(i),
                 str(self.place.port(i)), self.tracker, *(self.at(k) for k in self.children if k != i))

    def make_torrent(self, tracker=""):
        self.torrent = self.dir + "/x.torrent"
        sh(PYTHON, HERE + "/torrent_peer.py", "make", self.source, self.torrent, str(PIECE), tracker)

    def start_tracker(self):
        address = self.place.address(0)
        self.tracker = "http://%s:%d/announce" % (address, TRACKER_PORT)
        self.make_torrent(self.tracker)
        self.run(0, PYTHON, HERE + "/torrent_tracker.py", address, str(TRACKER_PORT))
        time.sleep(0.5)


class Libtorrent(Torrent):
    needs = ("python3-libtorrent", [PYTHON, "-c", "import libtorrent"])

    def start_seed(self):
        self.make_torrent()
        self.begin(0, "seed", os.path.dirname(self.source))

    def start(self, i):
        return self.begin(i, "peer", self.folder(i))

    def begin(self, i, role, folder):
        mark = self.folder(i) + "/done"
        self.run(i, PYTHON, HERE + "/torrent_peer.py", role, self.torrent, folder, mark, self.at(i),
                 *(self.at(k) for k in self.children if k != i))
        return mark


class Aria2(Torrent):
    needs = ("aria2", ["aria2c", "--version"])
    options = ["--enable-dht=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
               "--seed-ratio=0.0", "--bt-max-peers=0", "--bt-request-peer-speed-limit=1000M",
               "--file-allocation=none", "--console-log-level=error", "--summary-interval=0",
               "--bt-tracker-interval=2", "--disable-ipv6", "--max-upload-limit=0",
               "--check-integrity=false", "--min-split-size=1M"]

    def start_seed(self):
        self.start_tracker()
        self.begin(0, "--bt-seed-unverified=true", "--dir=" + os.path.dirname(self.source))
        time.sleep(1)

    def start(self, i):
        hook = self.folder(i) + "/hook"
        with open(hook, "w") as file:
            file.write("#!/bin/sh\n: > %s/done\n" % self.folder(i))
        os.chmod(hook, 0o755)
        self.begin(i, "--on-bt-download-complete=" + hook, "--dir=" + self.folder(i))
        return self.folder(i) + "/done"

    def begin(self, i, *more):
        self.run(i, "aria2c", *self.options, "--listen-port=%d" % self.place.port(i), *more, self.torrent)


class Transmission(Torrent):
    needs = ("transmission-cli", ["transmission-cli", "--version"])
    settings = {"dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False,
                "encryption": 0, "preallocation": 0, "cache-size-mb": 32, "upload-slots-per-torrent": 4,
                "peer-limit-global": 200, "peer-limit-per-torrent": 200, "port-forwarding-enabled": False,
                "ratio-limit-enabled": False, "idle-seeding-limit-enabled": False,
                "speed-limit-up-enabled": False, "speed-limit-down-enabled": False}

    def start_seed(self):
        self.start_tracker()
        self.begin(0, os.path.dirname(self.source))
        time.sleep(2)

    def start(self, i):
        return self.begin(i, self.folder(i))

    def begin(self, i, folder):
        config, done = self.folder(i) + "/config", self.folder(i) + "/done"
        os.mkdir(config)
        with open(config + "/settings.json", "w") as file:
            json.dump(dict(self.settings, **{"peer-port": self.place.port(i)}), file)
        hook = config + "/hook"
        with open(hook, "w") as file:
            file.write("#!/bin/sh\n: > %s\n" % done)
        os.chmod(hook, 0o755)
        self.run(i, "transmission-cli", "-g", config, "-w", folder, "-p", str(self.place.port(i)), "-f", hook,
                 "-U", "-D", self.torrent)
        return done


ALL = {"ours": Ours, "aria2": Aria2, "libtorrent": Libtorrent, "transmission": Transmission}


def chosen(default):
    """The names in ONLY, or these; programs that are missing are installed."""
    names = (os.environ.get("ONLY") or default).split()
    unknown = [name for name in names if name not in ALL]
    if unknown:
        sys.exit("no such program: %s; there are %s" % (" ".join(unknown), " ".join(ALL)))
    missing = [ALL[name].needs[0] for name in names if ALL[name].needs and not is_there(ALL[name].needs[1])]
    if not shutil.which("tc"):
        missing.append("iproute2")
    if missing:
        print("installing", *missing, file=sys.stderr)
        sh("apt-get", "install", "-y", "-q", *missing)
    return names


def is_there(argv):
    try:
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except FileNotFoundError:
        return False
    return argv[0] != PYTHON or subprocess.run(argv, stderr=subprocess.DEVNULL).returncode == 0


def wait_for(path, limit_s=60):
    end = time.monotonic() + limit_s
    while not os.path.exists(path):
        if time.monotonic() > end:
            sys.exit("no %s after %d s" % (path, limit_s))
        time.sleep(0.01)
