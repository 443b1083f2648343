"""What goes in and out of containers."""

from common import NAMESPACE, SECONDS, core, point, same, eventually, pod, ready

from kubernetes import watch
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream


@point
def logs_once_and_following():
    core.create_namespaced_pod(
        NAMESPACE,
        pod(
            "talker",
            "busybox:static",
            ["sh", "-c", "for n in 1 2 3 4 5; do echo line $n; sleep 0.3; done; echo größe"],
            restart_policy="Never",
        ),
    )
    eventually(
        lambda: core.read_namespaced_pod("talker", NAMESPACE).status.phase in ("Running", "Succeeded"),
        "the pod runs",
    )
    lines = list(watch.Watch().stream(core.read_namespaced_pod_log, "talker", NAMESPACE))
    same(lines, [f"line {number}" for number in range(1, 6)] + ["größe"], "the lines that came")
    eventually(
        lambda: core.read_namespaced_pod("talker", NAMESPACE).status.phase == "Succeeded", "the pod's end"
    )
    same(core.read_namespaced_pod_log("talker", NAMESPACE, tail_lines=2), "line 5\ngröße\n", "the tail")
    stamped = core.read_namespaced_pod_log("talker", NAMESPACE, timestamps=True, limit_bytes=30)
    assert len(stamped.encode()) == 30 and stamped[4] == "-", stamped


@point
def exec_through_a_websocket():
    core.create_namespaced_pod(NAMESPACE, pod("shell", "busybox:static", ["sleep", "600"]))
    ready("shell")
    attach = core.connect_get_namespaced_pod_exec
    options = {"stderr": True, "stdin": False, "stdout": True, "tty": False}
    same(stream(attach, "shell", NAMESPACE, command=["echo", "a b", "ä"], **options), "a b ä\n", "the output")
    options["_preload_content"] = False
    both = stream(attach, "shell", NAMESPACE, command=["sh", "-c", "echo out; echo err >&2; exit 7"], **options)
    both.run_forever(timeout=SECONDS)
    same((both.read_stdout(), both.read_stderr()), ("out\n", "err\n"), "the streams")
    same(both.returncode, 7, "the exit code")
    options["stdin"] = True
    talk = stream(attach, "shell", NAMESPACE, command=["sh"], **options)
    for number in range(3):
        talk.write_stdin(f"echo $(({number} + 1))\n")
        same(talk.readline_stdout(timeout=SECONDS), str(number + 1), "the answer")
    talk.write_stdin("exit 3\n")
    talk.run_forever(timeout=SECONDS)
    same(talk.returncode, 3, "the exit code")
    # much, and bytes that are no text
    options["stdin"] = False
    much = stream(
        attach, "shell", NAMESPACE, binary=True,
        command=["sh", "-c", "head -c 3000000 /dev/zero; printf '\\377\\376'"], **options,
    )
    much.run_forever(timeout=SECONDS)
    got = much.read_stdout()
    assert len(got) == 3000002 and got.endswith(b"\xff\xfe"), (len(got), got[-4:])
    same(much.returncode, 0, "the exit code")
    # a terminal has one stream
    options.update(stdin=True, tty=True)
    terminal = stream(attach, "shell", NAMESPACE, command=["sh", "-c", "tty; stty size"], **options)
    terminal.run_forever(timeout=SECONDS)
    assert terminal.read_stdout().startswith("/dev/"), terminal
    try:
        stream(attach, "nothing", NAMESPACE, command=["true"], **options)
        raise AssertionError("a pod that there is not")
    except ApiException as error:
        assert "404" in str(error), error


@point
def attach_through_a_websocket():
    script = "read word; echo got $word; read word; exit 4"
    body = pod("reader", "busybox:static", ["sh", "-c", script], restart_policy="Never")
    body.spec.containers[0].stdin = True
    core.create_namespaced_pod(NAMESPACE, body)
    ready("reader")
    attached = stream(
        core.connect_get_namespaced_pod_attach, "reader", NAMESPACE,
        stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False,
    )
    attached.write_stdin("hello\n")
    same(attached.readline_stdout(timeout=SECONDS), "got hello", "the answer")
    attached.write_stdin("end\n")
    attached.run_forever(timeout=SECONDS)
    ended = lambda: core.read_namespaced_pod("reader", NAMESPACE).status.container_statuses[0].state.terminated
    same(eventually(ended, "the end").exit_code, 4, "the exit code")


@point
def port_forward_through_a_websocket():
    core.create_namespaced_pod(NAMESPACE, pod("web", "my-web-app:latest"))
    ready("web")

    def ask(forward, port):
        socket = forward.socket(port)
        socket.settimeout(SECONDS)
        socket.sendall(b"GET /healthz HTTP/1.0\r\nHost: web\r\n\r\n")
        answer = b""
        while got := socket.recv(65536):
            answer += got
        return answer

    serves = lambda: b"200 OK" in ask(
        portforward(core.connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080"), 8080
    )
    eventually(serves, "an answer of the pod")
    forward = portforward(core.connect_get_namespaced_pod_portforward, "web", NAMESPACE, ports="8080,9")
    answer = ask(forward, 8080)
    assert answer.startswith(b"HTTP/1.1 200 OK") and answer.endswith(b"\r\n\r\nok\n"), answer
    same(forward.error(8080), None, "the error")
    closed = forward.socket(9)
    closed.settimeout(SECONDS)
    try:
        same(closed.recv(10), b"", "what a closed port says")
    except ConnectionResetError:
        pass
    error = eventually(lambda: forward.error(9), "an error for a port that nobody listens on")
    assert "refused" in error, error
