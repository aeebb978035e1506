"""No claim that an answer makes is refuted by an oracle that knows PyTorch alone; and each oracle does refute what is false."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("expecttest", reason="torch's operator database needs expecttest")

from evidence import Claim, Evidence, RefutedError
from examined_claims import ORACLES, WITHOUT_ORACLE, examined, shown
from plain_programs import PlainProgram
from spoken_claims import UnregisteredError, claims_of, spoken

import jvpcli
from jvpcli.answers.unreached import OF_SEVERAL

HERE = Path(__file__).parent
SOURCES = Path(jvpcli.__file__).parent

pytestmark = pytest.mark.filterwarnings("ignore")


# What is claimed stands


@pytest.mark.parametrize("seed", range(2))
def test_no_claim_is_refuted(seed):
    """Random programs, many functions and torch's operators, at points where things happen."""
    found = list(examined(seed, 400))
    refuted = [each for each in found if each.kind in ("refuted", "crash")]
    assert not refuted, "\n\n".join(
        f"{shown(r.case, r.command)}\n{r.claim.code}: {r.claim.sentence}\n{r.why}" for r in refuted[:5]
    )
    kinds = Counter(each.kind for each in found)
    assert kinds["stands"] >= 360
    assert kinds["undecided"] < 0.3 * kinds["stands"]
    said = Counter(each.claim.code.partition(".")[0] for each in found)
    assert said["finding"] > 5
    assert said["warning"] > 2
    assert said["local"] > 48


# Every claim has an oracle

TABLES = {"SENTENCES": "", "REASONS": "reason", "ADDITIONS": "addition"}
"""Names of the tables of sentences, and what their claims' codes begin with; of SENTENCES the room tells it."""

ROOMS = {"tracing": "finding", "answers": "warning", "jacobians": "warning"}


