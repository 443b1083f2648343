"""What programs do with Kubernetes' own client for Python, in the namespace $NAMESPACE of $KUBECONFIG.

Says one line for each point, "ok" or what differs, and ends with 0 only if nothing does. scripts/clients installs the client.
"""

import sys
import traceback

# the first one finds the client; the points come in the order of these
import common
import objects, streams, kinds, ends  # noqa: E401, F401


def main():
    differs = 0
    for function in common.POINTS:
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok: {name}", flush=True)
        except Exception as error:  # whatever it is, it is told, and the others are tried
            differs += 1
            place = [line for line in traceback.extract_tb(error.__traceback__) if line.filename.startswith(common.HERE)]
            lines = ", ".join(f"{line.filename[len(common.HERE) + 1 :]}:{line.lineno}" for line in place)
            print(f"differs: {name} ({lines}): {type(error).__name__}: {error}", flush=True)
    return 1 if differs else 0


sys.exit(main())
