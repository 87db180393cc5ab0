"""`fromnoise completion`: a script that teaches a shell this command line's words. Needs no
torch."""

from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from fromnoise.cli.main import COMMANDS, LazyCommand
from fromnoise.errors import UnknownName

# each asks this command what may stand for the last of the words so far; where it knows nothing the
# shell offers files
SCRIPTS = {
    "bash": """_fromnoise() {
    local IFS=$'\\n'
    COMPREPLY=($(fromnoise completion bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _fromnoise fromnoise
""",
    "zsh": """#compdef fromnoise
_fromnoise() {
    local -a found
    found=("${(@f)$(fromnoise completion zsh -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=("${(@)found:#}")
    if (( ${#found} )); then compadd -a found; else _files; fi
}
if [[ "${funcstack[1]}" == _fromnoise ]]; then
    _fromnoise "$@"
else
    compdef _fromnoise fromnoise
fi
""",
    "fish": """function __fromnoise
    set -l words (commandline -opc) (commandline -ct)
    set -l found (fromnoise completion fish -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        string join -- \\n $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete --command fromnoise --no-files --arguments '(__fromnoise)'
""",
}


def completion(
    shell: Annotated[str, typer.Argument(help="bash, zsh or fish.")],
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> None:
    """Print the script that completes commands, options and values in a shell.

    For bash: fromnoise completion bash >> ~/.bashrc. For zsh: … zsh > ~/.zfunc/_fromnoise, with
    fpath+=~/.zfunc before compinit in ~/.zshrc. For fish: … fish >
    ~/.config/fish/completions/fromnoise.fish."""
    if shell not in SCRIPTS:
        raise UnknownName("shell", shell, SCRIPTS)
    if not words:
        print(SCRIPTS[shell], end="")
    elif found := complete_word(
        [word for word in words[:-1] if word != "="], words[-1], alone=shell == "bash"
    ):
        print(*found, sep="\n")


def complete_word(before: list[str], word: str, alone: bool = False) -> list[str]:
    """What may stand for `word` behind the words before it; none where nothing is known, or it is a
    file's name. alone: of --name=value the value by itself, as bash has it, for which "=" is a
    word, too."""
    if not before:
        return _filter_prefix(word, (*COMMANDS, "--help", "--version"))
    command = before[0]
    if command not in COMMANDS:
        return []
    if command == "completion":
        return _filter_prefix(word, SCRIPTS) if len(before) == 1 else []
    options, last = _list_options(command), before[-1]
    if last in options and not options[last].is_flag:
        return _filter_prefix(
            "" if alone and word == "=" else word, _list_values(command, options[last].name)
        )
    name, equals, start = word.partition("=")
    if equals:
        found = (
            _filter_prefix(start, _list_values(command, options[name].name))
            if name in options
            else []
        )
        return [value if alone else f"{name}={value}" for value in found]
    if not word.startswith("-"):
        return []
    given = [options[name] for w in before if (name := w.partition("=")[0]) in options]
    return _filter_prefix(
        word, (name for name, one in options.items() if one.multiple or one not in given)
    )


def _filter_prefix(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


def _list_options(command: str) -> dict[str, Any]:
    """ "--name" → the option, of a command as it is when it runs."""
    context = LazyCommand(command).make_context(command, [], resilient_parsing=True)
    params = [
        param for param in context.command.get_params(context) if param.param_type_name == "option"
    ]
    return {name: param for param in params for name in (*param.opts, *param.secondary_opts)}


def _list_values(command: str, option: str | None) -> Iterable[str]:
    """That an option takes, where they can be counted."""
    from fromnoise.diffusion.samplers import SAMPLERS
    from fromnoise.diffusion.spacing import SPACINGS
    from fromnoise.pipeline.presets import PRESETS
    from fromnoise.pipeline.request import GenerationRequest

    films = ("gif", "mp4") if command == "film" else ()
    known = {
        "sampler": SAMPLERS,
        "spacing": ("automatic", *SPACINGS),
        "preset": PRESETS,
        "quality": ("lossless",),
        "device": ("cpu", "cuda", "mps"),
        "dtype": ("fp32", "fp16", "int8") if command == "export" else ("fp32", "bf16", "fp16"),
        "to": ("onnx",),
        "format": ("png", "jpeg", "webp", *films),
    }
    if option in known:
        return known[option]
    for schema in vars(import_module(COMMANDS[command][1])).values():
        if (
            isinstance(schema, type)
            and issubclass(schema, GenerationRequest)
            and option in schema.model_fields
        ):
            kind = schema.model_fields[option].annotation
            if get_origin(kind) is Literal:
                return get_args(kind)
    return ()