def tables() -> list[tuple[str, dict[str, str]]]:
    """(beginning of the codes, table) of every table of sentences in the source."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name) and target.id in TABLES:
                    module = ".".join(("jvpcli", *path.relative_to(SOURCES).with_suffix("").parts))
                    begins = TABLES[target.id] or ROOMS[path.relative_to(SOURCES).parts[0]]
                    begins = {"contraction": "product", "coupling": "second"}.get(path.stem, begins)
                    found.append((begins, getattr(import_module(module), target.id)))
    return found


def test_every_claim_of_the_source_has_an_oracle():
    sentences = {f"{begins}.{code}" for begins, table in tables() for code in table}
    known = {*ORACLES, *WITHOUT_ORACLE}
    assert sentences - known == set()
    rooms = {"product", "second", *ROOMS.values(), *filter(None, TABLES.values())}
    assert {code for code in known if code.partition(".")[0] in rooms} - sentences == (BARE | INLINE) - sentences


BARE = {"warning.fallback", "warning.torch_warning", "warning.nonfinite", "warning.as_python"}
"""Warnings whose code is their claim."""

INLINE = {"warning.no_graph", "warning.staircase", "warning.replay_differs", "warning.product_differs",
          "warning.other_gradient"}  # fmt: skip
"""Claims that are made where they are worded."""


def test_no_notice_is_given_without_its_claim():
    """In the source a warning is made from its claim; those without one are known by their code."""
    bare, inline = set(), set()
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Notice", "Finding"):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                claim = named.get("claim", node.args[2] if node.func.id == "Notice" and len(node.args) > 2 else None)
                if claim is None:
                    bare.add(f"warning.{getattr(node.args[0], 'value', ast.unparse(node))}")
                elif isinstance(claim, ast.Constant):
                    inline.add(f"warning.{claim.value}")
    assert bare == BARE
    assert inline - {"warning.artefact"} == INLINE


def test_the_oracles_of_a_check_are_those_of_its_verdicts():
    from jvpcli.gradcheck import check

    verdicts = {f"verdict.{value}" for value in (check.PASS, check.KINK, check.PRECISION, check.GRAPH_BREAK,
                                                 check.NONDETERMINISTIC, check.WRONG_BACKWARD)}  # fmt: skip
    assert {code for code in ORACLES if code.startswith("verdict.")} == verdicts


def test_a_sentence_that_nobody_registered_is_an_error():
    with pytest.raises(UnregisteredError):
        spoken("The Jacobian is nice.")
    document = jvpcli.inspect("x * 2", x=[1.0, 2.0]).to_dict()
    document["contraction"]["y"]["x"]["product"] += " It is always so."
    with pytest.raises(UnregisteredError):
        list(claims_of(document))


def test_the_oracles_know_nothing_of_jvp():
    for name in ("plain_programs", "evidence", "plain_steps", "product_oracles", "step_oracles", "warning_oracles"):
        tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
        imported = {getattr(node, "module", None) or node.names[0].name for node in nodes}
        assert not {module for module in imported if module.startswith(("jvpcli", "spoken_claims"))}, name


# Each oracle refutes what is false

FLIPPED = "a = x * 1; a.requires_grad and a.register_hook(lambda g: -g); a * a"
"""A program whose gradient is wrong."""

FALSE = {
    # claim: program, values of x (and w), what the sentence says; changes to what is claimed
    "product.number": ("x * 2", "1,2", {"n": "2"}, {}),
    "product.vector": ("x * 2", "1,2", {"m": "3", "n": "2"}, {}),
    "product.tensor": ("torch.outer(x, x)", "1,2", {"m": "4", "n": "2", "in_shape": "(3,)"}, {}),
    "product.unknown": ("x.softmax(0)", "1,2", {}, {"nnz": 3}),
    "product.zero": ("x ** 2", "0,0", {}, {}),
    "product.zero_here": ("x ** 2", "0,1", {}, {}),
    "product.identity": ("x ** 2", "1,1", {"number": "2"}, {}),
    "product.diagonal": ("x.sort().values ** 2", "1,2", {}, {}),
    "product.selection": ("torch.stack([x.max(), x.min()])", "1,2", {}, {}),
    "product.banded": ("x.flip(0) * 2", "1,2,3,4", {}, {}),
    "product.block_diagonal": ("x.cumsum(0)", "1,2,3,4", {}, {}),
    "product.strided_blocks": ("x.cumsum(0)", "1,2", {"axes": "axis 0 of y and axis 0 of x"}, {}),
    "product.triangular": ("x.flip(0) * 2", "1,2", {"side": "later"}, {}),
    "product.block_triangular": ("x.flip(0) * 2", "1,2,3,4", {"side": "earlier", "blocks": "2"}, {}),
    "product.sparse": ("x.cumsum(0)", "1,2", {}, {"nnz": 2}),
    "product.dense": ("x.cumsum(0)", "1,2", {}, {"nnz": 4}),
    "product.mostly_filled": ("x.cumsum(0)", "1,2", {}, {"nnz": 2}),
    "product.two_gradients": ("(x * 1j).sum()", "1,2", {"n": "1"}, {}),
    "product.two_matrices": ("x * 1j", "1,2", {"m": "2", "n": "3"}, {}),
    "product.zero_parts": ("x * 1j", "1,2", {}, {}),
    "product.diagonal_parts": ("x.flip(0) * 1j", "1,2", {}, {}),
    "product.unknown_parts": ("x.cumsum(0)", "1,2", {}, {}),
    "product.filled_parts": ("x * 1j", "1,2", {}, {}),
    "product.complex": (FLIPPED.replace("a * a", "(a * a.conj()).real"), "1+1j,2", {}, {}),
    "product.holomorphic": ("x * x.abs()", "1+1j,2", {}, {}),
    "product.real_input": ("x * 2", "1+1j,2", {}, {}),
    "product.two_ways": ("x * 2", "1+1j,2", {}, {}),
}


def evidence_of(text: str, x: str, w: str | None = None, **document) -> Evidence:
    """A program at a point, with what a document says of it as far as an oracle reads it."""
    inputs = {name: _values(text) for name, text in (("x", x), ("w", w)) if text is not None}
    program = PlainProgram(text, inputs, tuple(inputs))
    outputs = program.run(*program.leaves)
    names = ["y"] if len(outputs) == 1 else [f"y{k}" for k in range(len(outputs))]
    ones = [{"shape": list(y.shape), "dtype": "float64", "value": torch.ones(y.shape).tolist()} for y in outputs]
    v = dict(zip(names, ones, strict=True))
    return Evidence(program, {"outputs": dict.fromkeys(names), "grad_outputs": v, "warnings": [], **document})


def _values(text: str) -> torch.Tensor:
    return torch.tensor([complex(part) if "j" in text else float(part) for part in text.split(",")]).to(
        torch.complex128 if "j" in text else torch.float64
    )


def refutes(code: str, evidence: Evidence, sentence: str = "", **about) -> None:
    with pytest.raises(RefutedError):
        ORACLES[code](evidence, Claim(code, sentence, about))


@pytest.mark.parametrize("code", FALSE)
def test_false_sentences_of_products_are_refuted(code):
    text, x, facts, changes = FALSE[code]
    evidence = evidence_of(text, x)
    (y,) = evidence.program.run(*evidence.program.leaves)
    jacobian = {"shape": [*y.shape, *evidence.program.inputs["x"].shape], "nnz": None, **changes}
    refutes(code, evidence, y="y", x="x", jacobian=jacobian, facts=facts)


def test_false_numbers_are_refuted():
    document = jvpcli.inspect("x.cumsum(0)", x=torch.tensor([1.0, 2.0], dtype=torch.float64)).to_dict()
    said = {name: document[name] for name in ("vjp", "grad_outputs", "warnings")}
    said["vjp"]["x"]["value"] = [2.0, 2.0]
    contraction = document["contraction"]["y"]["x"]
    contraction["entry"]["result"] = 3.0
    pair = {"y": "y", "x": "x", "jacobian": document["jacobian"]["y"]["x"], "contraction": contraction}
    evidence = evidence_of("x.cumsum(0)", "1,2", **said)
    refutes("vjp.same", evidence, x="x")
    refutes("product.several", evidence)
    refutes("vjp.einsum", evidence, "j,ij->i", **pair)
    refutes("vjp.entry", evidence, "∂L/∂x[0]", **pair)


LOCAL = {
    "zero": "x ** 2", "identity": "torch.relu(x)", "diagonal": "x.flip(0)", "selection": "x * 2", "banded": "x.flip(0)",
    "block_diagonal": "x.cumsum(0)", "strided_blocks": "x.cumsum(0)", "triangular": "x.flip(0)",
    "block_triangular": "x.flip(0)", "sparse": "x.softmax(0)", "dense": "x.cumsum(0)",
    "sum": "x.cumsum(0)", "unknown": "x.cumsum(0)",
}  # fmt: skip
"""Kind to a step that is of another."""


@pytest.mark.parametrize("kind", LOCAL)
def test_false_kinds_of_steps_are_refuted(kind):
    evidence, document = traced(LOCAL[kind], "1,2,3,4")
    (step,) = document["steps"]
    (local,) = step["local_jacobians"]
    refutes(f"local.{kind}", evidence, kind, step=step, local={**local, "nnz": 5})


def traced(text: str, x: str, w: str | None = None):
    inputs = {name: _values(given) for name, given in (("x", x), ("w", w)) if given is not None}
    document = jvpcli.trace(text, inputs).to_dict()
    said = {name: document[name] for name in ("steps", "grad_outputs", "warnings")}
    return evidence_of(text, x, w, **said), document


FALSE_FINDINGS = {
    # claim: program, values of x and w, step, sentence
    "finding.cotangent_not_finite": ("x * 2", "1,2", None, None, "the cotangent given for y is not finite itself"),
    "finding.sum_overflows": ("torch.sqrt(x)", "0,2", None, None, "contributions that are finite add up to more"),
    "finding.becomes_not_finite": ("x * 2", "1,2", None, 0, "the gradient becomes nan in step 0, `x * 2`, at x[0] = 1: so"),
    "finding.repeated": ("torch.linalg.eigvalsh(torch.diag(x))", "1,2", None, 1, "in step 1: the eigenvalue 1 is repeated here"),
    "finding.norm_ratio": ("x * 2", "1,2", None, 0, "the gradient to x has norm 2e-07, 1 times that of the cotangent given (1)"),
    "finding.no_path": ("x * w.detach()", "1,2", "3,4", None, "w has no part in L: nothing that L is computed from reads it"),
    "finding.no_path_here": ("x * w", "1,2", "3,4", None, "w has no part in L here: nothing reads it"),
    "finding.shape_only": ("x * w.argmax()", "1,2", "3,4", None, "no gradient reaches w: L is computed from its shape"),
    "finding.graph_cut": ("x * 2", "1,2", None, 0, "no gradient flows back through step 0, `x * 2`"),
    "finding.all_cut": ("x * 2", "1,2", None, 0, "no gradient reaches x: in step 0, `x * 2`, it ends"),
    "finding.none_passed": ("x * 2", "1,2", None, 0, "no gradient reaches x: PyTorch's backward of step 0 passes none on"),
    "finding.unused": ("x * w", "1,2", "0,4", 0, "no gradient flows to x[0] = 1: step 0 does not use it (structural)"),
    "finding.unused_here": ("x * w", "1,2", "3,4", 0, "no gradient flows to x[0] = 1: step 0 does not use it here"),
    "finding.random": ("x * w", "1,2", "3,4", 0, "no gradient flows to x[0] = 1: step 0 dropped it"),
    "finding.piecewise": ("torch.relu(x)", "-1,2", None, 0, "zero in step 0 at x[0] = -1: it is piecewise constant"),
    "finding.tried": ("x * 2", "1,2", None, 0, "zero in step 0 at x[0] = 1: here, and at every other place"),
    "finding.saturated": ("x ** 2", "0,2", None, 0, "zero in step 0 at x[0] = 0: it is saturated"),
    "finding.flat": ("x ** 2", "0,2", None, 0, "zero in step 0 at x[0] = 0: and around here"),
    "finding.kink": ("x ** 2", "0,2", None, 0, "zero in step 0 at x[0] = 0: it has a kink there"),
    "finding.leap": ("torch.relu(x)", "0,2", None, 0, "zero in step 0 at x[0] = 0: its value jumps there"),
    "finding.jump": ("x * 2", "1,2", None, 0, "zero in step 0 at x[0] = 1: its derivative is 0 here, and not near"),
    "finding.stationary": ("torch.relu(x)", "-1,2", None, 0, "zero in step 0 at x[0] = -1: it is stationary there"),
    "finding.value": ("torch.lerp(x, x, w)", "1,2", "3,4", 0, "at w[0] = 3 in step 0: because of the value of x here, and"),
    "finding.values": ("torch.round(x)", "1,2", None, 0, "zero in step 0 at x[0] = 1: because of the values of its operands"),
    "finding.rounded": ("x * 2", "1,2", None, 0, "zero in step 0 at x[0] = 1: its derivative there rounds to 0"),
    "finding.underflow": ("torch.relu(x)", "-1,2", None, 0, "zero in step 0 at x[0] = -1: smaller than the smallest number"),
    "finding.cancelled": ("x.cumsum(0)", "1,2", None, 0, "zero in step 0 at x[0] = 1: the terms cancel"),
    "finding.cancelled_sum": ("x.sin() + x", "1,2", None, None, "the contributions to x[0] = 1 from steps 0 and 1 cancel"),
    "finding.cancelled_given": ("x.cos() - x", "1,2", None, None, "the contributions to x[0] = 1 from steps 0 and 1 cancel"),
    "finding.cancelled_rounding": ("x.cumsum(0)", "1,2", None, 0, "zero, up to rounding, in step 0: the terms cancel"),
    "reason.masked": ("torch.log(x)", "0,2", None, 0, "step 0, `torch.log(x)`, at x[0] = 0"),
    "reason.nan": ("torch.log(x)", "0,2", None, 0, "step 0, `torch.log(x)`, at x[0] = 0"),
    "reason.infinite": ("x * 2", "1,2", None, 0, "step 0, `x * 2`, at x[0] = 1"),
    "reason.overflow": ("torch.sqrt(x)", "-1,2", None, 0, "step 0, `torch.sqrt(x)`, at x[0] = -1"),
    "addition.direct_mask": ("x * 2", "1,2", None, 0, " (step 0, `x * 2`, masks the result; it is the input that must be)"),
    "addition.mask": ("x * 2", "1,2", None, 0, " (step 0, `x * 2`, drops entries of what is computed from it)"),
    "addition.turns_nan": ("x * 2", "1,2", None, 0, " In step 0, `x * 2`, it becomes nan: 0·∞."),
    "addition.input": ("x * 2", "1,2", None, 0, " The input itself is not finite: x[0] = 1."),
    "addition.steepest": ("x * 2", "1,2", None, 0, "; the steepest is step 0, `x * 2`, (×3)"),
    "addition.repeated": ("torch.linalg.eigvalsh(torch.diag(x))", "1,2", None, 1, "; the eigenvalue 1 is repeated here"),
    "addition.cure": ("x * 2", "1,2", None, 0, " With `x * 3` the gradient is finite (tried)."),
}  # fmt: skip


@pytest.mark.parametrize("code", FALSE_FINDINGS)
def test_false_findings_are_refuted(code):
    text, x, w, step, sentence = FALSE_FINDINGS[code]
    evidence, _ = traced(text, x, w)
    refutes(code, evidence, sentence, finding={"step": step, "message": sentence, "rewrite": "x * 3"})


SMOOTH = ("x ** 2", "1,2", None)
USED = ("x * w", "1,2", "3,4")
FALSE_WARNINGS = {
    "warning.no_path": (*USED, "∂y/∂w is zero because w doesn't reach y"),
    "warning.no_path_here": (*USED, "∂y/∂w is zero here: nothing reads w"),
    "warning.shape_only": ("x * w.detach().sum()", "1,2", "3,4", "∂y/∂w is zero: y is computed from the shape of w"),
    "warning.no_effect": (*USED, "autograd sees no path from y back to w, and y was the same at 3 other values of w"),
    "warning.steady": (*USED, "y is computed from w, but autograd sees no path from y back to w"),
    "warning.cut": ("x * w.numel()", "1,2", "3,4", "y changes with w, but autograd sees no path from y back to w"),
    "warning.cut_untested": (*USED, "y is computed from w, but autograd sees no path from y back to w"),
    "warning.left_out": (*SMOOTH, "y (float64) carries no gradient and is left out of L"),
    "warning.staircase": (*SMOOTH, "`x ** 2` is a staircase: what flows through it gets no gradient"),
    "warning.drawn": (*SMOOTH, "`x ** 2` draws random numbers, and PyTorch's derivative of a draw is zero"),
    "warning.part_cut": ("x.detach() * 0 + x", "1,2", None, "`x.detach()` cuts the graph"),
    "warning.masked": (*SMOOTH, "`x ** 2` makes a NaN of the gradient"),
    "warning.not_finite": (*SMOOTH, "1 of 2 entries of y is not finite, the first y[0] = nan"),
    "warning.nonfinite": (*SMOOTH, "1 entry of the outputs is not finite and could not be compared"),
    "warning.artefact": (*SMOOTH, "1 entry of ∂y/∂x where PyTorch's own passes give NaN"),
    "warning.kink": (*SMOOTH, "there is a kink at x[0] = 1: the derivatives from below and from above differ"),
    "warning.step": (*SMOOTH, "there is a jump at x[0] = 1: a little to its two sides the outputs themselves differ"),
    "warning.jump": (*SMOOTH, "the derivatives jump at this point: that to x[0] differs, and the one shown is of this point"),
    "warning.finite_forward": (*SMOOTH, "1 entry of ∂y/∂x that PyTorch's own passes give as NaN: there ∂y[0]/∂x[0] = 1"),
    "warning.overwritten": (*SMOOTH, "`scatter` writes to one place more than once here"),
    "warning.formula": (*SMOOTH, "PyTorch's formula fails at this point: the derivatives by x[0] are alike"),
    "warning.uneven": (*SMOOTH, "autograd's derivative by x[0] is not the function's: the derivatives by x[0] are alike"),
    "warning.resized": (*SMOOTH, "the shape of y changes at this point: it is (2,), and (3,) with the inputs moved a little"),
    "warning.second_kink": (*SMOOTH, "the second derivative jumps at x[0] = 1: those from below and from above differ"),
    "warning.second_jump": (*SMOOTH, "the second derivatives jump at this point: one by x[0] differs"),
    "warning.asymmetric": (*SMOOTH, "the second derivatives by x[0] and by x depend on the order"),
    "warning.repeated": ("torch.linalg.eigvalsh(torch.diag(x))", "1,2", None, "the eigenvalue 1 of a decomposition is repeated"),
    "warning.nonlinear": (*SMOOTH, "A hook is not linear: a multiple of the gradient that arrives"),
    "warning.coupled": ("x.view(2, 2) * 2", "1,2,3,4", None, "`x.view(2, 2) * 2` normalises over the batch"),
    "warning.crossed": ("(x.view(2, 2) - 2).sum()", "1,2,3,4", None, "`x.view(2, 2) - 2` broadcasts the shapes (2, 1) and (2,)"),
    "warning.truncated": (*SMOOTH, "x has 2 entries: more than 1000000 are not written out"),
    "warning.torch_warning": (*SMOOTH, "A target of another size."),
    "warning.decided": (*SMOOTH, "the inputs' values decide what runs"),
    "verdict.pass": (FLIPPED, "1,2", None, "Autograd agrees with finite differences."),
    "verdict.kink": (*SMOOTH, "There is a kink"),
    "verdict.precision": (FLIPPED, "1,2", None, "In double precision the derivative is another"),
    "verdict.graph_break": (*SMOOTH, "`x ** 2` cuts the graph"),
    "verdict.wrong_backward": (*SMOOTH, "Autograd's formula gives another derivative"),
    "verdict.nondeterministic": (*SMOOTH, "`x ** 2` gives other values under another seed"),
}


def test_false_sides_and_values_of_a_kink_are_refuted():
    ends = evidence_of("torch.where(x > 0, x, 2*(torch.exp(x) - 1))", "0,1")
    worst = {"output": "y", "output_index": [0], "input": "x", "input_index": [0], "analytic": 2.0, "numeric": 1.5}
    ORACLES["verdict.kink"](ends, Claim("verdict.kink", "has a kink", {"worst": {**worst, "below": 2.0, "above": 1.0}}))
    refutes("verdict.kink", ends, "has a kink", worst={**worst, "below": 0.0, "above": 1.0})
    refutes("verdict.kink", ends, "has a kink", worst={**worst, "below": 2.0, "above": 1.5})
    refutes("verdict.kink", ends, "No output is finite at this point", worst=None)
    nothing = evidence_of("torch.log(x)", "-1,-2")
    ORACLES["verdict.kink"](nothing, Claim("verdict.kink", "No output is finite at this point", {"worst": None}))


@pytest.mark.parametrize("code", FALSE_WARNINGS)
def test_false_warnings_and_verdicts_are_refuted(code):
    text, x, w, sentence = FALSE_WARNINGS[code]
    worst = {"output": "y", "output_index": [0], "input": "x", "input_index": [0], "analytic": 2.0, "numeric": 2.0}
    refutes(code, evidence_of(text, x, w), sentence, worst=worst)


@pytest.mark.parametrize("code", OF_SEVERAL)
def test_false_warnings_of_several_pairs_are_refuted(code):
    """Of three pairs one is false, whichever it is."""
    text = {"cut": "(x * w.numel(), w * x.numel(), x.detach() * w)"}.get(code, "(x, w, x + w)")
    sentence = OF_SEVERAL[code].format(pairs="∂y0/∂w, ∂(y1, y2)/∂x", count=4)
    refutes(f"warning.{code}", evidence_of(text, "1,2", "3,4"), sentence)


def test_true_warnings_of_several_pairs_stand():
    cut = evidence_of("(x.detach() * w, x.argmax() * w, w * float(x[0]))", "1,2", "3,4")
    claim = Claim("warning.cut", OF_SEVERAL["cut"].format(pairs="∂(y0, y1, y2)/∂x"), {})
    ORACLES["warning.cut"](cut, claim)
    apart = evidence_of("(x, w, x ** 2)", "1,2", "3,4")
    ORACLES["warning.no_path"](apart, Claim("warning.no_path", OF_SEVERAL["no_path"].format(pairs="∂(y0, y2)/∂w, ∂y1/∂x"), {}))


@pytest.mark.parametrize("text", ["torch.relu(x) ** 2", "x.abs() * x", "torch.relu(x[0] + x[1] - 1) ** 2", "x.abs()"])
def test_what_a_hessian_warns_of_stands(text):
    found = jvpcli.hessian(text, x=torch.tensor([0.0, 1.0], dtype=torch.float64)).to_dict()["warnings"]
    assert found
    for notice in found:
        claim = Claim(f"warning.{notice.get('claim') or notice['code']}", notice["message"])
        ORACLES[claim.code](evidence_of(text, "0,1", None), claim)


UNEVEN = "a = x + 0; a.requires_grad and a.register_hook(lambda g: g * torch.arange(2) if g.requires_grad else g); a.prod()"
"""A program whose Hessian is not symmetric."""

FALSE_SECOND = {
    # claim: program, sentence, kind of the block
    "second.zero": ("x ** 3", "Every entry is zero"),
    "second.zero_here": ("x ** 3", "Every entry is zero here."),
    "second.identity": ("x ** 3", "6 times the identity"),
    "second.diagonal": ("x.prod()", "Diagonal"),
    "second.block_diagonal": ("x.prod()", "Block-diagonal"),
    "second.banded": ("x.prod()", "Banded"),
    "second.sparse": ("x.prod()", "Sparse: 5 of the 4 entries are not zero"),
    "second.dense": ("x.prod()", "Dense"),
    "second.number": ("x.prod()", "A single number, which u is multiplied with."),
    "second.filled": ("x.prod()", "5 of the 4 entries are not zero here."),
    "second.constant_slope": ("x ** 2", "to autograd the gradient is a constant"),
    "second.zero_at_point": ("x * 2", "Every entry is zero here, and not everywhere"),
    "second.no_other_point": ("x ** 3", "Every entry is zero here; there is no other point"),
    "second.zero_tried": ("x ** 3", "Every entry is zero here and at 3 random points"),
    "second.pieces": ("torch.where(x > 100, x, x ** 2)", "so it is of a function that is linear piece by piece"),
    "second.kinked_pieces": ("torch.relu(x - 3) ** 2", "so it is of a function that is linear piece by piece"),
    "definite.positive": ("-x ** 2", "positive"),
    "definite.positive_semi": ("-x ** 2", "positive_semi"),
    "definite.negative": ("x ** 2", "negative"),
    "definite.negative_semi": ("x ** 2", "negative_semi"),
    "definite.indefinite": ("x ** 2", "indefinite"),
    "definite.zero": ("x ** 2", "zero"),
    "hessian.symmetric": (UNEVEN, "the order makes no difference"),
    "hessian.eigenvalues": ("x ** 2", "from 3 to 4"),
    "hessian.trace": ("x ** 2", "7"),
    "hessian.hvp": ("x ** 2", "H u"),
}


@pytest.mark.parametrize("code", FALSE_SECOND)
def test_false_sentences_of_a_hessian_are_refuted(code):
    text, sentence = FALSE_SECOND[code]
    ones = {"value": [1.0, 1.0], "shape": [2], "dtype": "float64"}
    weights = {"y": ones if "prod" not in text else {**ones, "value": 1.0, "shape": []}}
    said = {"grad_outputs": weights, "tangent": {"x": ones}, "hvp": {"x": ones}, "trace": {"value": 7.0},
            "eigenvalues": {"least": 3.0, "greatest": 4.0, "exact": True}}  # fmt: skip
    block = {"shape": [2, 2], "nnz": 5}
    refutes(code, evidence_of(text, "1,2", **said), sentence, y="x", x="x", jacobian=block, facts={})


FALSE_ERRORS = {
    # claim: program, sentence
    "error.raises": ("x * 2", "there is no gradient"),
    "error.torch_message": ("x * 2", "shape '[4]' is invalid for input of size 2"),
    "error.shapes": ("x * 2", "grad_outputs for y has shape (3,); expected (3,)"),
    "refusal.implicit": ("x * 2", "RuntimeError: grad can be created for scalar outputs only"),
}


@pytest.mark.parametrize("code", FALSE_ERRORS)
def test_false_errors_are_refuted(code):
    text, sentence = FALSE_ERRORS[code]
    given = torch.ones(3, dtype=torch.float64) if code == "error.shapes" else None
    refutes(code, evidence_of(text, "1,2", given=given), sentence, error={"got": [3], "expected": [3]})


def test_a_gradient_where_pytorch_raises_is_refuted():
    said = {"vjp": {"x": {"value": [1.0, 1.0], "shape": [2], "dtype": "float64"}}, "warnings": []}
    refutes("vjp.same", evidence_of("a = x * 1; b = a ** 2; a.mul_(2); b", "1,2", **said), x="x")


def test_every_oracle_has_something_false_to_refute():
    local = {f"local.{kind}" for kind in LOCAL}
    numbers = {"product.several", "vjp.same", "vjp.einsum", "vjp.entry"}
    assert {*FALSE, *FALSE_FINDINGS, *FALSE_WARNINGS, *FALSE_SECOND, *FALSE_ERRORS, *local, *numbers} == set(ORACLES)
