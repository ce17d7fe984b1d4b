"""JavaScript of the live figures, run by Node, for the tests that compare it with Python."""

import json
import shutil
import subprocess

import pytest

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="Node.js is not installed: apt-get install nodejs")


def javascript(tmp_path, source, expression, argument):
    """The value of a JavaScript expression in ``a``, in a module that ends with ``source``."""
    (tmp_path / "figure.mjs").write_text(source)
    (tmp_path / "main.mjs").write_text(
        "import * as figure from './figure.mjs'; import fs from 'node:fs';"
        "const a = JSON.parse(fs.readFileSync('argument.json'));"
        f"const plain = (k, v) => ArrayBuffer.isView(v) ? Array.from(v) : v; console.log(JSON.stringify({expression}, plain));"
    )
    (tmp_path / "argument.json").write_text(json.dumps(argument))
    assert NODE
    done = subprocess.run([NODE, "main.mjs"], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120)
    return json.loads(done.stdout)
