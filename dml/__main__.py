"""The console command: `dml train loss=ms` is `python -m dml.train loss=ms`.

eval "$(dml completion)"     completes commands, groups, keys and options in bash, and in zsh after bashcompinit
"""

import ast
import os
import sys
from pathlib import Path

COMPLETION = """_dml() {
    COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
    COMPREPLY=($(compgen -W "$(dml complete "$COMP_LINE" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o nospace -o default -F _dml dml"""


def commands() -> dict[str, str]:
    """The modules that are run as a program, each with the first line of its docstring."""
    files = (file for file in sorted(Path(__file__).parent.glob("*.py")) if not file.stem.startswith("_"))
    sources = {file.stem: file.read_text() for file in files}
    return {
        name: str(ast.get_docstring(ast.parse(source))).splitlines()[0]
        for name, source in sources.items()
        if 'if __name__ == "__main__":' in source
    }


def complete(line: str) -> list[str]:
    """What may follow a command line, by Hydra's own completion."""
    words = line.split()
    if len(words) + line.endswith(" ") <= 2:
        return [f"{name} " for name in commands()]

    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    from dml.config.cli import CONF

    with initialize_config_dir(CONF, version_base="1.3"):
        plugin = DefaultCompletionPlugin(GlobalHydra.instance().config_loader())
        return plugin._query(config_name=words[1], line=line.partition(words[1])[2].lstrip())


def main() -> None:
    """Run a command in this process, as `python -m` would, so that whatever repeats its command line finds it."""
    known, (name, *arguments) = commands(), sys.argv[1:] or ["--help"]
    if name in known:
        os.execv(sys.executable, [sys.executable, "-m", f"dml.{name}", *arguments])
    usage = "\n".join(f"  dml {command:<10} {line}" for command, line in known.items())
    if name == "completion":
        print(COMPLETION)
    elif name == "complete":
        print("\n".join(complete(*arguments)))
    elif name in ("--help", "-h"):
        print(usage)
    else:
        sys.exit(f"Error: there is no command {name}; there are\n{usage}")


if __name__ == "__main__":
    main()
