"""einsum, and linear algebra of matrices that are not square, singular or not finite."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, Found, Words, says


def einsum_size(found: Found) -> Words:
    """E38: a subscript stands for two sizes."""
    letter, size, seen = found.text("letter"), found.int("size"), found.int("seen")
    operand = found.int("operand")
    if letter is None:
        remapped = found.text("shapes")
        which = f": {remapped}" if remapped else ""
        number = "" if operand is None else f" (operand {operand}, axis {found.int('axis')})"
        return Words(
            f"einsum: a letter stands for axes of different length{number}",
            f"The same letter always means the same length. The shapes, and after -> the same put in one order of "
            f"letters{which}: compare "
            "them column by column; a column with two different sizes (other than 1) is the guilty letter.",
            ("The letters stand in another order than the axes.", "An operand is transposed."),
            ("torch.einsum('ij,kj->ik', a, b)   # letters in the order of each operand's axes",),
        )
    return Words(
        f"einsum: the letter {letter} stands for {seen} and for {size}",
        f"The same letter always means the same length. {letter} was {seen} in an operand before and is {size} in "
        f"operand {operand} (the first is "
        "number 0).",
        (
            f"The letters of operand {operand} stand in another order than its axes.",
            "The operand is transposed.",
            f"Two different axes were both called {letter}.",
        ),
        (
            f"Print the shapes, and write each letter under its axis: {letter} must come out the same everywhere.",
            "torch.einsum('ij,kj->ik', a, b)   # for a of shape (2, 3) and b of shape (4, 3)",
            'jvp inspect "torch.einsum(\'ij,kj->ik\', a, b)" --a "torch.randn(2,3)" --b "torch.randn(4,3)"',
        ),
    )


def einsum_subscripts(found: Found) -> Words:
    """As many letters as axes."""
    letters, dims, operand = found.int("letters"), found.int("dims"), found.int("operand")
    return Words(
        f"einsum: {letters} letters for an operand with {dims} axes",
        f"Each axis has one letter: operand {operand} (counted from 0) has {dims} axes and {letters} letters.",
        ("A batch axis has no letter.", "The operand was squeezed or flattened before."),
        ("torch.einsum('...ij,jk->...ik', a, b)   # ... stands for any axes in front",),
    )


def square(found: Found) -> Words:
    """Linear algebra of matrices that aren't square."""
    function = found.text("function") or "This function"
    rows, columns = found.int("rows"), found.int("columns")
    return Words(
        f"{function} needs square matrices; these are {rows} by {columns}",
        f"{function} is defined for as many rows as columns (the last two axes); here {rows} and {columns}.",
        ("AᵀA or a pseudo-inverse is meant.", "The batch axis stands last instead of first."),
        (
            "torch.linalg.pinv(A)   # the pseudo-inverse, for any shape",
            "torch.linalg.lstsq(A, b).solution   # least squares",
            "A.mT @ A   # square",
        ),
    )


def singular(found: Found) -> Words:
    """An inverse that doesn't exist."""
    function = found.text("function") or "The function"
    return Words(
        f"{function}: the matrix is singular",
        "Its rows are linearly dependent (a pivot is zero), so there is no inverse and the system has no single "
        "solution. Near such a matrix the "
        "derivative of the inverse, -A⁻¹ dA A⁻¹, is huge.",
        (
            "Rows or columns are equal, or zero.",
            "More features than samples: AᵀA can't have full rank.",
            "NaN or zeros in the data.",
        ),
        (
            "A + 1e-6 * torch.eye(n)   # a small ridge",
            "torch.linalg.pinv(A), torch.linalg.lstsq(A, b)   # a smallest solution instead",
            "torch.linalg.cond(A)   # how close to singular it is",
        ),
    )


def _turned_fits(found: Found) -> bool:
    """Whether B would have A's number of rows if it were transposed; where nothing is known, too."""
    a, b = found.shape("first"), found.shape("second")
    return a is None or b is None or (len(a) > 1 and b[-1:] == a[-2:-1])


