"""Debian's dockerd as a peer: its packages unpacked below target/, started in a network namespace of its own, removed afterwards.

Nothing is installed on the machine, and its rules, bridges and forwarding stay as they are. Where the daemon cannot be had or
does not start, `Dockerd.start` says why and the table has no such peer.
"""
import os, pathlib, shutil, signal, subprocess, tarfile, tempfile, time

PACKAGES = ["docker.io", "containerd", "iptables", "libnftnl11", "libip4tc2", "libip6tc2", "libxtables12", "libnetfilter-conntrack3", "libnfnetlink0"]
LIBRARIES = f"usr/lib/{os.uname().machine}-linux-gnu"
START_SECONDS = 30


def unpacked(target):
    """The packages' files; downloaded the first time."""
    peer = pathlib.Path(target) / "peers" / "dockerd"
    done = peer / "complete"
    if not done.exists():
        shutil.rmtree(peer, ignore_errors=True)
        (peer / "packages").mkdir(parents=True)
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=peer / "packages", check=True, capture_output=True)
        for package in (peer / "packages").iterdir():
            subprocess.run(["dpkg", "-x", package, peer / "root"], check=True, capture_output=True)
        (peer / "bin").mkdir()
        for name in ("iptables", "ip6tables", "iptables-save", "iptables-restore", "ip6tables-save", "ip6tables-restore"):
            (peer / "bin" / name).symlink_to(peer / "root/usr/sbin/xtables-nft-multi")
        done.touch()
    return peer


class Dockerd:
    """A running daemon, with the docker command of its own release."""

    @classmethod
    def start(cls, target):
        try:
            return cls(unpacked(target)), None
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            detail = getattr(error, "stderr", None) or b""
            return None, f"{error} {detail.decode(errors='replace')[-200:]}".strip()

    def __init__(self, peer):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="plimsoll-dockerd-"))
        root = peer / "root"
        self.env = {
            **os.environ,
            "PATH": f"{peer}/bin:{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "LD_LIBRARY_PATH": f"{root}/{LIBRARIES}",
            "XTABLES_LIBDIR": f"{root}/{LIBRARIES}/xtables",
            "DOCKER_HOST": f"unix://{self.dir}/docker.sock",
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": str(self.dir),
            "HOME": str(self.dir),
        }
        self.log = open(self.dir / "log", "wb")
        daemon = ["dockerd", "--data-root", self.dir / "data", "--exec-root", self.dir / "exec", "--host", self.env["DOCKER_HOST"],
                  "--pidfile", self.dir / "pid", "--ip-forward=false", "--cgroup-parent", "/plim-bench"]
        script = 'ip link set lo up; exec "$@"'
        self.daemon = subprocess.Popen(["unshare", "--net", "sh", "-c", script, "sh", *daemon], env=self.env, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(["docker", "version"], env=self.env, capture_output=True).returncode != 0:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                tail = (self.dir / "log").read_text(errors="replace")[-300:]
                self.stop()
                raise RuntimeError(f"dockerd did not start: {tail}")
            time.sleep(0.1)

    def docker(self, *argv):
        done = subprocess.run(["docker", *map(str, argv)], env=self.env, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"docker {argv} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def import_busybox(self, busybox, name):
        """The same base image as the product's: busybox and its links in /bin."""
        archive = self.dir / "base.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(busybox, "bin/busybox")
            applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
            for applet in applets:
                if applet != "busybox":
                    link = tarfile.TarInfo(f"bin/{applet}")
                    link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                    tar.addfile(link)
            for directory in ("tmp", "etc", "root"):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
                tar.addfile(entry)
        self.docker("import", "--change", "ENV PATH=/bin", archive, name)

    def stop(self):
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(20)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        self.log.close()
        mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
        for mount in sorted((line.split()[1] for line in mounts if str(self.dir) in line), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)
        for group in pathlib.Path("/sys/fs/cgroup").glob("**/plim-bench"):
            for directory in sorted([group, *group.glob("**/")], reverse=True):
                if directory.is_dir():
                    try:
                        directory.rmdir()
                    except OSError:
                        pass
