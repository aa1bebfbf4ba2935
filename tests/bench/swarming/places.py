"""Where the machines of a bench stand: behind a shaped link each, or together on one loopback."""
import os
import subprocess


def sh(*argv, **kw):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, **kw)


class Shaped:
    """Every machine is a network namespace; its veth pair is shaped by tbf at both ends, and all
    meet in a bridge. rates: Mbit/s by machine."""

    def __init__(self, rates):
        self.id = "sw%d" % (os.getpid() % 10000)
        self.rates = rates
        sh("ip", "link", "add", self.id, "type", "bridge")
        sh("ip", "link", "set", self.id, "up")
        for i in range(len(rates)):
            self._add(i)

    def _add(self, i):
        inner, outer = self.prefix(i), "%sv%d" % (self.id, i)
        sh("ip", "netns", "add", self.name(i))
        sh("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", self.name(i))
        sh("ip", "link", "set", outer, "master", self.id, "up")
        sh(*inner, "ip", "address", "add", self.address(i) + "/16", "dev", "eth0")
        sh(*inner, "ip", "link", "set", "eth0", "up")
        sh(*inner, "ip", "link", "set", "lo", "up")
        for prefix, device in ([], outer), (inner, "eth0"):
            # A bucket of 10 ms, but never less than a segment before it is cut; 50 ms of queue.
            burst = max(int(self.rates[i] * 1e6 / 8 / 100), 16000)
            sh(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate",
               "%gmbit" % self.rates[i], "burst", str(burst), "latency", "50ms")

    def name(self, i):
        return "%s-%d" % (self.id, i)

    def prefix(self, i):
        return ["ip", "netns", "exec", self.name(i)]

    def address(self, i):
        return "10.77.%d.%d" % (i // 200, i % 200 + 2)

    def port(self, i):
        return 7000

    def close(self):
        for i in range(len(self.rates)):
            subprocess.run(["ip", "netns", "del", self.name(i)], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", self.id], stderr=subprocess.DEVNULL)


class Loopback:
    """All machines on the loopback of one network namespace, which nothing else uses."""

    def __init__(self):
        self.id = "lo%d" % (os.getpid() % 10000)
        sh("ip", "netns", "add", self.id)
        sh("ip", "-n", self.id, "link", "set", "lo", "up")

    def prefix(self, i):
        return ["ip", "netns", "exec", self.id]

    def address(self, i):
        return "127.0.0.1"

    def port(self, i):
        return 7000 + i

    def close(self):
        subprocess.run(["ip", "netns", "del", self.id], stderr=subprocess.DEVNULL)


class Accounts:
    """The CPU time of processes and all their threads and children, by a cgroup of their own (where
    there is no cgroup v2: of what was waited for). Kernel work done in their name is in it."""

    def __init__(self):
        self.path = None
        with open("/proc/mounts") as file:
            roots = [line.split()[1] for line in file if line.split()[2] == "cgroup2"]
        for root in roots:
            path = "%s/slipway-bench-%d" % (root, os.getpid())
            try:
                os.mkdir(path)
            except OSError:
                continue
            self.path = path

    def enter(self):
        """In the child, before it becomes the program."""
        if self.path:
            with open(self.path + "/cgroup.procs", "w") as file:
                file.write("0")

    def seconds(self):
        """user, system"""
        if self.path:
            with open(self.path + "/cpu.stat") as file:
                stat = dict(line.split() for line in file)
            return int(stat["user_usec"]) / 1e6, int(stat["system_usec"]) / 1e6
        times = os.times()
        return times.children_user, times.children_system

    def close(self):
        if self.path:
            os.rmdir(self.path)


def touch_memory(size):
    """A virtual machine may get its memory from the host only as it is touched, which is slow and would be
    counted for whoever runs first: so that much is filled, and free again."""
    with open("/proc/meminfo") as file:
        free = int(next(line for line in file if line.startswith("MemAvailable")).split()[1]) << 10
    path = "/dev/shm/slipway-bench-touch-%d" % os.getpid()
    block = bytes(1 << 20)
    try:
        with open(path, "wb") as file:
            for _ in range(min(size, free // 2) >> 20):
                file.write(block)
    finally:
        os.unlink(path)


def machine_seconds():
    """Since boot: all work of this machine's processors, and what of it were soft interrupts."""
    with open("/proc/stat") as file:
        ticks = [int(n) for n in file.readline().split()[1:]]
    hz = os.sysconf("SC_CLK_TCK")
    return (sum(ticks[:3]) + sum(ticks[5:7])) / hz, (ticks[5] + ticks[6]) / hz
