"""Comforts of typing: completion, pasted Python, EXPR from stdin, near misses."""

from __future__ import annotations

import json
import shutil

import pytest

from jvpcli.cli.completion import SHELLS, complete
from jvpcli.language.pasted import read_pasted


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("jvp ", {"inspect", "batch", "--help"}),
        ("jvp ins", {"inspect"}),
        ("jvp inspect --gr", {"--grad-outputs"}),
        ("jvp inspect --x 1 --js", {"--json"}),
        ("jvp inspect to", {"torch."}),
        ("jvp inspect torch.softma", {"torch.softmax"}),
        ('jvp inspect "torch.sin(torch.linalg.so', {'"torch.sin(torch.linalg.solve'}),
        ("jvp inspect torch.li", {"torch.linalg."}),
        ("jvp inspect F.rel", {"F.relu", "F.relu6"}),
        ("jvp inspect x+math.p", {"x+math.pi", "x+math.pow"}),
        ("jvp inspect x --mode ", {"auto", "forward", "reverse"}),
        ("jvp inspect x --mode=f", {"--mode=forward"}),
        ("jvp inspect x -g on", {"ones", "onehot:"}),
        ("jvp completion ", set(SHELLS)),
    ],
)
def test_completions(line, some):
    found = complete(line)
    assert some <= set(found)
    last = line.rpartition(" ")[2] if '"' not in line else line[line.index('"') :]
    assert all(candidate.startswith(last) for candidate in found)


@pytest.mark.parametrize(
    "line", ["", "jvp", "jvp nothing x", "jvp inspect torch.os.", "jvp inspect 'x", "jvp inspect x.__", "x" * 999]
)
def test_nothing_to_complete(line):
    assert not [word for word in complete(line) if "__" in word or "os." in word]


BASH = """
eval "$(jvp completion bash)"
try() {
    COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
    _jvp_complete 2> /dev/null
    echo "${COMPREPLY[@]}"
}
try 'jvp insp'; try 'jvp inspect torch.softma'; try 'jvp inspect --grad'
"""


def test_bash(shell):
    assert shell(BASH).out.splitlines() == ["inspect", "torch.softmax", "--grad-outputs"]


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh(shell):
    script = 'autoload -Uz compinit; compinit -u -d /dev/null; eval "$(jvp completion zsh)"; print $_comps[jvp]'
    assert shell(f"zsh -fc '{script}'").out == "_jvp_complete\n"


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish(shell):
    found = shell("fish -c 'jvp completion fish | source; complete -C \"jvp inspect torch.softma\"'")
    assert found.out.strip() == "torch.softmax"


def test_pasted_python_is_read_as_the_request_it_is(jvp):
    meant = json.loads(
        jvp("inspect", "torch.outer(x,x)", "--x", "1,2,3,4", "-g", "torch.ones(4,4)", "--wrt", "x", "--json").out
    )
    pasted = ["torch.autograd.grad(torch.outer(x,x), x, grad_outputs=torch.ones(4,4))", "--x", "1,2,3,4"]
    calls = [{"number": 1, "line": 1, "source": pasted[0], "explained": True}]
    assert json.loads(jvp("inspect", *pasted, "--json").out) == {**meant, "calls": calls}
    told = jvp("inspect", *pasted)
    assert told.err == 'read as: jvp inspect "torch.outer(x,x)" --x 1,2,3,4 --grad-outputs "torch.ones(4,4)" --wrt x\n'
    assert jvp("inspect", *pasted, "--quiet").err == ""
    line = {"expression": pasted[0], "inputs": {"x": "1,2,3,4"}}
    assert json.loads(jvp("batch", stdin=json.dumps(line)).out) == {**meant, "calls": calls}
    program = "x = torch.tensor([1., 2.], requires_grad=True)\ny = x * x\ny.backward(torch.ones_like(y))\nprint(x.grad)"
    assert json.loads(jvp("inspect", program, "--json").out)["vjp"]["x"]["value"] == [2.0, 4.0]
    given = json.loads(jvp("inspect", *pasted, "-g", "onehot:0,0", "--json").out)
    assert given["vjp"]["x"]["value"] == [2.0, 0, 0, 0]  # what stands on the command line is what counts


V = "torch.ones(4,4)"
F = "lambda x: torch.outer(x,x)"


@pytest.mark.parametrize(
    "text",
    [
        f"torch.autograd.grad(grad_outputs=[{V}], inputs=[x], outputs=[torch.outer(x,x)])[0]",
        f"torch.autograd.grad(torch.outer(x,x), (x,), {V}, retain_graph=True, allow_unused=True)",
        f"import torch\nfrom torch.autograd import grad\ng, = grad(torch.outer(x,x), x, {V})\nprint(g)",
        f"torch.autograd.functional.vjp(func={F}, inputs=x, v={V})",
        f"torch.func.vjp({F}, x)[1]({V})",
        f"_, pull = torch.func.vjp({F}, x)\ng, = pull({V})\ng",
        f"torch.outer(x,x).backward(gradient={V}); x.grad",
        f"torch.autograd.backward(torch.outer(x,x), grad_tensors={V})",
    ],
)
def test_ways_to_say_a_vjp(text):
    found = read_pasted(text)
    assert found is not None
    assert (found.expression, found.grad_outputs, dict(found.inputs)) == ("torch.outer(x,x)", (V,), {})


@pytest.mark.parametrize("text", ["torch.func.hessian(f)", "pull(v)", "print(g)", "g = x; g"])
def test_what_is_no_first_derivative_is_not_taken_for_one(text):
    assert read_pasted(text) is None


def test_the_expression_from_stdin(jvp):
    assert json.loads(jvp("inspect", "-", "--x", "3", "--json", stdin="x*x\n").out)["vjp"]["x"]["value"] == 6
    both = jvp("inspect", "-", "--x", "-", stdin="x*x")
    assert (both.code, "not both" in both.err) == (2, True)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (["inspekt", "x", "--x", "1"], "jvp inspect x --x 1"),
        (["--json", "inspect", "x", "--x", "1"], "jvp inspect --json x --x 1"),
        (["--versoin"], "jvp --version"),
        (["torch.sin(x)", "--x", "1"], "jvp inspect 'torch.sin(x)' --x 1"),
    ],
)
def test_a_first_word_that_is_no_command(jvp, argv, hint):
    failed = jvp(*argv)
    assert failed.code == 2
    assert hint in failed.err + failed.out
