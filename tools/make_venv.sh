#!/bin/sh
# Makes a virtual environment with pip in it:  make_venv.sh DIRECTORY [PYTHON]
# Needs Python 3.10 or newer and pip, nothing else; a sentence says what is missing.
set -eu

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

has() {
    "$python" -c "import $1" 2>/dev/null
}

venv=$1
python=${2:-}
if [ -z "$python" ]; then
    for candidate in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || fail "jvp needs Python 3.10 or newer, and there is none on the PATH: install it, or name it with make PYTHON=/path/to/python3"
else
    command -v "$python" >/dev/null ||
        fail "jvp needs Python 3.10 or newer, and there is no $python: name another with make PYTHON=/path/to/python3"
    new_enough "$python" ||
        fail "jvp needs Python 3.10 or newer, and $python is $("$python" --version 2>&1): name another with make PYTHON=/path/to/python3"
fi

echo "→ making a virtual environment in $venv ($("$python" --version))"
has venv || fail "$python cannot make virtual environments, its module venv is missing (on Debian: apt install python3-venv)"
if has ensurepip; then
    "$python" -m venv --clear "$venv" || fail "$python could not make a virtual environment: see its message above"
elif has pip; then # Debian with python3-pip, but without python3-venv
    "$python" -m venv --clear --without-pip "$venv" || fail "$python could not make a virtual environment: see its message above"
    "$python" -m pip --python "$venv/bin/python" install --quiet pip || fail "pip could not be put into $venv: see its message above"
else
    fail "$python has no pip: install it (on Debian: apt install python3-pip python3-venv)"
fi
