"""Which modules a program has imported by its end: `imported.command("worker.__main__", ...)`."""

import json
import sys

WITHOUT_A_MODEL = frozenset(
    {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "accelerate"}
    | {"datasets", "sklearn", "scipy", "pandas", "sympy", "matplotlib"}
)
"""What a process that loads no model has no use for: seconds of its start, and its memory."""
WITH_A_MODEL = frozenset(
    {"transformers", "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.onnx"}
    | {"triton", "sympy", "mpmath", "scipy", "sklearn", "pandas", "matplotlib", "accelerate"}
    | {"datasets", "huggingface_hub", "httpx", "networkx", "jinja2"}
)
"""What a worker with one of the common encoders has no use for: two thirds of its start's CPU, were
it imported."""

_PROGRAM = """\
import atexit, json, runpy, sys
module = sys.argv.pop(1)
atexit.register(lambda: print(json.dumps({"modules": sorted(sys.modules)}), flush=True))
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


def command(module, *words):
    """The command line of a program that prints its modules when it ends, however it ends."""
    return [sys.executable, "-c", _PROGRAM, module, *words]


def modules(output):
    """The modules in what such a program printed."""
    (line,) = [line for line in output.splitlines() if line.startswith('{"modules"')]
    return set(json.loads(line)["modules"])