ENTRIES = (
    Entry(
        "einsum-sizes",
        (
            "einsum(): subscript {letter:word} has size {size:int} for operand {operand:int} which does not broadcast "
            "with previously seen size "
            "{seen:int}",
            "einsum(){?:} operands do not broadcast with remapped shapes [original->remapped]:{shapes:remapped}",
            "size of dimension does not match previous size, operand {operand:int}, dim {axis:int}",
            "einsum(): dimension {axis:int} covered by ellipsis in operand {operand:int}has size {:int} which does "
            "not broadcast with previously "
            "seen ellipsis with size {:int}",
        ),
        einsum_size,
    ),
    Entry(
        "einsum-letters",
        (
            "einsum(): the number of subscripts in the equation ({letters:int}) {does not match|is more than} the "
            "number of dimensions ({dims:int}) "
            "for operand {operand:int}",
        ),
        einsum_subscripts,
    ),
    Entry(
        "einsum-operands",
        ("einsum(): {many:many} operands were provided than specified in the equation",),
        lambda found: Words(
            f"einsum: {found.text('many')} operands than the equation names",
            "The equation lists the letters of each operand, separated by commas: as many groups as there are operands.",
            ("A comma is missing, or one too many.", "An operand was forgotten."),
            ("torch.einsum('ij,jk->ik', a, b)   # two groups, two operands",),
        ),
    ),
    Entry(
        "einsum-output",
        (
            "einsum(): output subscript {letter:word} does not appear in the equation for any input operand",
            "einsum(): output subscript {letter:word} appears more than once in the output",
        ),
        lambda found: Words(
            f"einsum: the output's letter {found.text('letter')} belongs to no operand, or stands twice",
            "Letters after -> say which axes stay; each must occur in an operand, and once in the output.",
            ("A typing error in the equation.",),
            ("torch.einsum('ij->j', a)",),
        ),
    ),
    Entry(
        "einsum-diagonal",
        (
            "einsum(): subscript {letter:word} is repeated for operand {operand:int} but the sizes don't match, "
            "{size:int} != {seen:int}",
        ),
        einsum_size,
    ),
    Entry(
        "square-needed",
        (
            "{function:word}: A must be batches of square matrices, but they are {rows:int} by {columns:int} matrices",
            "A must be batches of square matrices, but they are {columns:int} by {rows:int} matrices",
        ),
        square,
    ),
    Entry(
        "solve-shapes",
        (
            "linalg.solve: Incompatible shapes of A and B for the equation {AX = B|XA = B} ({first:shape} and "
            "{second:shape})",
            "{function:word}: input.size(-2) should match other.size({:int})",
            "Incompatible matrix sizes for {function:word}: each A matrix is {:int} by {:int} but each b matrix is "
            "{:int} by {:int}",
        ),
        lambda found: Words(
            "A system AX = B whose sizes differ"
            + (f": {found.shape('first')} and {found.shape('second')}" if found.shape("first") else ""),
            "B must have as many rows as A"
            + (
                f": A is {found.shape('first')}, B {found.shape('second')} (a vector counts as one column)."
                if found.shape("first")
                else "."
            ),
            ("B stands the other way round.", "The wrong right-hand side."),
            (
                *(("torch.linalg.solve(A, B.mT)",) if _turned_fits(found) else ()),
                "torch.linalg.lstsq(A, B)   # more equations than unknowns: A has more rows than columns, B as many as A",
            ),
        ),
    ),
    Entry(
        "singular",
        (
            "{function:word}: The diagonal element {:int} is zero, the inversion could not be completed because the "
            "input matrix is singular",
            "{function:word}: (Batch element {:int}): The diagonal element {:int} is zero, the inversion could not be "
            "completed because the input "
            "matrix is singular",
            "{function:word}: The solver failed because the input matrix is singular",
            "{function:word}: U({:int},{:int}) is zero, singular U",
            "{function:word}: For batch {:int}: U({:int},{:int}) is zero, singular U",
        ),
        singular,
    ),
    Entry(
        "not-positive-definite",
        (
            "{function:word}: The factorization could not be completed because the input is not positive-definite "
            "(the leading minor of order "
            "{minor:int} is not positive-definite)",
            "{function:word}: (Batch element {:int}): The factorization could not be completed because the input is "
            "not positive-definite",
            "{function:word}: the leading minor of order {minor:int} is not positive definite",
        ),
        lambda found: Words(
            "A Cholesky factorisation of a matrix that is not positive definite",
            "Cholesky needs a symmetric matrix whose eigenvalues are all positive (in exact numbers and after "
            "rounding).",
            (
                "Rounding: a covariance that is positive definite on paper has an eigenvalue of about -1e-8.",
                "The matrix isn't symmetric, or has NaN.",
            ),
            (
                "torch.linalg.cholesky(A + 1e-6 * torch.eye(n))",
                "torch.linalg.eigvalsh(A)   # look at the smallest",
                "A = A.double()",
            ),
        ),
    ),
    Entry(
        "svd-not-finite",
        (
            "{function:word}: The algorithm failed to converge because the input matrix {contained non-finite "
            "values|is ill-conditioned}",
        ),
        says(
            "A decomposition of a matrix that holds NaN or infinity (or nearly dependent rows)",
            "The iteration that computes the decomposition can't end.",
            ("NaN or infinity came from a step before: a division by zero, a learning rate too high.",),
            ("torch.isfinite(A).all()   # find the step that made it", 'jvp trace "torch.log(x)" --x 0,1'),
        ),
    ),
)
