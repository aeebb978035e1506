"""`jvp completion`: what a shell runs to complete commands, options, and the functions of an expression."""

from __future__ import annotations

from collections.abc import Iterator

from jvpcli.cli.context import Context
from jvpcli.options import COMMAND_LINE, options_of

EXAMPLES = """
# for this session of bash; put the line into ~/.bashrc to keep it
eval "$(jvp completion bash)"

# zsh: the same line in ~/.zshrc, below compinit
eval "$(jvp completion zsh)"

# fish
jvp completion fish > ~/.config/fish/completions/jvp.fish
"""

BASH = """\
_jvp_complete() {
    local IFS=$'\\n' found word prefix
    word=${COMP_LINE:0:COMP_POINT}
    found=$(jvp completion --line "$word" 2>/dev/null) || return
    COMPREPLY=($found)
    # readline replaces only what stands after the last of its word breaks
    prefix=${word##*[[:space:]]}
    local current=${COMP_WORDS[COMP_CWORD]}
    if [[ $prefix == *[=:]* && $prefix != "$current" ]]; then
        local cut=${prefix%"$current"} index
        for index in "${!COMPREPLY[@]}"; do COMPREPLY[index]=${COMPREPLY[index]#"$cut"}; done
    fi
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[.=\\(] ]] && compopt -o nospace
}
complete -o default -F _jvp_complete jvp
"""

ZSH = """\
_jvp_complete() {
    local -a found
    found=("${(@f)$(jvp completion --line "${BUFFER[1,CURSOR]}" 2>/dev/null)}")
    [[ -n ${found[1]} ]] && compadd -U -Q -S '' -- "${found[@]}" || _files
}
compdef _jvp_complete jvp
"""

FISH = """\
complete -c jvp -f -a '(jvp completion --line (commandline -cp) 2>/dev/null)'
"""

SHELLS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def command(context: Context, *, shell: str, line: str | None) -> None:
    """Print a script for bash, zsh or fish that completes commands, options and the functions of an expression."""
    if line is None:
        context.out.say(SHELLS[shell])
        return
    for candidate in complete(line):
        context.out.say(candidate + "\n")


def complete(line: str) -> list[str]:
    """The words that the last word of a command line can become, all of them whole."""
    words = words_of(line)
    *before, current = words
    from jvpcli.cli.app import COMMANDS, OPTIONS

    if len(before) <= 1:
        names = [*COMMANDS, *(name for names in OPTIONS for name in names.split(", "))]
        return [name for name in names if name.startswith(current)]
    if before[1] not in COMMANDS:
        return list(_in_expression(current))
    declared = options_of(COMMAND_LINE, before[1])
    options = {spelling: option for option in declared.values() for spelling in option.spellings}
    if current.startswith("-") and "=" not in current:
        return [name for name in (*options, "--help") if name.startswith(current) and name.startswith("--")]
    spelling, equals, value = current.partition("=")
    if equals and spelling in options:
        return [f"{spelling}={word}" for word in options[spelling].words if word.startswith(value)]
    argument = next((option for option in declared.values() if not option.spellings and option.words), None)
    wanted = options.get(before[-1], argument)
    if wanted is not None and wanted.words:
        return [word for word in wanted.words if word.startswith(current)]
    return list(_in_expression(current))


def words_of(line: str) -> list[str]:
    """The words of a command line; the last one as it stands, an open quote included."""
    words: list[str] = []
    current = quote = ""
    for character in line:
        if quote:
            quote = "" if character == quote else quote
            current += character
        elif character in "'\"":
            quote = character
            current += character
        elif character.isspace():
            words, current = ([*words, current], "") if current else (words, current)
        else:
            current += character
    return [*words, current]


def _in_expression(current: str) -> Iterator[str]:
    """The functions that a dotted name at the end of a word can become: `"torch.sin(torch.so` and the rest."""
    from jvpcli.language import catalog

    start = len(current)
    while start and (current[start - 1].isalnum() or current[start - 1] in "._"):
        start -= 1
    head, name = current[:start], current[start:]
    alias = next((alias for alias in catalog.ALIASES if name.startswith(f"{alias}.")), "")
    wanted = catalog.canonical(name)
    owner = wanted.rpartition(".")[0]
    if owner not in catalog.NAMESPACES:
        yield from (head + root + "." for root in sorted(catalog.ROOTS) if name and root.startswith(name))
        return
    found = set()
    for entry in catalog.entries():
        if entry.path.startswith(wanted) and not entry.path.startswith("torch.Tensor."):
            rest = entry.path[len(owner) + 1 :]
            found.add(rest.partition(".")[0] + ("." if "." in rest else ""))
    for last in sorted(found):
        yield head + (alias or owner) + "." + last
