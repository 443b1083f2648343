#!/usr/bin/env python3
"""Rows about an API server alone, ours or any other: requests a second, from a write to its watchers, memory, start-up with many objects.

Alone: `bench/apiserver.py [NAME=KUBECONFIG ...]` starts an instance of the release binary and measures it, then each server named,
which must be there and be spare: some thousand ConfigMaps come and go in its namespace `default`. Needs root for our own.
"""
import json, os, shutil, statistics, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
from cluster import BINARY, ROOT, Cluster, memory_kib, run, timed

API_LOAD = ROOT / "target/release/examples/api_load"
MAPS = "/api/v1/namespaces/default/configmaps"
CLIENTS = 8


def a_map(prefix):
    """About a kilobyte; each client numbers its own."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": prefix + "-{client}-{n}"}, "data": {"k": "x" * 1000}}


def load(kubeconfig, *words, body=None):
    return json.loads(run(API_LOAD, kubeconfig, *words, *([json.dumps(body)] if body else []), timeout=900))


def rate(kubeconfig, method, path, amount, body=None):
    return load(kubeconfig, "rate", method, path, amount, CLIENTS, body=body)["per_second"]


def create(kubeconfig, prefix, count):
    return rate(kubeconfig, "POST", MAPS, f"{count}x", a_map(prefix))


def delete(kubeconfig, prefix, count):
    """The same ones go."""
    return rate(kubeconfig, "DELETE", f"{MAPS}/{prefix}-{{client}}-{{n}}", f"{count}x")


def rates(row, name, kubeconfig, seconds, times, count, peers=None):
    """Rows of any API server; gives the medians, for others to be compared with."""
    peers, medians = peers or {}, {}

    def measured(what, values, unit):
        medians[what] = (name, row(f"{name}: {what}", values, unit, peers.get(what)))

    measured(f"POST of a 1 KB ConfigMap, {CLIENTS} clients over TLS", [create(kubeconfig, f"c{n}", count) for n in range(times)], "/s")
    measured(f"GET of a ConfigMap, {CLIENTS} clients over TLS", [rate(kubeconfig, "GET", f"{MAPS}/c0-0-0", f"{seconds}s") for _ in range(times)], "/s")
    size = len(json.dumps(a_map("c")))
    measured(f"LIST of 500 ConfigMaps of {size} bytes, {CLIENTS} clients", [rate(kubeconfig, "GET", f"{MAPS}?limit=500", f"{seconds}s") for _ in range(times)], "/s")
    for watchers, writes in ((1, 500), (500, 50)):
        found = [load(kubeconfig, "watch", watchers, writes) for _ in range(times)]
        who = "1 watcher" if watchers == 1 else f"{watchers} watchers"
        for share in ("p50", "p99"):
            measured(f"acknowledged write → event at {who}, {share} of {watchers * writes}", [f[f"event_after_acknowledgement_{share}_us"] / 1000 for f in found], "ms")
        measured(f"write sent → event at {who}, p50", [f["event_after_sending_p50_us"] / 1000 for f in found], "ms")
    measured(f"DELETE of a ConfigMap, {CLIENTS} clients over TLS", [delete(kubeconfig, f"c{n}", count) for n in range(times)], "/s")
    return medians


def memory(row, times, count=10_000):
    """What the daemon takes more with so many ConfigMaps of 1 KB (Pss, ten seconds after the last); each time a new one, since
    memory that was given back once is taken again without a trace."""
    taken = []
    for _ in range(times):
        base = tempfile.mkdtemp(prefix="plimsoll-bench-")
        cluster = Cluster(os.path.join(base, "data"))
        try:
            cluster.up()
            time.sleep(10)
            daemon, _ = cluster.pids()
            before = memory_kib(daemon)[1]
            create(f"{cluster.directory}/kubeconfig", "m", count)
            time.sleep(10)
            taken.append((memory_kib(daemon)[1] - before) / 1024)
        finally:
            subprocess.run([BINARY, "down", "--purge", "--data-dir", cluster.directory], capture_output=True)
            shutil.rmtree(base, ignore_errors=True)
    row(f"memory for {count} more ConfigMaps of 1 KB", taken, "MiB")


def disk(row, directory, times=200):
    """What every commit waits for: no writer can have an answer sooner."""
    path = os.path.join(directory, "sync")
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        os.write(file, bytes(1 << 20))
        os.fsync(file)

        def write(n):
            os.pwrite(file, bytes([n % 251]) * 8192, n * 8192 % (1 << 20))
            os.fdatasync(file)

        row("8 KB written and synced, the disk alone", [timed(lambda: write(n)) for n in range(times)], "ms")
    finally:
        os.close(file)
        os.unlink(path)


def start_up(row, cluster, times, count=100_000):
    """Down and up again with so many objects in the store."""
    kubeconfig = f"{cluster.directory}/kubeconfig"
    row(f"POST of {count} ConfigMaps of 1 KB", [create(kubeconfig, "s", count)], "/s")
    ups, memories, lists = [], [], []
    for _ in range(times):
        run(BINARY, "down", "--data-dir", cluster.directory)
        ups.append(cluster.up())
        connection = cluster.connect()
        lists.append(timed(lambda: cluster.request(connection, "GET", f"{MAPS}?limit=500")))
        time.sleep(10)
        memories.append(memory_kib(cluster.pids()[0])[1] / 1024)
    row(f"`up` → API ready, with {count} objects in the store", ups, "ms")
    row("the first list of 500 of them", lists, "ms")
    row("memory of the daemon then (Pss)", memories, "MiB")


def everything(row, cluster, seconds, times, others, quick=False):
    peers, count = {}, 1000 if quick else 10_000
    for name, kubeconfig in others:
        peers |= rates(row, name, kubeconfig, seconds, times, count)
    disk(row, cluster.directory)
    rates(row, "plimsoll", f"{cluster.directory}/kubeconfig", seconds, times, count, peers)
    memory(row, times, count)
    start_up(row, cluster, times, 10_000 if quick else 100_000)


def named(words):
    """`NAME=KUBECONFIG` of each word."""
    return [tuple(word.split("=", 1)) for word in words]


def main():
    if os.geteuid() != 0:
        raise SystemExit("bench: needs root")
    quick = "--quick" in sys.argv
    others = named(word for word in sys.argv[1:] if "=" in word)

    def row(what, values, unit, peer=None):
        median = statistics.median(values)
        ratio = f"{median / peer[1]:.2f} × {peer[0]}" if peer else ""
        print(f"| {what} | {len(values)} | {median:.2f} {unit} | {min(values):.2f}–{max(values):.2f} | {os.getloadavg()[0]:.1f} | {ratio} |", flush=True)
        return median

    print("| what | n | median | least–most | load average | ratio to a peer |\n|---|--:|--:|--:|--:|---|")
    base = tempfile.mkdtemp(prefix="plimsoll-bench-")
    cluster = Cluster(os.path.join(base, "data"))
    try:
        cluster.up()
        everything(row, cluster, 2 if quick else 5, 3, others, quick)
    finally:
        subprocess.run([BINARY, "down", "--purge", "--data-dir", cluster.directory], capture_output=True)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
