"""One instance of the program as the benches drive it: its verbs, its API with the administrator's certificate, its processes."""
import base64, http.client, json, os, pathlib, re, ssl, subprocess, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("PLIMSOLL", ROOT / "target/release/plimsoll"))


def run(*argv, check=True, **kwargs):
    kwargs.setdefault("timeout", 120)
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **kwargs)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, argv))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def timed(action):
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


class Cluster:
    """One instance, and a connection to its API with the administrator's certificate."""

    def __init__(self, directory):
        self.directory = directory

    def up(self):
        return timed(lambda: run(BINARY, "up", "--data-dir", self.directory))

    def down(self):
        run(BINARY, "down", "--purge", "--data-dir", self.directory)

    def plimsoll(self, *argv, check=True, **how):
        return run(BINARY, "--data-dir", self.directory, *argv, check=check, **how)

    def connect(self):
        text = (pathlib.Path(self.directory) / "kubeconfig").read_text()
        field = lambda name: base64.b64decode(re.search(rf"{name}:\s*\"?([A-Za-z0-9+/=]+)", text).group(1)).decode()
        port = int(re.search(r"https://127\.0\.0\.1:(\d+)", text).group(1))
        context = ssl.create_default_context(cadata=field("certificate-authority-data"))
        with tempfile.NamedTemporaryFile("w", prefix="plimsoll-bench-") as pem:
            pem.write(field("client-certificate-data") + field("client-key-data"))
            pem.flush()
            context.load_cert_chain(pem.name)
        return http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)

    def request(self, connection, method, path, body=None):
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)

    def pids(self):
        pid = int(re.search(r"pid (\d+)", self.plimsoll("status", check=False)).group(1))
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, ValueError):
                continue
            if b"supervise" in words and self.directory.encode() in b" ".join(words):
                found.append(int(entry.name))
        return pid, found


def memory_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    field = lambda name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M).group(1))
    return field("Rss"), field("Pss"), field("Private_Clean") + field("Private_Dirty")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
